//! One connection to PostgreSQL and what is known of its state.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::task::coop::unconstrained;
use tokio::time::Instant;

use super::cancels::Cancels;
use super::copies::Copies;
use super::error::HangUp;
use super::parameters::Parameters;
use super::roster::{Roster, RosterPlace};
use crate::pgwire::{HEADER, Header, Inbox, ServerMessage, backend, cstr, frontend};
use crate::tls::Stream;

/// A message that nobody asked for may have this many bytes: a NOTICE or a NOTIFY payload (8000) fits easily.
const UNASKED_AT_MOST: usize = 1 << 20;

/// A look reads no more after so many bytes, so that a server that never stops talking cannot hold the thread. What is
/// left stays for the next look.
const LOOK_AT_MOST: usize = 1 << 16;

/// Where a server stands, as its ReadyForQuery says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxStatus {
    /// No transaction.
    Idle,
    /// In a transaction.
    InTransaction,
    /// In a transaction that failed.
    Failed,
}

impl TxStatus {
    /// From the byte of ReadyForQuery. What is not known is taken for a failed transaction, which is never reused as it is.
    #[inline]
    pub fn from_byte(byte: u8) -> Self {
        match byte {
            b'I' => TxStatus::Idle,
            b'T' => TxStatus::InTransaction,
            _ => TxStatus::Failed,
        }
    }
}

/// Parameters with their values that a server has on a client's account, and does not report.
pub type Carried = Arc<[(String, String)]>;

/// A connection to PostgreSQL, logged in.
#[derive(Debug)]
pub struct Server {
    pub(super) stream: Stream,
    process_id: i32,
    cancels: Arc<Cancels>,
    parameters: Parameters,
    initial: Parameters,
    /// What it had to say at its login.
    notices: Box<[u8]>,
    /// Which client's parameters it has; 0 is nobody's in particular.
    applied: u64,
    /// Parameters beyond those it reports that were set for its last client.
    carried: Carried,
    /// Whether it has them as it should is not known.
    in_doubt: bool,
    /// The prepared statements it has for clients to share.
    copies: Copies,
    status: TxStatus,
    /// It has answered everything, and nobody has looked at it since.
    just_answered: bool,
    /// Somebody's request is under way: whoever drops it now leaves it unusable.
    busy: bool,
    /// It said that it ends, or broke the protocol.
    broken: Option<HangUp>,
    /// Bytes that were read and not looked at.
    pub(super) unread: Vec<u8>,
    /// Its place in its pool's list.
    place: Option<RosterPlace>,
}

impl Server {
    pub(super) fn new(
        stream: Stream,
        process_id: i32,
        cancels: Arc<Cancels>,
        parameters: Parameters,
        notices: Box<[u8]>,
    ) -> Self {
        Self {
            stream,
            process_id,
            cancels,
            initial: parameters.clone(),
            parameters,
            notices,
            applied: 0,
            carried: Carried::default(),
            in_doubt: false,
            copies: Copies::default(),
            status: TxStatus::Idle,
            just_answered: false,
            busy: false,
            broken: None,
            unread: Vec::new(),
            place: None,
        }
    }

    /// Enters it into the list of its pool; `round` is what the list said before it was opened.
    pub(super) fn list_in(&mut self, roster: &Roster, round: u64) {
        self.place = Some(roster.enter(round, self.process_id, &self.stream, &self.cancels));
    }

    /// Somebody takes it in hand.
    #[inline]
    pub(super) fn hold(&self) {
        if let Some(place) = &self.place {
            place.hold();
        }
    }

    /// Nobody holds it any more.
    #[inline]
    pub(super) fn let_go(&self) {
        if let Some(place) = &self.place {
            place.let_go(self.copies.len());
        }
    }

    /// It is given to a client's request.
    #[inline]
    pub fn asked(&self, when: Instant) {
        if let Some(place) = &self.place {
            place.asked(when);
        }
    }

    /// The connection.
    #[inline]
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.stream
    }

    /// The pid of its process.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// How what it runs is cancelled.
    #[inline]
    pub fn cancels(&self) -> &Arc<Cancels> {
        &self.cancels
    }

    /// The parameters it reports, now.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// The parameters it reported when it was opened: the defaults of this user in this database.
    pub fn initial_parameters(&self) -> &Parameters {
        &self.initial
    }

    /// The notices of its login, as whole messages.
    pub fn start_notices(&self) -> &[u8] {
        &self.notices
    }

    /// Which client's parameters it has.
    #[inline]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// It has this client's parameters now; 0 if that is not known any more.
    pub fn set_applied(&mut self, client: u64) {
        self.applied = client;
    }

    /// The prepared statements it has for clients to share.
    #[inline]
    pub fn copies(&mut self) -> &mut Copies {
        &mut self.copies
    }

    /// What it has that it does not report, by a client's login.
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// It has these now.
    pub fn set_carried(&mut self, carried: Carried) {
        self.carried = carried;
        self.in_doubt = false;
    }

    /// Some of its parameters may not be what was noted of them: all that are known are set before others use it.
    pub fn doubt_parameters(&mut self) {
        self.in_doubt = true;
        self.applied = 0;
    }

    /// Whether what is known of its parameters may be wrong.
    pub fn in_doubt(&self) -> bool {
        self.in_doubt
    }

    /// Where it stands.
    #[inline]
    pub fn status(&self) -> TxStatus {
        self.status
    }

    /// What its ReadyForQuery said.
    #[inline]
    pub fn set_status(&mut self, status: TxStatus) {
        self.status = status;
    }

    /// A request is under way.
    #[inline]
    pub fn mark_busy(&mut self) {
        self.busy = true;
    }

    /// Every request was answered.
    #[inline]
    pub fn mark_idle(&mut self) {
        self.busy = false;
        self.just_answered = true;
    }

    /// Whether the next one may use it: nothing under way, no transaction, nothing said against it.
    pub fn is_reusable(&self) -> bool {
        !self.busy
            && self.status == TxStatus::Idle
            && self.broken.is_none()
            && !self.cancels.tainted()
    }

    /// Whether bytes of an unfinished message wait: what is read next would not begin with a message.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Takes notice of a message that whoever reads has seen.
    pub fn absorb(&mut self, tag: u8, body: &[u8]) {
        match tag {
            backend::PARAMETER_STATUS => match parameter(body) {
                Some((name, value)) => {
                    if self.parameters.set(&name, &value) {
                        self.applied = 0;
                    }
                }
                None => self.broken = Some(HangUp::Junk),
            },
            backend::ERROR => {
                let message = ServerMessage::parse(body);
                if message.is_fatal() {
                    self.broken = Some(HangUp::Fatal(message));
                }
            }
            _ => {}
        }
    }

    /// Bytes that came after a ReadyForQuery, for [`look`](Self::look).
    #[inline]
    pub fn keep_unread(&mut self, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.unread.extend_from_slice(bytes);
        }
    }

    /// Looks at an idle server without waiting: what it sent by itself is applied.
    ///
    /// While nothing came this makes no system call: the reactor knows.
    ///
    /// # Errors
    /// It hung up, or said that it will, or sent what nobody asked for.
    pub fn look(&mut self) -> Result<(), HangUp> {
        // Its last answer was read a moment ago, by the session that gives it back: there is nothing to see yet, and the
        // next session looks again.
        let seen = std::mem::take(&mut self.just_answered) && self.unread.is_empty();
        if !seen
            && self.broken.is_none()
            && let Err(hang_up) = self.look_now()
        {
            self.broken = Some(hang_up);
        }
        match &self.broken {
            None => Ok(()),
            Some(HangUp::Fatal(message)) => Err(HangUp::Fatal(message.clone())),
            Some(HangUp::Io(error)) => Err(HangUp::Io(error.kind().into())),
            Some(HangUp::Closed) => Err(HangUp::Closed),
            Some(HangUp::Junk) => Err(HangUp::Junk),
        }
    }

    fn look_now(&mut self) -> Result<(), HangUp> {
        let mut cx = Context::from_waker(Waker::noop());
        let mut inbox = Inbox::default();
        let mut taken = 0;
        loop {
            self.apply_unread()?;
            if taken > LOOK_AT_MOST {
                return Ok(());
            }
            let polled = {
                let fill = poll_fn(|cx| inbox.poll_fill(cx, &mut self.stream));
                // Outside tokio's budget: with it used up, a hang-up would look like silence.
                pin!(unconstrained(fill)).poll(&mut cx)
            };
            match polled {
                Poll::Pending => return Ok(()),
                Poll::Ready(Ok(0)) => return Err(HangUp::Closed),
                Poll::Ready(Ok(read)) => {
                    taken += read;
                    self.unread.extend_from_slice(inbox.bytes());
                    inbox.consume(read);
                }
                Poll::Ready(Err(error)) => return Err(HangUp::Io(error)),
            }
        }
    }

    fn apply_unread(&mut self) -> Result<(), HangUp> {
        let unread = self.take_unread();
        let mut at = 0;
        while let Some(header) = Header::parse(&unread[at..]).map_err(|_| HangUp::Junk)? {
            header.at_most(UNASKED_AT_MOST).map_err(|_| HangUp::Junk)?;
            let Some(body) = unread.get(at + HEADER..at + header.total) else {
                break;
            };
            match header.tag {
                backend::NOTICE
                | backend::NOTIFICATION
                | backend::PARAMETER_STATUS
                | backend::ERROR => self.absorb(header.tag, body),
                _ => return Err(HangUp::Junk),
            }
            match &self.broken {
                Some(HangUp::Fatal(message)) => return Err(HangUp::Fatal(message.clone())),
                Some(_) => return Err(HangUp::Junk),
                // An error that answers nobody is the rest of an answer to somebody: the server is out of step.
                None if header.tag == backend::ERROR => return Err(HangUp::Junk),
                None => at += header.total,
            }
        }
        // Nothing left means no buffer either: there are many idle servers.
        self.keep_unread(&unread[at..]);
        Ok(())
    }

    /// Takes the bytes nobody looked at, for whoever reads next.
    pub(super) fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }
}

impl Drop for Server {
    /// Says goodbye as far as the socket takes it at once; PostgreSQL notices the end of the stream anyway. Not while a
    /// request is under way: a part of it may have been sent, and the goodbye would be taken for the rest, which can make
    /// another query of it.
    fn drop(&mut self) {
        if self.busy || self.broken.is_some() {
            return;
        }
        self.stream.write_now(&[frontend::TERMINATE, 0, 0, 0, 4]);
    }
}

/// Reads a ParameterStatus.
pub(super) fn parameter(body: &[u8]) -> Option<(String, String)> {
    let (name, rest) = cstr(body)?;
    let (value, _) = cstr(rest)?;
    Some((
        String::from_utf8_lossy(name).into_owned(),
        String::from_utf8_lossy(value).into_owned(),
    ))
}

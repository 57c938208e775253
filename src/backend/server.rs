//! A connection to PostgreSQL and what we know of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;
use std::time::Instant;

use bytes::BytesMut;
use tokio::io::AsyncWrite;

use super::cancel::{CancelToken, Route};
use super::connect;
use super::error::{ConnectError, HangUp, ProtocolError};
use super::parameters::Parameters;
use super::target::Target;
use super::wire::{Wire, take_text};
use crate::pgwire::fields::ServerMessage;
use crate::pgwire::frontend::TERMINATE;
use crate::tls::Stream;

/// What ReadyForQuery says of the server's transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxStatus {
    /// None is open.
    Idle,
    /// One is open.
    InTransaction,
    /// One is open and has failed; only its end is accepted.
    Failed,
}

impl TxStatus {
    /// Reads the byte of a ReadyForQuery.
    pub fn from_byte(byte: u8) -> Option<Self> {
        match byte {
            b'I' => Some(Self::Idle),
            b'T' => Some(Self::InTransaction),
            b'E' => Some(Self::Failed),
            _ => None,
        }
    }

    /// The byte of a ReadyForQuery.
    pub fn as_byte(self) -> u8 {
        match self {
            Self::Idle => b'I',
            Self::InTransaction => b'T',
            Self::Failed => b'E',
        }
    }
}

/// A logged-in connection to PostgreSQL.
///
/// Whoever relays bytes over it works on [`stream_mut`](Self::stream_mut) and tells it what passed by: `mark_busy` before a
/// request goes out, `absorb` for asynchronous messages, `set_status` and `mark_idle` at the last ReadyForQuery owed. A
/// future that is dropped on the way leaves it busy, and a busy server is never used again.
#[derive(Debug)]
pub struct Server {
    pub(super) wire: Wire,
    pub(super) parameters: Parameters,
    pub(super) status: TxStatus,
    pub(super) busy: bool,
    pub(super) broken: Option<HangUp>,
    /// Bytes at the front of the input that belong to a message nobody wants, whose header is gone already.
    pub(super) skip: u64,
    id: u64,
    connected_at: Instant,
    process_id: i32,
    cancel_key: Box<[u8]>,
    route: Arc<Route>,
}

/// What the login gave, for [`Server::assemble`].
pub(super) struct Login {
    pub(super) parameters: Parameters,
    pub(super) process_id: i32,
    pub(super) cancel_key: Box<[u8]>,
    pub(super) status: TxStatus,
}

impl Server {
    /// Opens a connection, logs in, and waits for the first ReadyForQuery, all within `target.connect_timeout`.
    pub async fn connect(target: &Target) -> Result<Self, ConnectError> {
        connect::connect(target).await
    }

    pub(super) fn assemble(wire: Wire, login: Login, route: Route) -> Self {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        Self {
            wire,
            parameters: login.parameters,
            status: login.status,
            busy: false,
            broken: None,
            skip: 0,
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            connected_at: Instant::now(),
            process_id: login.process_id,
            cancel_key: login.cancel_key,
            route: Arc::new(route),
        }
    }

    /// The socket. Bytes that were read ahead are not in it any more: see [`take_unread`](Self::take_unread).
    pub fn stream_mut(&mut self) -> &mut Stream {
        &mut self.wire.stream
    }

    /// Whether the connection is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.wire.stream.is_encrypted()
    }

    /// What the server last reported of its parameters.
    pub fn parameters(&self) -> &Parameters {
        &self.parameters
    }

    /// Takes note of a message that the server sends of its own accord, whoever read it: ParameterStatus updates
    /// [`parameters`](Self::parameters), a FATAL error means that the connection is over. Others change nothing.
    pub fn absorb(&mut self, tag: u8, body: &[u8]) {
        match tag {
            b'S' => self.absorb_parameter(body),
            b'E' => {
                let message = ServerMessage::parse(body);
                if message.is_fatal() {
                    self.broken = Some(HangUp::Fatal(Box::new(message)));
                }
            }
            _ => {}
        }
    }

    fn absorb_parameter(&mut self, mut body: &[u8]) {
        match (take_text(&mut body), take_text(&mut body)) {
            (Some(name), Some(value)) => self.parameters.set(
                &String::from_utf8_lossy(name),
                &String::from_utf8_lossy(value),
            ),
            _ => self.mark_broken(ProtocolError::Malformed { tag: b'S' }.into()),
        }
    }

    /// What the last ReadyForQuery said.
    pub fn status(&self) -> TxStatus {
        self.status
    }

    /// Takes note of a ReadyForQuery.
    pub fn set_status(&mut self, status: TxStatus) {
        self.status = status;
    }

    /// A request goes out now; until [`mark_idle`](Self::mark_idle) the server is not reusable.
    pub fn mark_busy(&mut self) {
        self.busy = true;
    }

    /// Every reply owed has been read.
    pub fn mark_idle(&mut self) {
        self.busy = false;
    }

    /// Whether a reply is owed.
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// The connection is of no use any more; the first cause given is kept.
    pub fn mark_broken(&mut self, cause: HangUp) {
        self.broken.get_or_insert(cause);
    }

    /// How the connection ended, if it is known to have.
    pub fn broken(&self) -> Option<&HangUp> {
        self.broken.as_ref()
    }

    /// Gives back bytes that were read from the socket past the reader's last message.
    pub fn keep_unread(&mut self, bytes: &[u8]) {
        self.wire.unread.extend_from_slice(bytes);
    }

    /// Bytes that were read ahead, in order before anything the socket still holds. A relay starts with these: `look` may
    /// have met the first half of a message.
    pub fn take_unread(&mut self) -> BytesMut {
        std::mem::take(&mut self.wire.unread)
    }

    /// The rest of a message whose head was taken by someone who left: so many bytes of the input are to be passed over
    /// before the next header. For [`recover_to_ready`](Self::recover_to_ready).
    pub fn skip_bytes(&mut self, rest: u64) {
        self.skip = self.skip.saturating_add(rest);
    }

    /// The backend's process id, as in `pg_stat_activity`; 0 if the server did not say.
    pub fn process_id(&self) -> i32 {
        self.process_id
    }

    /// What it takes to cancel a query on this connection. Cheap.
    pub fn cancel_token(&self) -> CancelToken {
        CancelToken::new(
            Arc::clone(&self.route),
            self.process_id,
            self.cancel_key.clone(),
        )
    }

    /// When the login was complete.
    pub fn connected_at(&self) -> Instant {
        self.connected_at
    }

    /// A number that no other server of this process has had.
    pub fn id(&self) -> u64 {
        self.id
    }
}

impl Drop for Server {
    /// Says goodbye if that needs no waiting. Not while a request is outstanding: half of it may have been sent, and the
    /// goodbye would be taken for its other half.
    fn drop(&mut self) {
        if self.busy || self.broken.is_some() {
            return;
        }
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut stream = std::pin::Pin::new(&mut self.wire.stream);
        if stream
            .as_mut()
            .poll_write(&mut context, &TERMINATE)
            .is_ready()
        {
            let _ = stream.poll_flush(&mut context);
        }
    }
}

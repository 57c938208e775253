//! The conversation with one visitor: the simple query protocol, one command a query.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;

use super::commands::{Command, Does, help};
use super::refusal::{EntryError, Refusal};
use super::show::View;
use super::table::{Table, text as cell};
use super::{Answer, Console, FOR_ADMINS, Role, SESSIONS, Shared, Visitor};
use crate::clients::{ClientAddr, Connection};
use crate::pgwire::{ColumnType, Header, Inbox, Replies, Severity, cstr, frontend};
use crate::tls::Stream;

/// No command is longer.
const LONGEST: usize = 4096;

/// What a session ends with that is not spoken here.
const BAD_PACKET: &str = "bad packet";

/// How long somebody may take to read an answer.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// What reaches into a session from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// Its own cancel request.
    Cancelled,
    /// The process stops.
    Stopping,
}

/// Polled for the next interrupt. Holds what keeps the session's cancel key known.
pub type Interrupts = Box<dyn FnMut(&mut Context<'_>) -> Poll<Interrupt> + Send>;

/// Somebody who may come in.
pub struct Visit {
    /// The connection; the client has proved who it is.
    pub stream: Stream,
    /// The user.
    pub user: String,
    /// What it may do.
    pub role: Role,
    /// What it calls itself.
    pub application_name: String,
    /// Where it comes from.
    pub addr: ClientAddr,
    /// What else is known of the connection.
    pub connection: Connection,
    /// What its cancel requests are known by.
    pub process_id: i32,
    /// And their secret.
    pub secret: Box<[u8]>,
    /// What reaches in from outside.
    pub interrupts: Interrupts,
}

impl std::fmt::Debug for Visit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Visit")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// One visitor's session.
pub struct Session {
    shared: Arc<Shared>,
    stream: Stream,
    role: Role,
    inbox: Inbox,
    replies: Replies,
    interrupts: Interrupts,
    place: Place,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A place among the visitors; dropping it gives it up.
struct Place {
    shared: Arc<Shared>,
    visitor: Arc<Visitor>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.visitors.lock().remove(&self.visitor.id);
    }
}

/// What happened while nothing was carried out.
enum Event {
    /// A whole message of this length is there.
    Message(Header),
    /// One that is too long or none.
    Junk,
    Interrupt(Interrupt),
    Gone,
}

impl Console {
    /// Takes a visitor in. Nothing was said yet; [`greet`](Session::greet) is what comes next.
    ///
    /// # Errors
    /// Too many are there; the stream comes back.
    pub fn enter(&self, visit: Visit) -> Result<Session, (EntryError, Box<Visit>)> {
        let shared = self.0.clone();
        let now = SystemTime::now();
        let visitor = Arc::new(Visitor {
            id: shared.clients.next_id(),
            user: visit.user.clone(),
            application_name: visit.application_name.clone(),
            addr: visit.addr,
            connection: visit.connection.clone(),
            connected_at: now,
            asked_at: Mutex::new(now),
        });
        let mut visitors = shared.visitors.lock();
        let limit = match visit.role {
            Role::Admin => SESSIONS,
            Role::Stats => SESSIONS - FOR_ADMINS,
        };
        if visitors.len() >= limit {
            drop(visitors);
            let error = EntryError::TooMany { limit };
            return Err((error, Box::new(visit)));
        }
        visitors.insert(visitor.id, visitor.clone());
        drop(visitors);
        let place = Place {
            shared: shared.clone(),
            visitor,
        };
        let mut replies = Replies::default();
        welcome(&mut replies, visit.role);
        replies
            .backend_key_data(visit.process_id, &visit.secret)
            .ready_for_query(b'I');
        Ok(Session {
            shared,
            stream: visit.stream,
            role: visit.role,
            inbox: Inbox::default(),
            replies,
            interrupts: visit.interrupts,
            place,
        })
    }
}

/// What a login is told.
fn welcome(replies: &mut Replies, role: Role) {
    replies.authentication_ok();
    let superuser = match role {
        Role::Admin => "on",
        Role::Stats => "off",
    };
    for (name, value) in [
        (
            "server_version",
            concat!(env!("CARGO_PKG_VERSION"), "/poolwatch"),
        ),
        ("client_encoding", "UTF8"),
        ("server_encoding", "UTF8"),
        ("DateStyle", "ISO"),
        ("TimeZone", "GMT"),
        ("standard_conforming_strings", "on"),
        ("integer_datetimes", "on"),
        ("is_superuser", superuser),
    ] {
        replies.parameter_status(name, value);
    }
}

impl Session {
    /// Tells the client that it is in.
    ///
    /// # Errors
    /// It left.
    pub async fn greet(&mut self) -> io::Result<()> {
        Shared::count(&self.shared.logins, 1);
        self.flush().await
    }

    /// Has it run where the console's sessions do.
    pub fn start(self) {
        let shared = self.shared.clone();
        if let Some(hooks) = shared.hooks.get() {
            (hooks.host)(self);
        }
    }

    /// Carries out commands until the client leaves or the process stops.
    pub async fn run(mut self) {
        loop {
            let header = match self.event().await {
                Event::Message(header) => header,
                Event::Junk => return self.end("08P01", BAD_PACKET).await,
                Event::Interrupt(Interrupt::Cancelled) => continue,
                Event::Interrupt(Interrupt::Stopping) => return self.stopping().await,
                Event::Gone => return,
            };
            let message = self.inbox.bytes()[..header.total].to_vec();
            self.inbox.consume(header.total);
            match header.tag {
                frontend::QUERY => {
                    let body = &message[crate::pgwire::HEADER..];
                    let Some(text) = cstr(body).and_then(|(text, _)| str::from_utf8(text).ok())
                    else {
                        return self.end("08P01", BAD_PACKET).await;
                    };
                    if !self.query(text).await || self.flush().await.is_err() {
                        return;
                    }
                }
                frontend::TERMINATE => return,
                frontend::PARSE | frontend::BIND | frontend::EXECUTE => {
                    const TEXT: &str = "extended query protocol not supported by admin console";
                    return self.bad_packet("0A000", TEXT).await;
                }
                _ => {
                    const TEXT: &str = "unsupported packet type for admin console";
                    return self.bad_packet("08P01", TEXT).await;
                }
            }
        }
    }

    /// Carries out one command. False when the session is over.
    async fn query(&mut self, text: &str) -> bool {
        *self.place.visitor.asked_at.lock() = SystemTime::now();
        Shared::count(&self.shared.commands, 1);
        let done = match self.carry_out(text).await {
            Carried::Done(done) => done,
            Carried::Gone => return false,
            Carried::Stopping => {
                self.stopping().await;
                return false;
            }
        };
        match done {
            Ok(command) => self.replies.command_complete(command.tag()),
            Err(refusal) => {
                let text = refusal.to_string();
                self.replies
                    .error(Severity::Error, refusal.sqlstate(), &text, None)
            }
        };
        self.replies.ready_for_query(b'I');
        true
    }

    async fn carry_out(&mut self, text: &str) -> Carried {
        let (command, argument) = match Command::of(text) {
            Ok(found) => found,
            Err(refusal) => return Carried::Done(Err(refusal)),
        };
        if self.role < command.needs {
            return Carried::Done(Err(Refusal::AdminOnly));
        }
        let hooks = match self.shared.hooks() {
            Ok(hooks) => hooks,
            Err(refusal) => return Carried::Done(Err(refusal)),
        };
        match &command.does {
            Does::Show(table) => {
                let shared = &*self.shared;
                table(&View { shared, hooks }).send(&mut self.replies);
            }
            Does::Parameter(value) => {
                let columns = vec![(command.shown(), ColumnType::Text)];
                let rows = vec![vec![cell(*value)]];
                Table { columns, rows }.send(&mut self.replies);
            }
            Does::Help => {
                self.replies.notice("Console usage", Some(&help()));
            }
            Does::Absent(why) => return Carried::Done(Err(Refusal::Absent(why))),
            Does::Order(order) => {
                let user = self.place.visitor.user.as_str();
                tracing::info!(user, command = command.name, ?argument, "console command");
                let ordered = order(self.shared.clone(), argument);
                return self.wait_for(command, ordered).await;
            }
        }
        Carried::Done(Ok(command))
    }

    /// Waits for an order to be carried out, while watching for the client to leave or to cancel; the order stays then.
    async fn wait_for(
        &mut self,
        command: &'static Command,
        mut ordered: Answer<Result<(), Refusal>>,
    ) -> Carried {
        poll_fn(|cx| {
            // First: what was carried out is said, also where that ends the process.
            if let Poll::Ready(done) = ordered.as_mut().poll(cx) {
                return Poll::Ready(Carried::Done(done.map(|()| command)));
            }
            match (self.interrupts)(cx) {
                Poll::Ready(Interrupt::Cancelled) => {
                    return Poll::Ready(Carried::Done(Err(Refusal::Cancelled)));
                }
                Poll::Ready(Interrupt::Stopping) => return Poll::Ready(Carried::Stopping),
                Poll::Pending => {}
            }
            loop {
                match self.inbox.poll_fill(cx, &mut self.stream) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Carried::Gone),
                    Poll::Ready(Ok(read)) => self.shared.count_received(read),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    async fn event(&mut self) -> Event {
        poll_fn(|cx| {
            if let Poll::Ready(interrupt) = (self.interrupts)(cx) {
                return Poll::Ready(Event::Interrupt(interrupt));
            }
            loop {
                match Header::parse(self.inbox.bytes()) {
                    Err(_) => return Poll::Ready(Event::Junk),
                    Ok(Some(header)) if header.total > LONGEST => return Poll::Ready(Event::Junk),
                    Ok(Some(header)) if header.total <= self.inbox.len() => {
                        return Poll::Ready(Event::Message(header));
                    }
                    Ok(_) => {}
                }
                match self.inbox.poll_fill(cx, &mut self.stream) {
                    Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Event::Gone),
                    Poll::Ready(Ok(read)) => self.shared.count_received(read),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    async fn stopping(&mut self) {
        const TEXT: &str = "terminating connection due to administrator command";
        self.end("57P01", TEXT).await;
    }

    /// Answers what is no query, and ends the session. The answer is a whole one: libpq shows the last thing that it was told, which
    /// would be that the connection was closed.
    async fn bad_packet(&mut self, sqlstate: &str, text: &str) {
        self.replies.error(Severity::Error, sqlstate, text, None);
        self.replies.ready_for_query(b'I');
        self.end("08P01", BAD_PACKET).await;
    }

    /// Tells the client why its session is over.
    async fn end(&mut self, sqlstate: &str, text: &str) {
        self.replies.error(Severity::Fatal, sqlstate, text, None);
        // A client that does not read it is no concern of ours.
        let _ = self.flush().await;
        let _ = self.stream.shutdown().await;
    }

    /// Sends what is owed.
    async fn flush(&mut self) -> io::Result<()> {
        let bytes = self.replies.bytes();
        let sent = async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
        };
        match tokio::time::timeout(WRITE_LIMIT, sent).await {
            Ok(sent) => sent?,
            Err(_) => return Err(io::ErrorKind::TimedOut.into()),
        }
        let length = bytes.len();
        self.shared.count_sent(length);
        self.replies.consume(length);
        Ok(())
    }
}

/// What became of a command.
enum Carried {
    Done(Result<&'static Command, Refusal>),
    Gone,
    Stopping,
}

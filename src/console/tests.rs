//! The conversation and the orders, with parts above that are made up.

use std::collections::VecDeque;
use std::task::{Poll, Waker};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::*;
use crate::clients::{ClientGuard, ClientInfo, ClientState};
use crate::cluster::testing;
use crate::metrics::Metrics;
use crate::tls::Stream;

const LIMIT: Duration = Duration::from_secs(5);

/// A console, and what stands in for the parts above it.
struct Made {
    console: Console,
    clients: Clients,
    reading: Arc<Mutex<Reading>>,
    /// What was asked of the process.
    asked: Arc<Mutex<Vec<Ask>>>,
    sessions: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// Whose sessions were ended.
    ended: Arc<Mutex<Vec<u64>>>,
}

/// The only client that there is to be ended.
const THERE: u64 = 7;

fn made(config: Config) -> Made {
    let metrics = Metrics::new();
    let clients = Clients::new(10, &metrics);
    let console = Console::new(
        config,
        testing::cluster(&metrics),
        clients.clone(),
        metrics.proxy(),
    );
    let made = Made {
        console,
        clients,
        reading: Arc::default(),
        sessions: Arc::default(),
        asked: Arc::default(),
        ended: Arc::default(),
    };
    let (changing, reading) = (made.reading.clone(), made.reading.clone());
    let (asked, ended) = (made.asked.clone(), made.ended.clone());
    let hosted = made.sessions.clone();
    made.console.attach(Hooks {
        status: Arc::new(Status::new(Vec::new)),
        host: Box::new(move |session| hosted.lock().push(tokio::spawn(session.run()))),
        settings: Box::new(Vec::new),
        ask: Box::new(move |ask| {
            asked.lock().push(ask.clone());
            Box::pin(async move {
                match ask {
                    Ask::Reload => std::future::pending().await,
                    Ask::Set { .. } => Err("no such setting".to_owned()),
                    Ask::Shutdown(_) => Ok(()),
                }
            })
        }),
        end_client: Box::new(move |client| {
            ended.lock().push(client);
            Box::pin(async move { client == THERE })
        }),
        change_reading: Box::new(move |from, to| {
            let mut reading = changing.lock();
            let changes = from.contains(&reading);
            if changes {
                *reading = to;
            }
            changes
        }),
        reading: Box::new(move || *reading.lock()),
        end_clients: Box::new(|_| Box::pin(async { 0 })),
    });
    made
}

fn config() -> Config {
    Config {
        wait_limit: LIMIT,
        ..Config::default()
    }
}

/// What reaches into a session from outside.
#[derive(Clone, Default)]
struct Outside(Arc<Mutex<(VecDeque<Interrupt>, Option<Waker>)>>);

impl Outside {
    fn send(&self, interrupt: Interrupt) {
        let mut inner = self.0.lock();
        inner.0.push_back(interrupt);
        if let Some(waker) = inner.1.take() {
            waker.wake();
        }
    }

    fn interrupts(&self) -> Interrupts {
        let inner = self.0.clone();
        Box::new(move |cx| {
            let mut inner = inner.lock();
            inner.1 = Some(cx.waker().clone());
            inner.0.pop_front().map_or(Poll::Pending, Poll::Ready)
        })
    }
}

/// Somebody at the console.
struct Visiting {
    stream: UnixStream,
    outside: Outside,
    session: JoinHandle<()>,
}

fn visit(role: Role, outside: &Outside) -> (Visit, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let visit = Visit {
        stream: Stream::Unix(theirs),
        user: "ann".to_owned(),
        role,
        application_name: String::new(),
        addr: ClientAddr::Unix,
        connection: Connection::default(),
        process_id: 1,
        secret: Box::new([0; 4]),
        interrupts: outside.interrupts(),
    };
    (visit, ours)
}

impl Made {
    async fn enter(&self, role: Role) -> Visiting {
        let outside = Outside::default();
        let (visit, stream) = visit(role, &outside);
        let mut session = self.console.enter(visit).unwrap();
        session.greet().await.unwrap();
        session.start();
        let session = self.sessions.lock().pop().unwrap();
        let mut visiting = Visiting {
            stream,
            outside,
            session,
        };
        assert!(visiting.answer().await.starts_with('R'));
        visiting
    }

    /// A client with something under way.
    fn client(&self, state: ClientState) -> ClientGuard {
        let info = ClientInfo {
            user: "ann".to_owned(),
            database: "db".to_owned(),
            application_name: String::new(),
            addr: ClientAddr::Unix,
            connection: Connection::default(),
        };
        let client = self.clients.register(info).unwrap();
        client.set_state(state);
        client
    }
}

impl Visiting {
    async fn send(&mut self, command: &str) {
        let mut message = vec![b'Q'];
        let length = u32::try_from(command.len() + 5).unwrap();
        message.extend_from_slice(&length.to_be_bytes());
        message.extend_from_slice(command.as_bytes());
        message.push(0);
        self.stream.write_all(&message).await.unwrap();
    }

    async fn message(&mut self) -> Option<(char, String)> {
        let tag = self.stream.read_u8().await.ok()?;
        let length = self.stream.read_u32().await.ok()?;
        let mut body = vec![0; length as usize - 4];
        self.stream.read_exact(&mut body).await.ok()?;
        let body = String::from_utf8_lossy(&body).replace('\0', "|");
        Some((char::from(tag), body))
    }

    /// The tags up to ReadyForQuery or the end, with what stands in a CommandComplete, an error or a notice.
    async fn answer(&mut self) -> String {
        let mut answer = String::new();
        while let Some((tag, body)) = self.message().await {
            answer.push(tag);
            if matches!(tag, 'C' | 'E' | 'N') {
                answer.push_str(&format!("({body})"));
            }
            if tag == 'Z' {
                break;
            }
        }
        answer
    }

    async fn ask(&mut self, command: &str) -> String {
        self.send(command).await;
        self.answer().await
    }
}

#[test]
fn who_may_what_is_told_by_lists_or_where_nothing_is_proved_by_the_process() {
    let named = |trusted| Config {
        admin_users: vec!["ann".to_owned()],
        stats_users: vec!["ann".to_owned(), "ben".to_owned()],
        trusted,
        ..config()
    };
    let proved = made(named(false)).console;
    assert_eq!(proved.role("ann", false), Ok(Role::Admin));
    assert_eq!(proved.role("ben", true), Ok(Role::Stats));
    let refused = proved.role("eve", true).unwrap_err();
    assert!(refused.to_string().contains("\"eve\""));
    let trusting = made(named(true)).console;
    assert_eq!(trusting.role("ann", false), Ok(Role::Stats));
    assert_eq!(trusting.role("eve", true), Ok(Role::Admin));
}

#[tokio::test]
async fn commands_are_answered_in_their_order_and_refused_in_words() {
    let made = made(config());
    let mut admin = made.enter(Role::Admin).await;
    // Two at once.
    admin.send("SHOW VERSION").await;
    admin.send("DISABLE db;").await;
    assert_eq!(admin.answer().await, "TDC(SHOW|)Z");
    assert_eq!(admin.answer().await, "C(DISABLE|)Z");
    assert!(made.console.0.cluster.ordered().disabled.contains("db"));
    let refused = admin.ask("DISABLE").await;
    assert!(refused.contains("a database is required"), "{refused}");
    assert!(refused.starts_with("E(") && refused.ends_with('Z'));
    let set = admin.ask("SET pool.size = 3").await;
    assert!(
        set.contains("55000") && set.contains("no such setting"),
        "{set}"
    );
    let mut stats = made.enter(Role::Stats).await;
    let refused = stats.ask("ENABLE db").await;
    assert!(refused.contains("42501") && refused.contains("admin access needed"));
    assert!(made.console.0.cluster.ordered().disabled.contains("db"));
    assert!(stats.ask("SHOW HELP").await.starts_with("N("));
    assert_eq!(admin.ask("KILL_CLIENT 7").await, "C(KILL_CLIENT|)Z");
    assert!(
        admin
            .ask("KILL_CLIENT 8")
            .await
            .contains("client not found")
    );
    assert_eq!(*made.ended.lock(), [7, 8]);
}

#[tokio::test]
async fn the_ways_to_end_are_told_apart() {
    let made = made(config());
    let mut admin = made.enter(Role::Admin).await;
    for (command, how) in [
        ("SHUTDOWN", Shutdown::Immediate),
        ("shutdown Wait_For_Servers", Shutdown::WaitForServers),
        ("SHUTDOWN WAIT_FOR_CLIENTS;", Shutdown::WaitForClients),
    ] {
        assert_eq!(admin.ask(command).await, "C(SHUTDOWN|)Z");
        assert_eq!(made.asked.lock().pop(), Some(Ask::Shutdown(how)));
    }
    let usage = admin.ask("SHUTDOWN now").await;
    assert!(
        usage.contains("WAIT_FOR_SERVERS|WAIT_FOR_CLIENTS"),
        "{usage}"
    );
    assert!(made.asked.lock().is_empty());
}

#[tokio::test]
async fn a_wait_ends_by_a_cancel_request_a_stop_or_the_end_of_the_client() {
    let made = made(config());
    let mut admin = made.enter(Role::Admin).await;
    // Between commands there is nothing to cancel.
    admin.outside.send(Interrupt::Cancelled);
    assert_eq!(admin.ask("SHOW VERSION").await, "TDC(SHOW|)Z");
    admin.send("RELOAD").await;
    while made.asked.lock().is_empty() {
        tokio::task::yield_now().await;
    }
    admin.outside.send(Interrupt::Cancelled);
    let cancelled = admin.answer().await;
    assert!(
        cancelled.contains("57014") && cancelled.ends_with('Z'),
        "{cancelled}"
    );

    admin.send("RELOAD").await;
    while made.asked.lock().len() < 2 {
        tokio::task::yield_now().await;
    }
    admin.outside.send(Interrupt::Stopping);
    let stopped = admin.answer().await;
    assert!(
        stopped.contains("57P01") && !stopped.ends_with('Z'),
        "{stopped}"
    );
    admin.session.await.unwrap();

    let mut leaving = made.enter(Role::Admin).await;
    leaving.send("RELOAD").await;
    while made.asked.lock().len() < 3 {
        tokio::task::yield_now().await;
    }
    drop(leaving.stream);
    leaving.session.await.unwrap();
    assert!(made.console.0.visitors().is_empty());
}

#[tokio::test]
async fn places_are_limited_and_given_up() {
    let made = made(config());
    let outside = Outside::default();
    let enter = |role| made.console.enter(visit(role, &outside).0);
    let looking = SESSIONS - FOR_ADMINS;
    let mut inside: Vec<_> = (0..looking).map(|_| enter(Role::Stats).unwrap()).collect();
    let (refused, _) = enter(Role::Stats).unwrap_err();
    assert_eq!(refused, EntryError::TooMany { limit: looking });
    inside.extend((0..FOR_ADMINS).map(|_| enter(Role::Admin).unwrap()));
    let (refused, _) = enter(Role::Admin).unwrap_err();
    assert_eq!(refused, EntryError::TooMany { limit: SESSIONS });
    inside.pop();
    enter(Role::Admin).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_suspension_reads_what_has_begun_until_nothing_is_under_way() {
    let made = made(config());
    let mut admin = made.enter(Role::Admin).await;
    let (active, waiting) = (
        made.client(ClientState::Active),
        made.client(ClientState::Waiting),
    );
    let _thinking = made.client(ClientState::IdleInTransaction);
    admin.send("SUSPEND").await;
    tokio::time::sleep(LIMIT / 4).await;
    assert_eq!(*made.reading.lock(), Reading::Begun);
    active.set_state(ClientState::Idle);
    tokio::time::sleep(LIMIT / 4).await;
    assert_eq!(*made.reading.lock(), Reading::Begun, "one waits still");
    waiting.set_state(ClientState::Idle);
    assert_eq!(admin.answer().await, "C(SUSPEND|)Z");
    assert_eq!(*made.reading.lock(), Reading::Nothing);
    for again in ["SUSPEND", "PAUSE"] {
        assert!(admin.ask(again).await.contains("already suspended/paused"));
    }
    assert!(admin.ask("SHOW STATE").await.starts_with("TDDD"));
    assert_eq!(admin.ask("RESUME").await, "C(RESUME|)Z");
    assert_eq!(*made.reading.lock(), Reading::Everything);
    assert!(admin.ask("RESUME").await.contains("not paused/suspended"));
}

#[tokio::test(start_paused = true)]
async fn a_suspension_in_vain_says_who_was_busy_and_stays() {
    let made = made(config());
    let (mut admin, mut other) = (made.enter(Role::Admin).await, made.enter(Role::Admin).await);
    let _busy = made.client(ClientState::Active);
    let began = Instant::now();
    let refused = admin.ask("SUSPEND").await;
    assert!(
        refused.contains("55006") && refused.contains("1 clients were still"),
        "{refused}"
    );
    assert!(began.elapsed() >= LIMIT);
    assert_eq!(*made.reading.lock(), Reading::Nothing);
    other.ask("RESUME").await;

    admin.send("SUSPEND").await;
    tokio::time::sleep(LIMIT / 4).await;
    assert_eq!(other.ask("RESUME").await, "C(RESUME|)Z");
    let resumed = admin.answer().await;
    assert!(resumed.contains("resumed before it was done"), "{resumed}");
    assert_eq!(
        *made.reading.lock(),
        Reading::Everything,
        "and stays resumed"
    );
}

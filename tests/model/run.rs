//! Runs a program against one server and writes down what each client is told.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;

use crate::mask;
use crate::program::{Action, Message, Owed, Program, Startup, Step};
use crate::support::raw::{self, Raw};
use crate::support::{Sidecar, eventually};

/// The longest that a reply is awaited: more than `pool.timeout`, so that the refusal is seen.
const LIMIT: Duration = Duration::from_secs(20);
/// Nothing came that should have.
const SILENCE: &str = "(silence)";
/// Between two looks whether a statement runs.
const POLL: Duration = Duration::from_millis(2);

/// Where a program runs.
pub(crate) struct Place<'a> {
    /// Where clients connect.
    pub address: SocketAddr,
    /// Where PostgreSQL itself is.
    pub direct: SocketAddr,
    /// In this database.
    pub database: &'a str,
    /// The pool between, if there is one.
    pub sidecar: Option<&'a Sidecar>,
}

/// What was said.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Transcript {
    /// By step.
    pub steps: Vec<Vec<String>>,
    /// Notifications of other clients, which may come at any time, by client.
    pub notifications: Vec<Vec<String>>,
    /// What the tables hold at the end.
    pub tables: Vec<Vec<String>>,
}

impl Transcript {
    /// Whether a reply that was awaited did not come. Straight, that is the fault of the program.
    pub(crate) fn is_silent(&self) -> bool {
        self.steps.iter().flatten().any(|line| line == SILENCE)
    }
}

/// One client's connection.
struct Client {
    raw: Raw,
    address: SocketAddr,
    key: Vec<u8>,
    owed: VecDeque<Owed>,
    /// An error has been told, and the rest up to Sync is skipped.
    skipping: bool,
    dead: bool,
    notifications: Vec<String>,
}

impl Client {
    async fn login(place: &Place<'_>, startup: Startup, lines: &mut Vec<String>) -> Self {
        let mut raw = Raw::dial(place.address).await;
        raw.send(&raw::startup(196_608, place.database, startup))
            .await;
        let greeting = raw.greeted().await;
        lines.extend(greeting.iter().map(mask::line));
        let key = greeting.iter().find(|message| message.tag == 'K');
        Self {
            key: key.map(|message| message.body.clone()).unwrap_or_default(),
            dead: greeting.last().is_none_or(|last| last.tag != 'Z'),
            raw,
            address: place.address,
            owed: VecDeque::new(),
            skipping: false,
            notifications: Vec::new(),
        }
    }

    async fn send(&mut self, bytes: &[u8]) {
        // A server that is gone is seen when the answer is read.
        let _ = self.raw.try_send(bytes).await;
    }

    async fn begin(&mut self, messages: &[Message]) {
        let bytes: Vec<u8> = messages.iter().flat_map(Message::bytes).collect();
        self.owed.extend(messages.iter().flat_map(Message::owed));
        self.send(&bytes).await;
    }

    /// Reads all that will come without more being sent.
    async fn read(&mut self, lines: &mut Vec<String>) {
        let due = |owed: &Owed| !matches!(owed, Owed::One(_));
        let count = self.owed.iter().rposition(due).map_or(0, |last| last + 1);
        for _ in 0..count {
            let owed = self.owed.pop_front().expect("counted");
            self.read_one(owed, lines).await;
        }
    }

    async fn read_one(&mut self, owed: Owed, lines: &mut Vec<String>) {
        let ends = match owed {
            Owed::Flush => return,
            Owed::Sync => {
                self.skipping = false;
                "Z"
            }
            _ if self.skipping => return,
            Owed::One(tags) => tags,
            Owed::Ready => "Z",
            Owed::ReadyOrCopy => "ZG",
        };
        let single = matches!(owed, Owed::One(_));
        while let Some(message) = self.next(lines).await {
            if message.tag == 'E' && single {
                self.skipping = true;
                return;
            }
            if ends.contains(message.tag) {
                return;
            }
        }
    }

    async fn next(&mut self, lines: &mut Vec<String>) -> Option<raw::Message> {
        if self.dead {
            return None;
        }
        let answer = tokio::time::timeout(LIMIT, self.raw.next()).await;
        let Ok(Some(message)) = answer else {
            lines.push(if answer.is_ok() { "(the end)" } else { SILENCE }.to_owned());
            self.dead = true;
            return None;
        };
        match mask::channel(&message) {
            Some(channel) if channel.starts_with('x') => {
                self.notifications.push(mask::line(&message));
            }
            _ => lines.push(mask::line(&message)),
        }
        Some(message)
    }
}

/// Runs a program, a step after the other.
pub(crate) async fn run(program: &Program, place: &Place<'_>) -> Transcript {
    let mut looking = set_up(program, place).await;
    let mut clients: Vec<Option<Client>> = program.clients.iter().map(|_| None).collect();
    let mut transcript = Transcript::default();
    transcript.notifications.resize(clients.len(), Vec::new());
    for step in &program.steps {
        let startup = program.clients[step.client];
        let slot = &mut clients[step.client];
        let mut lines = Vec::new();
        take(step, startup, slot, place, &mut looking, &mut lines).await;
        if let Some(client) = slot {
            transcript.notifications[step.client].append(&mut client.notifications);
        }
        if matches!(step.action, Action::Leave { .. }) {
            *slot = None;
        }
        transcript.steps.push(lines);
    }
    drop(clients);
    transcript.tables = tables(program, &mut looking).await;
    transcript
}

/// Runs a program whose clients do not wait for one another.
pub(crate) async fn run_at_once(program: &Program, place: &Place<'_>) -> Transcript {
    let mut looking = set_up(program, place).await;
    let all = program.clients.iter().enumerate().map(|(number, startup)| {
        let steps = program.steps.iter().enumerate();
        let mine: Vec<_> = steps.filter(|(_, step)| step.client == number).collect();
        async move {
            let mut looking = Raw::login(place.direct, place.database).await;
            let (mut slot, mut said) = (None, Vec::new());
            for (at, step) in mine {
                let mut lines = Vec::new();
                take(step, startup, &mut slot, place, &mut looking, &mut lines).await;
                said.push((at, lines));
            }
            said
        }
    });
    let mut said: Vec<_> = join_all(all).await.into_iter().flatten().collect();
    said.sort_by_key(|(at, _)| *at);
    Transcript {
        steps: said.into_iter().map(|(_, lines)| lines).collect(),
        notifications: Vec::new(),
        tables: tables(program, &mut looking).await,
    }
}

async fn take(
    step: &Step,
    startup: Startup,
    slot: &mut Option<Client>,
    place: &Place<'_>,
    looking: &mut Raw,
    lines: &mut Vec<String>,
) {
    let client = match slot {
        Some(client) => client,
        None => slot.insert(Client::login(place, startup, lines).await),
    };
    let greeting = lines.len();
    match &step.action {
        Action::Send(messages) => {
            client.begin(messages).await;
            client.read(lines).await;
        }
        Action::Begin(messages) => {
            client.begin(messages).await;
            if let Some(sidecar) = place.sidecar {
                waits(sidecar).await;
            }
        }
        Action::Await => client.read(lines).await,
        Action::Copy(copying) => {
            client.send(&copying.asks()).await;
            client.owed.push_back(Owed::ReadyOrCopy);
            client.read(lines).await;
            if lines.last().is_some_and(|line| line.starts_with('G')) {
                client.owed.extend(copying.owed());
            }
            client.send(&copying.brings()).await;
            client.read(lines).await;
        }
        Action::CancelIdle => cancel(client.address, &client.key).await,
        Action::CancelRunning => cancel_running(client, looking, lines).await,
        Action::Leave { politely } => {
            if *politely {
                client.send(&raw::terminate()).await;
            }
        }
    }
    mask::statuses_by_name(&mut lines[greeting..]);
}

/// Runs a long statement and cancels it once PostgreSQL says that it runs; in a failed transaction it does not.
async fn cancel_running(client: &mut Client, looking: &mut Raw, lines: &mut Vec<String>) {
    let mark = u32::from_be_bytes(client.key[..4].try_into().expect("a process id"));
    client
        .send(&raw::query(&format!("SELECT pg_sleep(60) /* {mark} */")))
        .await;
    client.owed.push_back(Owed::Ready);
    let look = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60) /* {mark} */' \
         AND wait_event = 'PgSleep' AND datname = current_database()"
    );
    let (address, key) = (client.address, client.key.clone());
    let reading = client.read(lines);
    tokio::pin!(reading);
    loop {
        tokio::select! {
            () = &mut reading => return,
            () = tokio::time::sleep(POLL) => {}
        }
        if looking.value(&look).await != "0" {
            cancel(address, &key).await;
            break reading.await;
        }
    }
}

/// Sends a cancel request and waits until it has been dealt with.
async fn cancel(address: SocketAddr, key: &[u8]) {
    let request = [&80_877_102_u32.to_be_bytes(), key].concat();
    let mut raw = Raw::dial(address).await;
    let _ = raw.try_send(&raw::packet(&request)).await;
    assert!(raw.drain().await, "a cancel request is closed");
}

/// Waits until somebody waits for a server.
async fn waits(sidecar: &Sidecar) {
    eventually(LIMIT, || async {
        let scrape = sidecar.scrape().await;
        scrape.sum("db_client_connection_pending_requests", &[]) == 1.0
    })
    .await;
}

/// Makes each client's table, and gives a connection to look with.
async fn set_up(program: &Program, place: &Place<'_>) -> Raw {
    let mut looking = Raw::login(place.direct, place.database).await;
    let tables = numbers(program).map(|number| {
        format!(
            "DROP TABLE IF EXISTS t{number}; CREATE TABLE t{number} (n int PRIMARY KEY, v text); \
             INSERT INTO t{number} VALUES (1, 'a'), (2, 'b'), (3, NULL);"
        )
    });
    let sql: String = tables.collect();
    looking
        .rows(&format!("SET client_min_messages = 'error'; {sql}"))
        .await;
    looking
}

/// What the tables hold, and they are dropped.
async fn tables(program: &Program, looking: &mut Raw) -> Vec<Vec<String>> {
    let mut tables = Vec::new();
    for number in numbers(program) {
        let select = format!("SELECT * FROM t{number} ORDER BY n");
        let answer = looking.ask(&raw::query(&select)).await;
        tables.push(answer.iter().map(mask::line).collect());
        looking
            .rows(&format!("DROP TABLE IF EXISTS t{number}"))
            .await;
    }
    tables
}

fn numbers(program: &Program) -> impl Iterator<Item = usize> {
    (0..program.clients.len()).map(|client| program.first + client)
}

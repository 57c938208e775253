//! The commands under clients that check every answer: what was acknowledged is there, what was not asked to be committed is
//! not, and where nothing is to go wrong nothing does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use tokio::task::JoinSet;
use tokio_postgres::{Client, Config, Error, SimpleQueryMessage};

use super::{Guarded, LIMIT, done, row, try_connect};
use crate::support::eventually;

/// Clients at work, more than there are servers for.
const CLIENTS: i32 = 8;

const SETTINGS: [(&str, &str); 2] = [
    ("POOLWATCH_POOL__SIZE", "3"),
    ("POOLWATCH_POOL__MAX_OVERFLOW", "2"),
];

/// What one client has to tell.
#[derive(Debug, Default)]
struct Told {
    /// Rows whose COMMIT was answered.
    committed: BTreeSet<i32>,
    /// Rows whose COMMIT was sent and not answered.
    in_doubt: BTreeSet<i32>,
    /// What ended a transaction before its COMMIT, and whether that had run a statement already.
    ended: Vec<(Error, bool)>,
    /// What ended a login.
    turned_away: Vec<Error>,
}

/// How a client takes the end of its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It logs in again.
    Again,
    /// It goes home.
    Home,
}

/// Clients at work until they are told to stop.
struct Clients {
    at_work: JoinSet<Told>,
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicI32>,
}

impl Clients {
    async fn start(guarded: &Guarded, then: Then) -> Self {
        let direct = guarded.direct().await;
        let created = direct.batch_execute("CREATE TABLE done (n int PRIMARY KEY)");
        created.await.expect("a table");
        let mut clients = Self {
            at_work: JoinSet::new(),
            stop: Arc::default(),
            commits: Arc::default(),
        };
        for client in 0..CLIENTS {
            let work = Work {
                config: guarded.sidecar.client_config(),
                next: client * 1_000_000,
                stop: clients.stop.clone(),
                commits: clients.commits.clone(),
                told: Told::default(),
            };
            clients.at_work.spawn(work.run(then));
        }
        clients.progress(CLIENTS * 2).await;
        clients
    }

    /// Waits until so many more transactions are committed.
    async fn progress(&self, more: i32) {
        let before = self.commits.load(Ordering::Relaxed);
        eventually(LIMIT, || async {
            self.commits.load(Ordering::Relaxed) >= before + more
        })
        .await;
    }

    /// Waits for all to come home, and compares what they were told with what is there.
    async fn home(self, guarded: &Guarded) -> Told {
        let mut all = Told::default();
        let told = tokio::time::timeout(LIMIT, self.at_work.join_all()).await;
        for told in told.expect("every client comes home") {
            all.committed.extend(told.committed);
            all.in_doubt.extend(told.in_doubt);
            all.ended.extend(told.ended);
            all.turned_away.extend(told.turned_away);
        }
        let direct = guarded.direct().await;
        let rows = direct.query("SELECT n FROM done", &[]).await;
        let rows: BTreeSet<i32> = rows
            .expect("the rows")
            .iter()
            .map(|row| row.get(0))
            .collect();
        let lost: Vec<_> = all.committed.difference(&rows).collect();
        assert!(lost.is_empty(), "acknowledged and not there: {lost:?}");
        let explained = &all.committed | &all.in_doubt;
        let unasked: Vec<_> = rows.difference(&explained).collect();
        assert!(unasked.is_empty(), "never committed and there: {unasked:?}");
        assert!(all.committed.len() >= CLIENTS as usize);
        all
    }

    async fn stop(self, guarded: &Guarded) -> Told {
        self.stop.store(true, Ordering::Relaxed);
        self.home(guarded).await
    }
}

/// One client's work.
struct Work {
    config: Config,
    next: i32,
    stop: Arc<AtomicBool>,
    commits: Arc<AtomicI32>,
    told: Told,
}

impl Work {
    async fn run(mut self, then: Then) -> Told {
        while !self.stop.load(Ordering::Relaxed) {
            match try_connect(&self.config).await {
                Ok(client) => {
                    self.transactions(&client).await;
                }
                Err(error) => {
                    self.told.turned_away.push(error);
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
            if then == Then::Home {
                break;
            }
        }
        self.told
    }

    /// One after the other, until the session ends or it is time to stop.
    async fn transactions(&mut self, client: &Client) {
        while !self.stop.load(Ordering::Relaxed) {
            self.next += 1;
            let mut began = false;
            if let Err(error) = statements(client, self.next, &mut began).await {
                self.told.ended.push((error, began));
                return;
            }
            match client.batch_execute("COMMIT").await {
                Ok(()) => {
                    self.told.committed.insert(self.next);
                    self.commits.fetch_add(1, Ordering::Relaxed);
                }
                Err(_) => {
                    self.told.in_doubt.insert(self.next);
                    return;
                }
            }
        }
    }
}

/// What a transaction does before its COMMIT, each answer checked; by the simple protocol, unnamed and named statements.
async fn statements(client: &Client, n: i32, began: &mut bool) -> Result<(), Error> {
    client.batch_execute("BEGIN").await?;
    *began = true;
    let inserted = client
        .query_one("INSERT INTO done VALUES ($1) RETURNING n", &[&n])
        .await?;
    assert_eq!(inserted.get::<_, i32>(0), n, "another's answer");
    let named = client
        .prepare("SELECT $1::int + 1, repeat('x', 300)")
        .await?;
    for n in [n, n + 1] {
        let row = client.query_one(&named, &[&n]).await?;
        assert_eq!(row.get::<_, i32>(0), n + 1, "another's answer");
        assert_eq!(row.get::<_, &str>(1).len(), 300);
    }
    let answer = client
        .simple_query(&format!("SELECT {n}; SELECT n FROM done WHERE n = {n}"))
        .await?;
    let values = answer.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    });
    let n = n.to_string();
    assert_eq!(values.collect::<Vec<_>>(), [&n, &n], "another's answer");
    Ok(())
}

/// What the server said, as far as it said something; nothing where the connection ended.
fn code(error: &Error) -> &str {
    error.code().map_or("", |code| code.code())
}

#[tokio::test]
async fn nobody_notices_pauses_reconnects_and_suspensions() {
    let guarded = Guarded::start_with(&SETTINGS).await;
    let admin = guarded.admin().await;
    let clients = Clients::start(&guarded, Then::Again).await;
    let database = guarded.database.name.as_str();
    for _ in 0..4 {
        for (command, back) in [
            ("PAUSE", "RESUME"),
            ("PAUSE <db>", "RESUME <db>"),
            ("RECONNECT", "WAIT_CLOSE"),
            ("RECONNECT <db>", "WAIT_CLOSE <db>"),
            ("SUSPEND", "RESUME"),
            ("SET pool.size = 2", "RELOAD"),
            ("DISABLE <db>", "ENABLE <db>"),
        ] {
            done(&admin, &command.replace("<db>", database)).await;
            done(&admin, &back.replace("<db>", database)).await;
            clients.progress(CLIENTS).await;
        }
    }
    let told = clients.stop(&guarded).await;
    let wrong = (told.ended, told.turned_away, told.in_doubt);
    assert!(
        wrong.0.is_empty() && wrong.1.is_empty() && wrong.2.is_empty(),
        "{wrong:?}"
    );
}

#[tokio::test]
async fn a_paused_pool_does_nothing_and_a_resumed_one_goes_on() {
    let guarded = Guarded::start_with(&SETTINGS).await;
    let (admin, direct) = (guarded.admin().await, guarded.direct().await);
    let clients = Clients::start(&guarded, Then::Again).await;
    for pause in ["PAUSE", "SUSPEND"] {
        done(&admin, pause).await;
        // Nothing is under way once the command is answered; who still asks, waits.
        let running = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'active'";
        let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND application_name <> 'poolwatch'";
        let before = clients.commits.load(Ordering::Relaxed);
        if pause == "PAUSE" {
            // PostgreSQL takes a moment to see that a connection was closed.
            eventually(LIMIT, || async { count(&direct, open).await == 0 }).await;
            eventually(LIMIT, || async {
                let pools = done(&admin, "SHOW POOLS").await;
                row(&pools, "database", &guarded.database.name)["cl_waiting"] == CLIENTS.to_string()
            })
            .await;
        } else {
            assert_eq!(count(&direct, running).await, 0, "after {pause}");
        }
        let between = clients.commits.load(Ordering::Relaxed);
        assert!(
            between - before <= CLIENTS,
            "{before} and {between} after {pause}"
        );
        done(&admin, "RESUME").await;
        clients.progress(CLIENTS).await;
    }
    let told = clients.stop(&guarded).await;
    assert!(
        told.ended.is_empty() && told.in_doubt.is_empty(),
        "{told:?}"
    );
}

async fn count(direct: &Client, sql: &str) -> i64 {
    let row = direct.query_one(sql, &[]).await;
    row.expect("a count").get(0)
}

#[tokio::test]
async fn who_is_killed_loses_nothing_that_was_acknowledged() {
    let guarded = Guarded::start_with(&SETTINGS).await;
    let admin = guarded.admin().await;
    let clients = Clients::start(&guarded, Then::Again).await;
    let database = guarded.database.name.as_str();
    let mut killed = 0;
    for round in 0..6 {
        let shown = done(&admin, "SHOW CLIENTS").await;
        let of_pool: Vec<_> = shown
            .iter()
            .filter(|row| row["database"] == database)
            .collect();
        for client in of_pool.iter().take(3) {
            // It may have gone meanwhile only if it was killed.
            done(&admin, &format!("KILL_CLIENT {}", client["id"])).await;
            killed += 1;
        }
        clients.progress(CLIENTS).await;
        let command = match round % 2 {
            0 => "KILL".to_owned(),
            _ => format!("KILL {database}"),
        };
        done(&admin, &command).await;
        assert!(
            done(&admin, "SHOW SERVERS").await.is_empty(),
            "after {command}"
        );
        done(&admin, &command.replace("KILL", "RESUME")).await;
        killed += CLIENTS as usize;
        clients.progress(CLIENTS).await;
    }
    let told = clients.stop(&guarded).await;
    assert!(told.turned_away.is_empty(), "{:?}", told.turned_away);
    let ends = told.ended.len() + told.in_doubt.len();
    assert!(
        (killed - CLIENTS as usize..=killed).contains(&ends),
        "{killed} killed, {ends} noticed"
    );
    for (error, _) in &told.ended {
        let code = code(error);
        assert!(
            error.is_closed() || ["57P01", "57014"].contains(&code),
            "{error:?}"
        );
    }
}

/// Waits until every client has logged in.
async fn all_in(admin: &Client, guarded: &Guarded) {
    let name = &guarded.database.name;
    eventually(LIMIT, || async {
        let clients = done(admin, "SHOW CLIENTS").await;
        let here = clients.iter().filter(|client| client["database"] == *name);
        match here.count() {
            count if count == CLIENTS as usize => Ok(()),
            count => Err(format!("{count} clients")),
        }
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_at_once_loses_nothing_that_was_acknowledged() {
    let mut guarded = Guarded::start_with(&SETTINGS).await;
    let admin = guarded.admin().await;
    let clients = Clients::start(&guarded, Then::Home).await;
    all_in(&admin, &guarded).await;
    done(&admin, "SHUTDOWN").await;
    guarded.sidecar.wait_exit(LIMIT).await;
    let told = clients.home(&guarded).await;
    assert_eq!(told.ended.len() + told.in_doubt.len(), CLIENTS as usize);
}

#[tokio::test]
async fn a_shutdown_that_waits_for_servers_ends_nobody_in_a_transaction() {
    let mut guarded = Guarded::start_with(&SETTINGS).await;
    let admin = guarded.admin().await;
    let clients = Clients::start(&guarded, Then::Home).await;
    all_in(&admin, &guarded).await;
    done(&admin, "SHUTDOWN WAIT_FOR_SERVERS").await;
    assert_eq!(guarded.sidecar.wait_exit(LIMIT).await.code, Some(0));
    let told = clients.home(&guarded).await;
    assert!(told.in_doubt.is_empty(), "{told:?}");
    assert_eq!(told.ended.len(), CLIENTS as usize);
    for (error, began) in &told.ended {
        assert!(!began, "ended in its transaction: {error:?}");
        assert!(error.is_closed() || code(error) == "57P01", "{error:?}");
    }
}

#[tokio::test]
async fn a_shutdown_that_waits_for_clients_ends_nobody() {
    let mut guarded = Guarded::start_with(&SETTINGS).await;
    let admin = guarded.admin().await;
    let clients = Clients::start(&guarded, Then::Home).await;
    done(&admin, "SHUTDOWN WAIT_FOR_CLIENTS").await;
    let config = guarded.sidecar.client_config();
    eventually(LIMIT, || async { try_connect(&config).await.is_err() }).await;
    clients.progress(CLIENTS * 4).await;
    let told = clients.stop(&guarded).await;
    assert!(
        told.ended.is_empty() && told.in_doubt.is_empty() && told.turned_away.is_empty(),
        "{told:?}"
    );
    assert_eq!(guarded.sidecar.wait_exit(LIMIT).await.code, Some(0));
}

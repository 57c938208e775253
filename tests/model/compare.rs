//! Runs a program straight and through poolwatch, and says where they differ; makes a program that differs small.

use std::fmt;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use tokio_postgres::Client;

use crate::holding::Holding;
use crate::program::{Action, Program};
use crate::run::{Place, Transcript, run, run_at_once};
use crate::support::{Database, Postgres, Sidecar, eventually};

/// The longest that a failure is made smaller.
const SHRINK_LIMIT: Duration = Duration::from_secs(120);

/// Steps that differ and are printed; what follows the first is often its consequence.
const SHOWN: usize = 5;

/// The longest that PostgreSQL may take to come back after a crash.
const RECOVERY_LIMIT: Duration = Duration::from_secs(60);

/// How poolwatch runs, and programs in front of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mode {
    /// `pool.mode = session`.
    pub session: bool,
    /// Clients do not wait for one another.
    pub at_once: bool,
}

/// Two equal databases, poolwatch in front of one.
pub(crate) struct Bed {
    mode: Mode,
    direct: SocketAddr,
    straight: Database,
    pooled: Database,
    sidecar: Sidecar,
    /// Ends when PostgreSQL itself does.
    watch: Client,
}

/// PostgreSQL itself crashed.
#[derive(Debug)]
pub(crate) struct Crashed;

/// A program, and what was said on both sides.
pub(crate) struct Difference {
    pub(crate) program: Program,
    pub(crate) straight: Transcript,
    pub(crate) pooled: Transcript,
}

impl Bed {
    pub(crate) async fn new(mode: Mode) -> Self {
        let server = Postgres::shared().await;
        let (straight, pooled) = (server.database().await, server.database().await);
        let role = "DO $$ BEGIN CREATE ROLE model; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$";
        let client = straight.connect().await;
        client.batch_execute(role).await.expect("a role");
        let sidecar = sidecar(&pooled, mode).await;
        Self {
            watch: straight.connect().await,
            mode,
            direct: SocketAddr::from(([127, 0, 0, 1], server.port())),
            straight,
            pooled,
            sidecar,
        }
    }

    /// As [`Bed::differs`], for a PostgreSQL that may crash: a program may bring a backend down, with and without poolwatch,
    /// and the server with it. `Err` then, once it runs again.
    pub(crate) async fn tries(&mut self, program: &Program) -> Result<Option<Difference>, Crashed> {
        let tried = AssertUnwindSafe(self.differs(program)).catch_unwind().await;
        let crashed = match &tried {
            Ok(None) => false,
            _ => self.has_crashed().await,
        };
        match tried {
            _ if crashed => {
                self.recover().await;
                Err(Crashed)
            }
            Ok(found) => Ok(found),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Asked several times: a crash reaches every session, but some sooner than others.
    async fn has_crashed(&self) -> bool {
        let mut left = 20;
        while left > 0 && self.watch.simple_query("SELECT 1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            left -= 1;
        }
        left > 0
    }

    async fn recover(&mut self) {
        let database = &self.straight;
        eventually(RECOVERY_LIMIT, || async {
            database
                .try_connect()
                .await
                .map_err(|error| error.to_string())
        })
        .await;
        self.watch = self.straight.connect().await;
        self.afresh().await;
    }

    /// Starts poolwatch anew, so that nothing is left of earlier programs.
    async fn afresh(&mut self) {
        self.sidecar = sidecar(&self.pooled, self.mode).await;
    }

    /// Runs a program on both sides, and gives what differs.
    pub(crate) async fn differs(&self, program: &Program) -> Option<Difference> {
        let found = self.both(program).await;
        (found.straight != found.pooled).then_some(found)
    }

    /// Runs a program on both sides.
    pub(crate) async fn both(&self, program: &Program) -> Difference {
        let straight = Place {
            address: self.direct,
            direct: self.direct,
            database: &self.straight.name,
            sidecar: None,
        };
        let pooled = Place {
            address: self.sidecar.proxy_addr(),
            direct: self.direct,
            database: &self.pooled.name,
            sidecar: Some(&self.sidecar),
        };
        let (straight, pooled) = if self.mode.at_once {
            tokio::join!(
                run_at_once(program, &straight),
                run_at_once(program, &pooled)
            )
        } else {
            tokio::join!(run(program, &straight), run(program, &pooled))
        };
        assert!(!straight.is_silent(), "a program that hangs:\n{program}");
        Difference {
            program: program.clone(),
            straight,
            pooled,
        }
    }

    /// A smaller program that differs too, on a poolwatch of its own. If the program does not differ there, what came
    /// before it matters, and it is given back as it is.
    pub(crate) async fn shrink(&mut self, found: Difference) -> Difference {
        let started = Instant::now();
        self.afresh().await;
        let Ok(Some(mut smallest)) = self.tries(&found.program).await else {
            return found;
        };
        let mut size = smallest.program.steps.len() / 2;
        loop {
            let mut smaller = false;
            for candidate in candidates(&smallest.program, size) {
                if started.elapsed() > SHRINK_LIMIT {
                    return smallest;
                }
                if !Holding::admits(&candidate, self.mode.session) {
                    continue;
                }
                self.afresh().await;
                if let Ok(Some(difference)) = self.tries(&candidate).await {
                    smallest = difference;
                    smaller = true;
                    break;
                }
            }
            match (smaller, size) {
                (true, _) => size = size.min(smallest.program.steps.len()),
                (false, 0) => return smallest,
                (false, _) => size /= 2,
            }
        }
    }

    /// Nothing of poolwatch's own went wrong meanwhile.
    pub(crate) async fn well(&self) {
        let scrape = self.sidecar.scrape().await;
        assert_eq!(scrape.sum("poolwatch_pool_bugs_total", &[]), 0.0);
        let logs = self.sidecar.logs();
        assert!(!logs.iter().any(|line| line.contains("panicked")));
    }
}

async fn sidecar(database: &Database, mode: Mode) -> Sidecar {
    let settings = [
        ("POOLWATCH_POOL__SIZE", "2"),
        ("POOLWATCH_POOL__MAX_OVERFLOW", "0"),
        ("POOLWATCH_POOL__TIMEOUT", "10s"),
        (
            "POOLWATCH_POOL__MODE",
            if mode.session {
                "session"
            } else {
                "transaction"
            },
        ),
    ];
    Sidecar::start_with(database, &database.url, &[], &settings).await
}

/// Programs without so many steps; of size zero, without one message of a step.
fn candidates(program: &Program, size: usize) -> Vec<Program> {
    let mut candidates = Vec::new();
    if size > 0 {
        for start in (0..program.steps.len()).step_by(size).rev() {
            let mut fewer = program.clone();
            let end = (start + size).min(program.steps.len());
            fewer.steps.drain(start..end);
            candidates.push(fewer);
        }
        return candidates;
    }
    for (at, step) in program.steps.iter().enumerate() {
        let (Action::Send(messages) | Action::Begin(messages)) = &step.action else {
            continue;
        };
        for without in 0..messages.len() {
            let mut fewer = program.clone();
            if let Action::Send(list) | Action::Begin(list) = &mut fewer.steps[at].action {
                list.remove(without);
                if list.is_empty() {
                    continue;
                }
            }
            candidates.push(fewer);
        }
    }
    candidates
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.program)?;
        let both = self.straight.steps.iter().zip(&self.pooled.steps);
        let mut shown = 0;
        for (number, (straight, pooled)) in both.enumerate() {
            sides(f, &format!("step {number}"), straight, pooled)?;
            shown += usize::from(straight != pooled);
            if shown == SHOWN {
                return writeln!(f, "and so on");
            }
        }
        let both = self
            .straight
            .notifications
            .iter()
            .zip(&self.pooled.notifications);
        for (number, (straight, pooled)) in both.enumerate() {
            if straight != pooled {
                sides(f, &format!("notifications of {number}"), straight, pooled)?;
            }
        }
        let both = self.straight.tables.iter().zip(&self.pooled.tables);
        for (number, (straight, pooled)) in both.enumerate() {
            if straight != pooled {
                sides(f, &format!("table of {number}"), straight, pooled)?;
            }
        }
        Ok(())
    }
}

fn sides(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    straight: &[String],
    pooled: &[String],
) -> fmt::Result {
    if straight == pooled {
        return writeln!(f, "{what}: the same, {}", brief(straight));
    }
    writeln!(f, "{what} DIFFERS")?;
    for (side, lines) in [("straight", straight), ("through", pooled)] {
        for line in lines {
            writeln!(f, "    {side:8} {line}")?;
        }
    }
    Ok(())
}

/// The types of messages, and errors in full.
fn brief(lines: &[String]) -> String {
    let each = lines.iter().map(|line| match line.chars().next() {
        Some('E') => format!("({line})"),
        first => first.unwrap_or(' ').to_string(),
    });
    each.collect()
}

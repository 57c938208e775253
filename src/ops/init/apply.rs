//! The server side of `init`: connect, lock, look, change.
//!
//! The order makes it resumable. Roles are made in one transaction, the database by one statement (PostgreSQL has no
//! transaction for it), all that is in the database in one transaction; each begins with a look at what is there. So a
//! process that is killed leaves some of these three done, and the next one goes on from there.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::InitError;
use super::facts::{Inside, Server, Wanted};
use super::inspect;
use super::plan::{self, Statement, Step, Verdict};
use super::refusal::refusals;
use super::report::{Report, Where};
use crate::config::Origin;
use crate::control::{Config, Control, LOCK, LockError, Session, Trouble};
use crate::pool::Unobserved;

/// Between two attempts to connect to a server that is not there yet.
const RETRY: Duration = Duration::from_millis(250);
/// How long one statement may run, and wait for others' locks: on PostgreSQL's side. CREATE DATABASE waits for a checkpoint.
const STATEMENT: Duration = Duration::from_secs(300);
/// What a dead network is given beyond that.
const GRACE: Duration = Duration::from_secs(10);
/// How often others may make the same things at the same time.
const ATTEMPTS: usize = 3;

/// How `init` goes about it.
pub(super) struct Run<'a> {
    pub(super) wanted: &'a Wanted,
    /// How to connect; the database is replaced.
    pub(super) config: Config,
    /// Where the first connection goes to, the first that exists.
    pub(super) entries: Vec<String>,
    pub(super) wait: Duration,
    pub(super) lock_timeout: Duration,
    pub(super) dry_run: bool,
    /// Who is told what is waited for.
    pub(super) told: &'a mut dyn Write,
}

impl Run<'_> {
    /// All of it. What was done before an error stands in the report.
    pub(super) async fn run(&mut self, report: &mut Report) -> Result<(), InitError> {
        let entry = self.enter().await?;
        let mut server = self.look(&entry).await?;
        report.server = Some(Where {
            host: hosts(&self.config),
            version: server.version.clone(),
            user: server.user.clone(),
        });
        if !self.dry_run {
            self.lock(&entry).await?;
            server = self.look(&entry).await?;
        }
        let target = match &server.database {
            Some(_) => Some(self.connect_to_target().await?),
            None => None,
        };
        let inside = match &target {
            Some(session) => self.look_inside(session).await?,
            None => Inside::fresh(&self.wanted.names.database.value),
        };
        let refused = refusals(self.wanted, &server, &inside);
        if !refused.is_empty() {
            return Err(InitError::Refused(refused));
        }
        if server.role.is_none() && self.wanted.names.password.origin == Origin::Default {
            report.warnings.push(format!(
                "no password is given for \"{}\", so it gets the default one, which everybody knows; give one in \
                 /run/secrets/poolwatch-password or POSTGRES_PASSWORD",
                self.wanted.names.role.value
            ));
        }
        if self.dry_run {
            let steps = plan::outside(self.wanted, &server).into_iter();
            for (step, verdict) in steps.chain(plan::inside(self.wanted, &server, &inside)) {
                report.note(step, &verdict, false);
            }
            return Ok(());
        }
        self.outside(&entry, report).await?;
        let target = match target {
            Some(target) => target,
            None => self.connect_to_target().await?,
        };
        self.lock(&target).await?;
        self.inside(&target, report).await
    }

    /// The first connection: the server may still have to start.
    async fn enter(&mut self) -> Result<Session, InitError> {
        let began = Instant::now();
        let mut told = false;
        loop {
            let trouble = match self.try_entries().await {
                Ok(session) => return Ok(session),
                Err(Failed::Trouble(trouble)) => trouble,
                Err(Failed::Other(error)) => return Err(error),
            };
            let waited = began.elapsed();
            if !trouble.may_pass() || waited >= self.wait {
                return Err(InitError::Connect {
                    trouble,
                    waited: if self.wait.is_zero() {
                        Duration::ZERO
                    } else {
                        waited
                    },
                });
            }
            if !told {
                // Nobody need listen.
                let _ = writeln!(
                    self.told,
                    "waiting for PostgreSQL, {:?} at most: {trouble}",
                    self.wait
                );
                told = true;
            }
            tokio::time::sleep(RETRY.min(self.wait - waited)).await;
        }
    }

    async fn try_entries(&self) -> Result<Session, Failed> {
        let mut missing = None;
        for database in &self.entries {
            match self.connect(database).await {
                Err(Failed::Trouble(trouble @ Trouble::NoDatabase { .. })) => {
                    missing = missing.or(Some(trouble))
                }
                other => return other,
            }
        }
        let host = hosts(&self.config);
        Err(Failed::Trouble(missing.unwrap_or(Trouble::Other {
            host,
            cause: "no database to connect to is known".to_owned(),
        })))
    }

    async fn connect(&self, database: &str) -> Result<Session, Failed> {
        let config = Config {
            database: database.to_owned(),
            ..self.config.clone()
        };
        let control = Control::new(config, Arc::new(Unobserved))
            .map_err(|error| Failed::Other(error.into()))?;
        let session = control.session().await;
        let session =
            session.map_err(|error| Failed::Trouble(Trouble::of(&error, control.config())))?;
        // Defaults of the role or the server must not cut a statement short, nor change what a name means.
        let milliseconds = STATEMENT.as_millis();
        let settings = format!(
            "SET search_path TO pg_catalog; SET client_min_messages TO error; \
             SET statement_timeout TO {milliseconds}; SET lock_timeout TO {}",
            self.lock_timeout.as_millis()
        );
        let set = within(session.batch_execute(&settings)).await;
        set.and_then(|set| set.map_err(InitError::Inspect))
            .map_err(Failed::Other)?;
        Ok(session)
    }

    async fn connect_to_target(&self) -> Result<Session, InitError> {
        match self.connect(&self.wanted.names.database.value).await {
            Ok(session) => Ok(session),
            Err(Failed::Trouble(trouble)) => Err(InitError::Connect {
                trouble,
                waited: Duration::ZERO,
            }),
            Err(Failed::Other(error)) => Err(error),
        }
    }

    async fn lock(&mut self, session: &Session) -> Result<(), InitError> {
        let limit = self.lock_timeout;
        let told = &mut *self.told;
        let lock = session.lock(LOCK, limit, |holder| {
            let _ = writeln!(
                told,
                "waiting for another run to end, {limit:?} at most: {holder}"
            );
        });
        lock.await.map_err(InitError::Lock)
    }

    async fn look(&self, session: &Session) -> Result<Server, InitError> {
        let names = &self.wanted.names;
        let look = inspect::server(session, &names.role.value, &names.database.value);
        within(look).await?.map_err(InitError::Inspect)
    }

    async fn look_inside(&self, session: &Session) -> Result<Inside, InitError> {
        let names = &self.wanted.names;
        let look = inspect::inside(session, &names.role.value, &names.database.value);
        within(look).await?.map_err(InitError::Inspect)
    }

    /// Roles in one transaction, then the database. Where somebody who does not hold our lock makes the same things, a
    /// second look finds them.
    async fn outside(&self, session: &Session, report: &mut Report) -> Result<(), InitError> {
        for _ in 0..ATTEMPTS {
            let before = report.lines.len();
            match self.try_outside(session, report).await {
                Err(error) if error.is_race() => report.lines.truncate(before),
                other => return other,
            }
        }
        Err(InitError::Unsettled)
    }

    async fn try_outside(&self, session: &Session, report: &mut Report) -> Result<(), InitError> {
        let server = self.look(session).await?;
        let steps = plan::outside(self.wanted, &server);
        let (databases, roles): (Vec<_>, Vec<_>) = steps
            .into_iter()
            .partition(|(step, _)| *step == Step::Database);
        self.together(session, &roles).await?;
        for (step, verdict) in &roles {
            report.note(*step, verdict, true);
        }
        for (step, verdict) in &databases {
            carry_out(session, *step, verdict).await?;
            report.note(*step, verdict, true);
        }
        Ok(())
    }

    /// What is in the database, all or nothing.
    async fn inside(&self, session: &Session, report: &mut Report) -> Result<(), InitError> {
        let server = self.look(session).await?;
        let inside = self.look_inside(session).await?;
        let refused = refusals(self.wanted, &server, &inside);
        if !refused.is_empty() {
            return Err(InitError::Refused(refused));
        }
        let steps = plan::inside(self.wanted, &server, &inside);
        self.together(session, &steps).await?;
        for (step, verdict) in &steps {
            report.note(*step, verdict, true);
        }
        Ok(())
    }

    /// Runs the statements of several steps in one transaction, or none of them; opens none where there is nothing to do.
    async fn together(
        &self,
        session: &Session,
        steps: &[(Step, Verdict)],
    ) -> Result<(), InitError> {
        let Some((first, what)) = steps.iter().find_map(|(step, verdict)| match verdict {
            Verdict::Do(_, what) => Some((*step, what)),
            _ => None,
        }) else {
            return Ok(());
        };
        let framed = |step, what: &str, sql| execute(session, step, what.to_owned(), sql);
        framed(first, what, "BEGIN").await?;
        for (step, verdict) in steps {
            carry_out(session, *step, verdict).await?;
        }
        // A pooler that swapped sessions would have let somebody else in.
        within(session.confirm(LOCK))
            .await?
            .map_err(|error: LockError| InitError::Lock(error))?;
        framed(first, what, "COMMIT").await
    }
}

/// Runs a step's statements. An error leaves the transaction to the end of the session, which rolls it back.
async fn carry_out(session: &Session, step: Step, verdict: &Verdict) -> Result<(), InitError> {
    if let Verdict::Do(statements, what) = verdict {
        for Statement(sql) in statements {
            execute(session, step, what.clone(), sql.expose()).await?;
        }
    }
    Ok(())
}

async fn execute(session: &Session, step: Step, what: String, sql: &str) -> Result<(), InitError> {
    let done = within(session.batch_execute(sql)).await?;
    done.map_err(|source| InitError::Step { step, what, source })
}

/// PostgreSQL ends a statement at its own limit; this one is for a network that has died.
async fn within<T>(work: impl Future<Output = T>) -> Result<T, InitError> {
    let limit = STATEMENT + GRACE;
    tokio::time::timeout(limit, work)
        .await
        .map_err(|_| InitError::Deadline(limit))
}

enum Failed {
    Trouble(Trouble),
    Other(InitError),
}

fn hosts(config: &Config) -> String {
    let hosts: Vec<_> = config.hosts.iter().map(ToString::to_string).collect();
    hosts.join(", ")
}

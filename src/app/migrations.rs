//! Looks, now and then, at where the migrations of the watched database stand, through the control pool.
//!
//! One look at a time, every `migrate.watch`, the first at once. Each wait within it has a limit: for locks of others, for a
//! statement, and for the whole. A look that fails leaves the last figures; how old they are is a figure itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::Settings;
use crate::control::{Control, ControlError, Session};
use crate::error::chain;
use crate::metrics::{CollectorMetrics, Metrics, MigrationMetrics, MigrationRun, MigrationTool};
use crate::migrate::{self, MigrateError, Run, Scripts, ScriptsError};

/// A look as a whole takes this long at most.
const LIMIT: Duration = Duration::from_secs(5);
/// A transaction of its own, so that the limits go with it and the connection can be used again. A migration may hold
/// `alembic_version` exclusively: waiting long for it would only queue readers up behind a writer.
const BEGIN: &str =
    "BEGIN READ ONLY; SET LOCAL lock_timeout TO '1s'; SET LOCAL statement_timeout TO '4s'";

/// The collector of one database.
#[derive(Debug)]
pub(super) struct Migrations {
    control: Control,
    metrics: Arc<MigrationMetrics>,
    collector: Arc<CollectorMetrics>,
    every: Duration,
    source: Option<PathBuf>,
    alembic: Option<PathBuf>,
    /// What was said of the last look; the same is not said again.
    said: Option<String>,
    /// Whom runs waited for when that was said.
    blocked: Vec<String>,
}

/// Why a look failed.
#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Control(#[from] ControlError),
    #[error(transparent)]
    Scripts(#[from] ScriptsError),
    #[error(transparent)]
    Table(#[from] MigrateError),
    #[error("the reader of scripts was cut off")]
    CutOff(#[from] tokio::task::JoinError),
    #[error("no answer within {LIMIT:?}")]
    Deadline,
}

impl From<tokio_postgres::Error> for LookError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Control(error.into())
    }
}

impl Migrations {
    /// `None` where the settings want none.
    pub(super) fn new(control: Control, metrics: &Metrics, settings: &Settings) -> Option<Self> {
        let settings = &settings.migrate;
        Some(Self {
            control,
            every: settings.watch?,
            metrics: metrics.migrations(),
            collector: metrics.collector("migrations"),
            source: settings.source.clone(),
            alembic: settings.alembic_source.clone(),
            said: None,
            blocked: Vec::new(),
        })
    }

    /// Looks until told to stop.
    pub(super) async fn run(mut self, stopping: impl Future<Output = ()>) {
        tokio::pin!(stopping);
        loop {
            tokio::select! {
                // A look that is cut off closes its connection.
                () = self.once() => {}
                () = &mut stopping => return,
            }
            tokio::select! {
                () = tokio::time::sleep(self.every) => {}
                () = &mut stopping => return,
            }
        }
    }

    async fn once(&mut self) {
        let began = Instant::now();
        let looked = tokio::time::timeout(LIMIT, self.look()).await;
        let looked = looked.unwrap_or(Err(LookError::Deadline));
        self.collector.collected(began.elapsed(), looked.is_ok());
        let failed = looked.err().map(|error| chain(&error));
        if let Some(error) = failed.as_ref().filter(|_| failed != self.said) {
            tracing::warn!(error, "the migrations of the database were not looked at");
        }
        self.said = failed;
    }

    async fn look(&mut self) -> Result<(), LookError> {
        let session = self.control.session().await.map_err(ControlError::from)?;
        session.batch_execute(BEGIN).await?;
        let runs = migrate::runs(&session, &self.control.config().database).await?;
        // Before what a run may keep from being read.
        self.show(&runs);
        let stood = self.stands(&session).await;
        session.batch_execute("ROLLBACK").await?;
        session.reuse();
        stood
    }

    async fn stands(&self, session: &Session) -> Result<(), LookError> {
        let (source, alembic) = (self.source.clone(), self.alembic.clone());
        let reading = move || Scripts::read(source.as_deref(), alembic.as_deref());
        let scripts = tokio::task::spawn_blocking(reading).await??;
        for (tool, stand) in migrate::stands(session, &scripts).await? {
            self.metrics.stands(tool, &stand.versions, stand.pending);
        }
        Ok(())
    }

    fn show(&mut self, runs: &[Run]) {
        for tool in MigrationTool::ALL {
            let of_tool = runs.iter().filter(|run| run.tool == tool);
            self.metrics.running(tool, sum(of_tool));
        }
        let mut blocked = Vec::new();
        for Run {
            tool,
            pid,
            waits_for,
            ..
        } in runs
        {
            if waits_for.is_empty() {
                continue;
            }
            let who: Vec<_> = waits_for.iter().map(|other| other.who.as_str()).collect();
            let who = who.join("; ");
            let line = format!("{} {pid} {who}", tool.label());
            if !self.blocked.contains(&line) {
                tracing::warn!(
                    tool = tool.label(),
                    pid,
                    waits_for = who,
                    "a migration waits for locks of others"
                );
            }
            blocked.push(line);
        }
        self.blocked = blocked;
    }
}

/// Several runs of one tool as one: the longest, and all whom they wait for.
fn sum<'a>(runs: impl Iterator<Item = &'a Run>) -> Option<MigrationRun> {
    runs.fold(None, |sum, run| {
        let mut sum: MigrationRun = sum.unwrap_or_default();
        let seconds = run.seconds.filter(|seconds| *seconds >= 0.0);
        sum.took = sum
            .took
            .max(Duration::from_secs_f64(seconds.unwrap_or(0.0)));
        for other in &run.waits_for {
            sum.blockers[other.kind as usize] += 1;
        }
        Some(sum)
    })
}

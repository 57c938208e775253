//! Where the watched database's migrations stand, as the last look found it, and how that look itself fared.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

use super::families as f;
use super::labels::{Blocker, MigrationTool};
use super::scrape::Scrape;

/// The versions of one tool that get a series of their own, at most. Alembic has one for each head; a table that holds
/// more is no table of its, and must not fill a scrape. `poolwatch_migration_heads` counts them all.
const MOST_VERSIONS: usize = 16;
/// The longest version that is shown, in characters: twice what Alembic's column holds.
const LONGEST_VERSION: usize = 64;

/// A run that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MigrationRun {
    /// For how long, at most.
    pub took: Duration,
    /// The sessions whose locks it waits for, in the order of [`Blocker::ALL`].
    pub blockers: [usize; Blocker::COUNT],
}

/// The figures of all tools.
#[derive(Debug, Default)]
pub struct MigrationMetrics {
    tools: Mutex<[Tool; MigrationTool::COUNT]>,
}

/// What is known of one tool.
#[derive(Debug, Default)]
struct Tool {
    versions: Vec<String>,
    heads: usize,
    pending: Option<usize>,
    run: Option<MigrationRun>,
}

impl MigrationMetrics {
    /// The database stands at these versions, and so many scripts were not run; `None` where nobody knows of scripts.
    pub fn stands(&self, tool: MigrationTool, versions: &[String], pending: Option<usize>) {
        let shown = versions.iter().take(MOST_VERSIONS);
        let versions_shown = shown
            .map(|version| version.chars().take(LONGEST_VERSION).collect())
            .collect();
        let tool = &mut self.tools.lock()[tool as usize];
        tool.versions = versions_shown;
        tool.heads = versions.len();
        tool.pending = pending;
    }

    /// A run is under way, or none is.
    pub fn running(&self, tool: MigrationTool, run: Option<MigrationRun>) {
        self.tools.lock()[tool as usize].run = run;
    }

    pub(super) fn collect(&self, out: &mut Scrape) {
        for (tool, known) in MigrationTool::ALL.iter().zip(self.tools.lock().iter()) {
            let name = tool.label();
            // Two that differ behind what is shown would be one series twice, which no scraper takes.
            let mut versions = known.versions.clone();
            versions.sort();
            versions.dedup();
            for version in &versions {
                out.gauge(&f::MIGRATION_INFO, &[name, version], 1.0);
            }
            out.gauge(&f::MIGRATION_HEADS, &[name], known.heads as f64);
            if let Some(pending) = known.pending {
                out.gauge(&f::MIGRATIONS_PENDING, &[name], pending as f64);
            }
            let run = known.run.unwrap_or_default();
            let running = f64::from(u8::from(known.run.is_some()));
            out.gauge(&f::MIGRATION_RUNNING, &[name], running);
            out.gauge(&f::MIGRATION_RUN_TIME, &[name], run.took.as_secs_f64());
            for blocker in Blocker::ALL {
                let count = run.blockers[blocker as usize] as f64;
                out.gauge(&f::MIGRATION_BLOCKERS, &[name, blocker.label()], count);
            }
        }
    }
}

/// How one collector fares: who asks PostgreSQL on a timer, and shows what it found.
#[derive(Debug)]
pub struct CollectorMetrics {
    name: &'static str,
    last: Mutex<Last>,
}

#[derive(Debug, Default)]
struct Last {
    took: Duration,
    succeeded: bool,
    /// Since 1970; zero before the first success.
    success: Duration,
}

impl CollectorMetrics {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            last: Mutex::default(),
        }
    }

    /// A collection ended.
    pub fn collected(&self, took: Duration, succeeded: bool) {
        let mut last = self.last.lock();
        last.took = took;
        last.succeeded = succeeded;
        if succeeded {
            let now = SystemTime::now().duration_since(UNIX_EPOCH);
            // A clock before 1970 is the operator's to see.
            last.success = now.unwrap_or_default();
        }
    }

    pub(super) fn is(&self, name: &str) -> bool {
        self.name == name
    }

    pub(super) fn collect(&self, out: &mut Scrape) {
        let last = self.last.lock();
        let labels = [self.name];
        let succeeded = f64::from(u8::from(last.succeeded));
        let success = last.success.as_secs_f64();
        out.gauge(&f::COLLECTOR_DURATION, &labels, last.took.as_secs_f64());
        out.gauge(&f::COLLECTOR_SUCCESS, &labels, succeeded);
        out.gauge(&f::COLLECTOR_LAST_SUCCESS, &labels, success);
    }
}

//! Every query that has ended: which one it was, how long it took and where, and which were slow.
//!
//! Reading order: [`Finished`] is one query, [`Query`] its fingerprint's place, `table` all of them; `statistics`,
//! `histogram` and `windows` are what is added up; `slow` is the log of slow ones, `views` what is shown.
//!
//! Sessions hold a [`Query`] with each statement that they know, so a query that ends adds to atomics and looks nothing
//! up. Nothing here waits for anything, and nobody who reads figures holds what a query needs.

mod asked;
mod entry;
mod finished;
mod histogram;
mod slow;
mod statistics;
mod table;
mod thresholds;
mod views;
mod windows;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use tokio::time::Instant;

pub use asked::Asked;
pub use entry::{Description, Query};
pub use finished::{Finished, Phases, SqlState};
pub use histogram::RELATIVE_ERROR;
pub use slow::{Circumstances, Origin, SlowQuery};
pub use thresholds::{Slow, SlowRule, SlowRuleError};
pub use views::{Figures, QueriesView, QueryView, SeriesValues};
pub use windows::{TICK, Window};

use crate::metrics::{QuerySamples, QuerySeries};
use crate::sql::Fingerprint;
use slow::SlowLog;
use table::Table;

/// How queries are observed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Fingerprints that have a place of their own; the others are counted together. At least 1.
    pub max_fingerprints: usize,
    /// Of those, how many have series of their own.
    pub top_k: usize,
    /// Which queries are slow.
    pub slow: Slow,
    /// How many slow ones are kept in memory.
    pub slow_log_size: usize,
    /// How many of them are kept and logged in a second, at most.
    pub slow_log_rate: u32,
    /// Whether the text of a slow query is kept as it was sent, with its literals.
    pub log_literals: bool,
}

/// The queries of this process. Clones share them.
#[derive(Debug, Clone)]
pub struct Queries(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    table: Table,
    slow: SlowLog,
    log_literals: bool,
}

impl Queries {
    /// Of which nothing is known so far.
    pub fn new(config: Config) -> Self {
        let slow = SlowLog::new(
            config.slow.clone(),
            config.slow_log_size,
            config.slow_log_rate,
        );
        Self(Arc::new(Shared {
            log_literals: config.log_literals,
            table: Table::new(config),
            slow,
        }))
    }

    /// The place of a fingerprint. `describe` is asked where it has none.
    #[inline]
    pub fn place(
        &self,
        fingerprint: Fingerprint,
        describe: impl FnOnce() -> Arc<Description>,
    ) -> Query {
        self.0.table.place(fingerprint, describe)
    }

    /// The place that a query's fingerprint has now, where the table has given the one that it had to another.
    #[inline]
    pub fn current(&self, query: &Query) -> Option<Query> {
        self.0.table.current(query)
    }

    /// What queries of a fingerprint look like, while it has a place.
    pub fn description(&self, fingerprint: Fingerprint) -> Option<Arc<Description>> {
        let entries = self.0.table.entries.pin();
        entries
            .get(&fingerprint)
            .map(|entry| Arc::clone(&entry.description))
    }

    /// A query ended at this moment. `circumstances` are asked where it was slow.
    #[inline]
    pub fn finished(
        &self,
        query: &Query,
        finished: &Finished,
        origin: &Arc<Origin>,
        now: Instant,
        circumstances: impl FnOnce() -> Circumstances,
    ) {
        let Shared { table, slow, .. } = &*self.0;
        table.record(query, finished, now);
        if finished.over && slow.may_be_slow(finished.took()) {
            let moments = (now, table.wall(now));
            slow.offer(
                query.description(),
                finished,
                origin,
                moments,
                circumstances,
            );
        }
    }

    /// A query will never end: its client left, or its server was lost.
    pub fn unfinished(&self, query: &Query) {
        query.0.unfinished.fetch_add(1, Ordering::Relaxed);
    }

    /// A query came with these tags.
    pub fn tagged(&self, query: &Query, tags: &str) {
        query.0.tagged(tags);
    }

    /// Whether literals are to be kept for the log.
    pub fn keeps_literals(&self) -> bool {
        self.0.log_literals
    }

    /// To be called every [`TICK`].
    pub fn tick(&self) {
        self.0.table.tick();
    }

    /// All queries over a window.
    pub fn view(&self, window: Window) -> QueriesView {
        self.0.table.view(window)
    }

    /// Slow queries, newest first, so many at most of those that `wanted` says.
    pub fn slow(&self, limit: usize, wanted: impl Fn(&SlowQuery) -> bool) -> Vec<Arc<SlowQuery>> {
        self.0.slow.newest(limit, wanted)
    }

    /// How many queries were slow, and how many of them were not kept, since there were too many at once.
    pub fn slow_counts(&self) -> (u64, u64) {
        self.0.slow.counts()
    }

    /// From when on a query is slow.
    pub fn slow_thresholds(&self) -> Arc<Slow> {
        self.0.slow.thresholds().get()
    }

    /// The same from now on.
    pub fn set_slow_thresholds(&self, slow: Slow) {
        self.0.slow.thresholds().set(slow);
    }

    /// Forgets the figures of fingerprints and the slow queries. What is exported goes on.
    pub fn reset(&self) {
        self.0.table.reset();
        self.0.slow.clear();
    }

    /// Bytes that the table of fingerprints holds, about.
    pub fn size(&self) -> usize {
        self.0.table.size()
    }

    /// What is exported.
    pub fn samples(&self) -> QuerySamples {
        let Shared { table, slow, .. } = &*self.0;
        let series = |values: SeriesValues| QuerySeries {
            calls: values.calls,
            errors: values.errors,
            rows: values.rows,
            seconds: values.time.as_secs_f64(),
        };
        let entries = table.entries.pin();
        let exported = entries
            .values()
            .filter(|entry| entry.series.on.load(Ordering::Relaxed));
        let (slow_queries, slow_left_out) = slow.counts();
        QuerySamples {
            top: exported
                .map(|entry| {
                    let description = &entry.description;
                    (
                        description.fingerprint.to_string(),
                        description.summary.to_string(),
                        series(entry.series.values()),
                    )
                })
                .collect(),
            other: series(table.other.values()),
            all: series(table.all.values()),
            slow_queries,
            slow_left_out,
            fingerprints: entries.len(),
            limit: table.config.max_fingerprints,
        }
    }

    /// A moment by the clock on the wall.
    pub fn wall(&self, moment: Instant) -> SystemTime {
        self.0.table.wall(moment)
    }
}

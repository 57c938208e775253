//! One fingerprint of the table: what its queries look like, and what is added up of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::finished::{Finished, SqlState};
use super::statistics::Statistics;
use super::windows::Windows;
use crate::sql::Fingerprint;

/// Sets of tags that are counted for a fingerprint.
const TAGS: usize = 16;

/// A fingerprint's place in the table. Sessions keep it with their statements, so that running one looks nothing up.
#[derive(Debug, Clone)]
pub struct Query(pub(super) Arc<Entry>);

/// What queries of one fingerprint have in common.
#[derive(Debug, PartialEq, Eq)]
pub struct Description {
    /// It.
    pub fingerprint: Fingerprint,
    /// OpenTelemetry's `db.query.summary`.
    pub summary: Box<str>,
    /// The text without its literals, of the first one that was met.
    pub text: Box<str>,
    /// The verb: the first word of the text in capitals, or nothing where it begins with no word.
    pub operation: Box<str>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) description: Arc<Description>,
    pub(super) first_seen: SystemTime,
    pub(super) statistics: Statistics,
    pub(super) series: Series,
    /// Time that queries of this fingerprint may have taken before it was admitted, at most: nanoseconds. The table was full.
    pub(super) missed: u64,
    /// It lost its place: what comes yet is counted as the rest's.
    pub(super) retired: AtomicBool,
    /// Nanoseconds from the table's beginning.
    last_seen: AtomicU64,
    /// An SQLSTATE, or 0; and when that was, as above.
    last_error: AtomicU64,
    last_failed: AtomicU64,
    /// Left by their clients, or lost with their servers.
    pub(super) unfinished: AtomicU64,
    /// Taken by the task that ticks and by who looks, never by a query.
    pub(super) windows: Mutex<Windows>,
    /// Taken by queries that have tags and by who looks at them; a scrape does not.
    tags: Mutex<Vec<(Box<str>, u64)>>,
}

/// What is exported of a fingerprint. It goes on where it ended when the fingerprint is exported again, so it never falls.
#[derive(Debug, Default)]
pub(super) struct Series {
    pub(super) on: AtomicBool,
    pub(super) calls: AtomicU64,
    pub(super) errors: AtomicU64,
    pub(super) rows: AtomicU64,
    /// Of all phases.
    pub(super) nanoseconds: AtomicU64,
}

impl Entry {
    pub(super) fn new(description: Arc<Description>, missed: u64) -> Self {
        Self {
            description,
            first_seen: SystemTime::now(),
            statistics: Statistics::default(),
            series: Series::default(),
            missed,
            retired: AtomicBool::new(false),
            last_seen: AtomicU64::new(0),
            last_error: AtomicU64::new(0),
            last_failed: AtomicU64::new(0),
            unfinished: AtomicU64::new(0),
            windows: Mutex::default(),
            tags: Mutex::default(),
        }
    }

    /// Adds a query that ended so long after the table's beginning.
    #[inline]
    pub(super) fn add(&self, finished: &Finished, at: Duration) {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX);
        self.last_seen.store(at, Ordering::Relaxed);
        if let Some(failure) = finished.failure {
            self.last_failed.store(at, Ordering::Relaxed);
            self.last_error.store(failure.to_bits(), Ordering::Relaxed);
        }
        self.statistics.add(finished);
    }

    /// What its queries have taken, or may have: what the table ranks by.
    pub(super) fn weight(&self) -> u64 {
        self.missed.saturating_add(self.statistics.total())
    }

    pub(super) fn last_seen(&self) -> Duration {
        Duration::from_nanos(self.last_seen.load(Ordering::Relaxed))
    }

    pub(super) fn last_error(&self) -> Option<(SqlState, Duration)> {
        let state = SqlState::from_bits(self.last_error.load(Ordering::Relaxed))?;
        let at = self.last_failed.load(Ordering::Relaxed);
        Some((state, Duration::from_nanos(at)))
    }

    /// One more query with these tags. A set that has no place takes that of the rarest, with its count, so that a frequent one
    /// is never missed (space-saving).
    pub(super) fn tagged(&self, tags: &str) {
        let mut counts = self.tags.lock();
        if let Some((_, count)) = counts.iter_mut().find(|(known, _)| **known == *tags) {
            *count += 1;
        } else if counts.len() < TAGS {
            counts.push((tags.into(), 1));
        } else if let Some(rarest) = counts.iter_mut().min_by_key(|(_, count)| *count) {
            *rarest = (tags.into(), rarest.1 + 1);
        }
    }

    /// The sets of tags with how often they came, at most; the most frequent first.
    pub(super) fn tags(&self) -> Vec<(Box<str>, u64)> {
        let mut tags = self.tags.lock().clone();
        tags.sort_by(|(one, many), (two, more)| more.cmp(many).then_with(|| one.cmp(two)));
        tags
    }
}

impl Series {
    #[inline]
    pub(super) fn add(&self, finished: &Finished) {
        let failed = u64::from(finished.over && finished.failure.is_some());
        for (sum, more) in [
            (&self.calls, u64::from(finished.over)),
            (&self.errors, failed),
            (&self.rows, finished.rows),
            (&self.nanoseconds, finished.took()),
        ] {
            if more > 0 {
                sum.fetch_add(more, Ordering::Relaxed);
            }
        }
    }
}

impl Query {
    /// What it looks like.
    pub fn description(&self) -> &Arc<Description> {
        &self.0.description
    }
}

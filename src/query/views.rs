//! What is known of queries, as it is shown.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use super::entry::{Description, Entry, Series};
use super::finished::{Phases, SqlState};
use super::statistics::{Range, Sums};
use super::table::Table;
use super::windows::Window;

/// One fingerprint.
#[derive(Debug, Clone)]
pub struct QueryView {
    /// What its queries look like.
    pub description: Arc<Description>,
    /// What they come to over the window that was asked for.
    pub figures: Figures,
    /// When it was admitted to the table.
    pub first_seen: SystemTime,
    /// When one ended last.
    pub last_seen: SystemTime,
    /// The last error of one, and when that was.
    pub last_error: Option<(SqlState, SystemTime)>,
    /// How many never ended: their clients left, or their servers were lost. They are in no other figure.
    pub unfinished: u64,
    /// The most frequent sets of tags, and how often each came, at most.
    pub tags: Vec<(Box<str>, u64)>,
    /// The table was full when it came: what its queries before that took, at most.
    pub missed_at_most: Duration,
}

/// What some queries come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many ended.
    pub calls: u64,
    /// How many of them with an error.
    pub errors: u64,
    /// Rows that they returned or changed.
    pub rows: u64,
    /// Bytes of the messages that asked for them.
    pub received: u64,
    /// Bytes of the messages that answered them.
    pub sent: u64,
    /// Their time together, by where it went.
    pub phases: Phases,
    /// The shortest.
    pub min: Option<Duration>,
    /// The longest.
    pub max: Option<Duration>,
    /// Half took no longer; right within [`RELATIVE_ERROR`](super::RELATIVE_ERROR), like the next two.
    pub p50: Option<Duration>,
    /// 95 of 100 took no longer.
    pub p95: Option<Duration>,
    /// 99 of 100 took no longer.
    pub p99: Option<Duration>,
}

/// All of them.
#[derive(Debug, Clone)]
pub struct QueriesView {
    /// Those in the table, in no order. Those without anything in the window are left out.
    pub queries: Vec<QueryView>,
    /// Those that have lost their places, together.
    pub rest: Figures,
    /// The table and the rest.
    pub total: Figures,
    /// How many fingerprints are in the table.
    pub fingerprints: usize,
    /// How many there is room for.
    pub limit: usize,
}

/// What is exported of one fingerprint, or of several together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SeriesValues {
    /// Queries that ended.
    pub calls: u64,
    /// Those with an error.
    pub errors: u64,
    /// Their rows.
    pub rows: u64,
    /// Their time.
    pub time: Duration,
}

impl Table {
    pub(super) fn view(&self, window: Window) -> QueriesView {
        let ticks = self.ticks.load(Ordering::Relaxed);
        let mut total = (Sums::default(), None);
        let mut add = |sums: &Sums, range: Option<Range>| {
            total.0 = total.0.with(sums);
            total.1 = match (total.1, range) {
                (Some(one), Some(two)) => Some(Range::with(one, two)),
                (one, two) => one.or(two),
            };
        };
        let entries = self.entries.pin();
        let mut queries = Vec::with_capacity(entries.len());
        for entry in entries.values() {
            let (sums, range) = entry.windows.lock().over(window, ticks, &entry.statistics);
            add(&sums, range);
            if !sums.is_empty() || entry.unfinished.load(Ordering::Relaxed) > 0 {
                queries.push(self.query_view(entry, &sums, range));
            }
        }
        let (sums, range) = self.rest_windows.lock().over(window, ticks, &self.rest);
        add(&sums, range);
        QueriesView {
            queries,
            rest: Figures::of(&sums, range),
            total: Figures::of(&total.0, total.1),
            fingerprints: entries.len(),
            limit: self.config.max_fingerprints,
        }
    }

    fn query_view(&self, entry: &Entry, sums: &Sums, range: Option<Range>) -> QueryView {
        QueryView {
            description: Arc::clone(&entry.description),
            figures: Figures::of(sums, range),
            first_seen: entry.first_seen,
            last_seen: self.at(entry.last_seen()),
            last_error: entry.last_error().map(|(state, at)| (state, self.at(at))),
            unfinished: entry.unfinished.load(Ordering::Relaxed),
            tags: entry.tags(),
            missed_at_most: Duration::from_nanos(entry.missed),
        }
    }

    /// Bytes that the table holds on the heap, about.
    pub(super) fn size(&self) -> usize {
        let entries = self.entries.pin();
        let each = entries.values().map(|entry| {
            let description = &entry.description;
            size_of::<Entry>()
                + description.text.len()
                + description.summary.len()
                + entry.statistics.sums().durations.size()
                + entry.windows.lock().size()
        });
        each.sum()
    }
}

impl Figures {
    fn of(sums: &Sums, range: Option<Range>) -> Self {
        let range = range.filter(|_| sums.calls > 0);
        let quantile = |q| {
            // The middle of a bucket may lie beyond what was in it.
            let found = sums.durations.quantile(q)?;
            let (min, max) = range.map(|range| (range.shortest, range.longest))?;
            Some(found.clamp(Duration::from_nanos(min), Duration::from_nanos(max)))
        };
        Self {
            calls: sums.calls,
            errors: sums.errors,
            rows: sums.rows,
            received: sums.received,
            sent: sums.sent,
            phases: Phases::from_nanoseconds(sums.phases),
            min: range.map(|range| Duration::from_nanos(range.shortest)),
            max: range.map(|range| Duration::from_nanos(range.longest)),
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
        }
    }

    /// Their time together, waits included.
    pub fn total(&self) -> Duration {
        self.phases.total()
    }

    /// A call's share of that; none without calls.
    pub fn mean(&self) -> Option<Duration> {
        (self.calls > 0).then(|| self.total().div_f64(self.calls as f64))
    }
}

impl Series {
    pub(super) fn values(&self) -> SeriesValues {
        let get = |sum: &std::sync::atomic::AtomicU64| sum.load(Ordering::Relaxed);
        SeriesValues {
            calls: get(&self.calls),
            errors: get(&self.errors),
            rows: get(&self.rows),
            time: Duration::from_nanos(get(&self.nanoseconds)),
        }
    }
}

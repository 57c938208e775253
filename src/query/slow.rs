//! The log of slow queries: the last ones in memory, and each as a line of the log.
//!
//! A flood of them, when the database stands still, must not become a flood of lines: so many a second are kept, and the
//! others are counted.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::entry::Description;
use super::finished::{Finished, Phases, SqlState};
use super::thresholds::{Slow, Thresholds};

/// Whose query it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The user that the client logged in as.
    pub user: String,
    /// The database.
    pub database: String,
    /// What the client called itself at its login; empty if it did not.
    pub application: String,
    /// The pool, `user@host:port/database`.
    pub pool: String,
}

/// What is known of one query beside its figures.
#[derive(Debug, Clone, Default)]
pub struct Circumstances {
    /// The client's number in the table of clients.
    pub client: u64,
    /// The process of the server that ran it.
    pub server_pid: Option<i32>,
    /// Whether the session kept its server beyond the transaction.
    pub pinned: bool,
    /// SQLCommenter's tags, as `key='value',…`, sorted; none without.
    pub tags: Option<Arc<str>>,
    /// The trace of `traceparent`: 32 hexadecimal digits.
    pub trace_id: Option<Arc<str>>,
    /// The text as it was sent, where `queries.log_literals` is on.
    pub literal: Option<Arc<str>>,
}

/// A query that took long.
#[derive(Debug, Clone)]
pub struct SlowQuery {
    /// Counts up by one with each that is kept.
    pub number: u64,
    /// When it ended.
    pub at: SystemTime,
    /// What it looks like.
    pub description: Arc<Description>,
    /// Where its time went.
    pub phases: Phases,
    /// Rows that it returned or changed.
    pub rows: u64,
    /// Bytes of the messages that asked for it.
    pub received: u64,
    /// Bytes of the messages that answered it.
    pub sent: u64,
    /// The error that ended it.
    pub failure: Option<SqlState>,
    /// Whose it was.
    pub origin: Arc<Origin>,
    /// What else is known.
    pub circumstances: Circumstances,
}

/// The log.
#[derive(Debug)]
pub(super) struct SlowLog {
    thresholds: Thresholds,
    size: usize,
    per_second: u32,
    /// Taken by queries that are slow and by who reads the log; a scrape does not.
    kept: Mutex<Kept>,
    seen: AtomicU64,
    left_out: AtomicU64,
}

#[derive(Debug, Default)]
struct Kept {
    newest_last: VecDeque<Arc<SlowQuery>>,
    number: u64,
    /// How many have been kept in the second that began then.
    second: Option<(Instant, u32)>,
}

impl SlowLog {
    pub(super) fn new(slow: Slow, size: usize, per_second: u32) -> Self {
        Self {
            thresholds: Thresholds::new(slow),
            size,
            per_second,
            kept: Mutex::default(),
            seen: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }
    }

    pub(super) fn thresholds(&self) -> &Thresholds {
        &self.thresholds
    }

    /// Whether a query that took so long may be slow: the one question that every query asks.
    #[inline]
    pub(super) fn may_be_slow(&self, nanoseconds: u64) -> bool {
        nanoseconds >= self.thresholds.lowest()
    }

    /// Keeps a query if it is slow by the threshold that is its own, and if there is room this second.
    #[cold]
    pub(super) fn offer(
        &self,
        description: &Arc<Description>,
        finished: &Finished,
        origin: &Arc<Origin>,
        (now, at): (Instant, SystemTime),
        circumstances: impl FnOnce() -> Circumstances,
    ) {
        let took = finished.phases.total();
        let limit = self.thresholds.of(origin, &description.operation);
        if took < limit {
            return;
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
        let mut slow = SlowQuery {
            number: 0,
            at,
            description: Arc::clone(description),
            phases: finished.phases,
            rows: finished.rows,
            received: finished.received,
            sent: finished.sent,
            failure: finished.failure,
            origin: Arc::clone(origin),
            circumstances: circumstances(),
        };
        let Some(number) = self.kept.lock().number(now, self.per_second) else {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        };
        slow.number = number;
        slow.log();
        self.kept.lock().push(Arc::new(slow), self.size);
    }

    /// Newest first, those that `wanted` says.
    pub(super) fn newest(
        &self,
        limit: usize,
        wanted: impl Fn(&SlowQuery) -> bool,
    ) -> Vec<Arc<SlowQuery>> {
        // Copied first: who filters must not make a query wait.
        let kept: Vec<_> = self.kept.lock().newest_last.iter().cloned().collect();
        let newest = kept.into_iter().rev();
        newest.filter(|slow| wanted(slow)).take(limit).collect()
    }

    /// How many there were, and how many of them were left out.
    pub(super) fn counts(&self) -> (u64, u64) {
        // In this order: what was left out was seen.
        let left_out = self.left_out.load(Ordering::Relaxed);
        (self.seen.load(Ordering::Relaxed), left_out)
    }

    pub(super) fn clear(&self) {
        let cleared = std::mem::take(&mut self.kept.lock().newest_last);
        drop(cleared);
    }
}

impl Kept {
    /// The number of one more, if the second has room for it.
    fn number(&mut self, now: Instant, per_second: u32) -> Option<u64> {
        let (began, kept) = self
            .second
            .filter(|(began, _)| now.saturating_duration_since(*began) < Duration::from_secs(1))
            .unwrap_or((now, 0));
        if kept >= per_second {
            return None;
        }
        self.second = Some((began, kept + 1));
        self.number += 1;
        Some(self.number)
    }

    fn push(&mut self, slow: Arc<SlowQuery>, size: usize) {
        // Another thread may have pushed a later number meanwhile.
        let place = self
            .newest_last
            .partition_point(|kept| kept.number < slow.number);
        self.newest_last.insert(place, slow);
        while self.newest_last.len() > size {
            self.newest_last.pop_front();
        }
    }
}

impl SlowQuery {
    /// One line of the log.
    fn log(&self) {
        let seconds = |duration: Duration| duration.as_secs_f64();
        let Circumstances {
            client,
            server_pid,
            pinned,
            tags,
            trace_id,
            literal,
        } = &self.circumstances;
        tracing::warn!(
            target: "poolwatch::slow_query",
            fingerprint = %self.description.fingerprint,
            summary = &*self.description.summary,
            took_seconds = seconds(self.phases.total()),
            wait_seconds = seconds(self.phases.wait),
            connect_seconds = seconds(self.phases.connect),
            execute_seconds = seconds(self.phases.execute),
            transfer_seconds = seconds(self.phases.transfer),
            rows = self.rows,
            sqlstate = self.failure.as_ref().map(SqlState::as_str),
            user = self.origin.user,
            database = self.origin.database,
            application = self.origin.application,
            client,
            server_pid,
            pinned,
            tags = tags.as_deref(),
            trace_id = trace_id.as_deref(),
            text = &*self.description.text,
            literal = literal.as_deref(),
            "slow query"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Fingerprint;

    fn log(size: usize, per_second: u32) -> SlowLog {
        let slow = Slow {
            threshold: Duration::from_millis(500),
            rules: Vec::new(),
        };
        SlowLog::new(slow, size, per_second)
    }

    fn offer(log: &SlowLog, milliseconds: u64, now: Instant) {
        let description = Description::new(
            Fingerprint(milliseconds),
            "SELECT".to_owned(),
            "SELECT $1".to_owned(),
            "SELECT".to_owned(),
        );
        let origin = Arc::new(Origin {
            user: "app".to_owned(),
            database: "shop".to_owned(),
            application: String::new(),
            pool: "app@db:5432/shop".to_owned(),
        });
        let finished = Finished {
            phases: Phases {
                execute: Duration::from_millis(milliseconds),
                ..Phases::default()
            },
            rows: 1,
            received: 10,
            sent: 20,
            failure: None,
            over: true,
        };
        let at = (now, SystemTime::now());
        log.offer(&description, &finished, &origin, at, Circumstances::default);
    }

    fn durations(log: &SlowLog) -> Vec<u128> {
        let newest = log.newest(usize::MAX, |_| true).into_iter();
        newest.map(|slow| slow.phases.execute.as_millis()).collect()
    }

    #[test]
    fn the_newest_are_kept_newest_first() {
        let (log, now) = (log(3, 100), Instant::now());
        for milliseconds in [499, 500, 501, 502, 503] {
            offer(&log, milliseconds, now);
        }
        assert_eq!(durations(&log), [503, 502, 501]);
        assert_eq!(log.counts(), (4, 0));
        let two = log.newest(1, |slow| slow.phases.execute < Duration::from_millis(503));
        assert_eq!(two[0].phases.execute, Duration::from_millis(502));
        assert!(!log.may_be_slow(499_999_999) && log.may_be_slow(500_000_000));
    }

    #[test]
    fn a_flood_is_sampled_and_what_is_left_out_is_counted() {
        let (log, begin) = (log(100, 2), Instant::now());
        for number in 0..10 {
            offer(&log, 600 + number, begin);
        }
        assert_eq!(durations(&log), [601, 600]);
        assert_eq!(log.counts(), (10, 8));
        offer(&log, 700, begin + Duration::from_secs(1));
        assert_eq!(durations(&log), [700, 601, 600]);
        assert_eq!(log.counts(), (11, 8));
    }
}

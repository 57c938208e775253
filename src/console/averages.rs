//! Figures over the last one to two periods, as PgBouncer has them: from the sample before the last one to now.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::status::PoolTotals;

/// The counts of each database.
pub(super) type ByDatabase = BTreeMap<String, PoolTotals>;

/// Two samples.
#[derive(Debug)]
pub(super) struct Averages {
    older: Sample,
    newer: Sample,
}

#[derive(Debug, Clone)]
struct Sample {
    at: Instant,
    counts: ByDatabase,
}

impl Averages {
    /// Nothing was counted before `at`.
    pub(super) fn new(at: Instant) -> Self {
        let counts = ByDatabase::new();
        let first = Sample { at, counts };
        Self {
            older: first.clone(),
            newer: first,
        }
    }

    /// A period is over.
    pub(super) fn sample(&mut self, counts: ByDatabase, at: Instant) {
        self.older = std::mem::replace(&mut self.newer, Sample { at, counts });
    }

    /// What this database has counted since the older sample, and how long that is.
    pub(super) fn since(
        &self,
        database: &str,
        now: &PoolTotals,
        at: Instant,
    ) -> (PoolTotals, Duration) {
        let before = self.older.counts.get(database).copied().unwrap_or_default();
        (
            less(now, &before),
            at.saturating_duration_since(self.older.at),
        )
    }
}

/// All counts of both.
pub(super) fn plus(a: &PoolTotals, b: &PoolTotals) -> PoolTotals {
    each(a, b, |a, b| a.saturating_add(b), Duration::saturating_add)
}

/// What `now` has more than `before`. A pool that was forgotten meanwhile took its counts with it.
fn less(now: &PoolTotals, before: &PoolTotals) -> PoolTotals {
    each(
        now,
        before,
        |a, b| a.saturating_sub(b),
        Duration::saturating_sub,
    )
}

fn each(
    a: &PoolTotals,
    b: &PoolTotals,
    count: impl Fn(u64, u64) -> u64,
    time: impl Fn(Duration, Duration) -> Duration,
) -> PoolTotals {
    PoolTotals {
        transactions: count(a.transactions, b.transactions),
        transaction_time: time(a.transaction_time, b.transaction_time),
        queries: count(a.queries, b.queries),
        query_time: time(a.query_time, b.query_time),
        wait_time: time(a.wait_time, b.wait_time),
        assignments: count(a.assignments, b.assignments),
        received: count(a.received, b.received),
        sent: count(a.sent, b.sent),
        logins: count(a.logins, b.logins),
        statements: std::array::from_fn(|at| count(a.statements[at], b.statements[at])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn averages_reach_back_one_to_two_periods() {
        let period = Duration::from_secs(60);
        let start = Instant::now();
        let mut averages = Averages::new(start);
        let counted = |transactions| PoolTotals {
            transactions,
            ..PoolTotals::default()
        };
        let since = |averages: &Averages, now, at| {
            let (since, over) = averages.since("a", &counted(now), at);
            (since.transactions, over.as_secs())
        };
        assert_eq!(since(&averages, 5, start + period / 2), (5, 30));
        let sample = |count| ByDatabase::from([("a".to_owned(), counted(count))]);
        averages.sample(sample(10), start + period);
        assert_eq!(since(&averages, 12, start + period), (12, 60));
        averages.sample(sample(30), start + 2 * period);
        assert_eq!(since(&averages, 30, start + 2 * period), (20, 60));
        assert_eq!(since(&averages, 40, start + 3 * period), (30, 120));
        assert_eq!(
            since(&averages, 0, start + 3 * period),
            (0, 120),
            "the pool is gone"
        );
    }
}

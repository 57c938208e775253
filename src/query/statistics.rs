//! What is added up of finished queries, and what it comes to.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::finished::{Finished, PHASES};
use super::histogram::{Counts, Histogram};

/// The sums over some queries. All are atomics: a query adds to them, and whoever looks reads.
#[derive(Debug, Default)]
pub(super) struct Statistics {
    errors: AtomicU64,
    rows: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    /// Nanoseconds.
    phases: [AtomicU64; PHASES],
    durations: Histogram,
    /// The shortest, as its complement, so that 0 is none; and the longest. In nanoseconds, since somebody took them.
    shortest: AtomicU64,
    longest: AtomicU64,
    /// Written last and taken first: see [`move_into`](Self::move_into).
    calls: AtomicU64,
}

/// The sums at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Sums {
    pub(super) calls: u64,
    pub(super) errors: u64,
    pub(super) rows: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    pub(super) phases: [u64; PHASES],
    pub(super) durations: Counts,
}

/// The shortest and the longest of some durations, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) shortest: u64,
    pub(super) longest: u64,
}

impl Statistics {
    /// Adds a query, or a part of one that goes on.
    #[inline]
    pub(super) fn add(&self, finished: &Finished) {
        add(&self.rows, finished.rows);
        add(&self.received, finished.received);
        add(&self.sent, finished.sent);
        for (sum, phase) in self.phases.iter().zip(finished.phases.nanoseconds()) {
            add(sum, phase);
        }
        if finished.over {
            add(&self.errors, u64::from(finished.failure.is_some()));
            let took = finished.took();
            self.durations.record(took);
            self.extend(took);
        }
        self.calls
            .fetch_add(u64::from(finished.over), Ordering::SeqCst);
    }

    /// Reads before it writes: most durations are neither the shortest nor the longest.
    #[inline]
    fn extend(&self, took: u64) {
        if !took > self.shortest.load(Ordering::Relaxed) {
            self.shortest.fetch_max(!took, Ordering::Relaxed);
        }
        if took > self.longest.load(Ordering::Relaxed) {
            self.longest.fetch_max(took, Ordering::Relaxed);
        }
    }

    /// Time of all of them together, in nanoseconds.
    pub(super) fn total(&self) -> u64 {
        self.phases.iter().map(get).sum()
    }

    /// How many there were.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    /// The sums now. What is being added meanwhile may show in some of them and not in others.
    pub(super) fn sums(&self) -> Sums {
        let calls = self.calls();
        Sums {
            calls,
            errors: get(&self.errors),
            rows: get(&self.rows),
            received: get(&self.received),
            sent: get(&self.sent),
            phases: std::array::from_fn(|phase| get(&self.phases[phase])),
            durations: self.durations.counts(),
        }
    }

    /// The range since it was taken last.
    pub(super) fn range(&self) -> Option<Range> {
        Range::read(get(&self.shortest), get(&self.longest))
    }

    /// The same, and the next one begins now.
    pub(super) fn take_range(&self) -> Option<Range> {
        // What is added between the two is in the old range or in the new one, or with one end in each: never in none.
        let shortest = self.shortest.swap(0, Ordering::Relaxed);
        let longest = self.longest.swap(0, Ordering::Relaxed);
        Range::read(shortest, longest)
    }

    /// Moves everything into another. May be done as often as wanted, and by several at once: each sum is moved whole, and
    /// nothing is lost or counted twice.
    pub(super) fn move_into(&self, other: &Statistics) {
        let calls = self.calls.swap(0, Ordering::SeqCst);
        for (from, to) in [
            (&self.errors, &other.errors),
            (&self.rows, &other.rows),
            (&self.received, &other.received),
            (&self.sent, &other.sent),
        ] {
            add(to, from.swap(0, Ordering::Relaxed));
        }
        for (from, to) in self.phases.iter().zip(&other.phases) {
            add(to, from.swap(0, Ordering::Relaxed));
        }
        self.durations.move_into(&other.durations);
        if let Some(range) = self.take_range() {
            other.extend(range.shortest);
            other.extend(range.longest);
        }
        other.calls.fetch_add(calls, Ordering::SeqCst);
    }
}

impl Sums {
    /// What came since an earlier look.
    pub(super) fn since(&self, before: &Sums) -> Sums {
        Sums {
            calls: self.calls.saturating_sub(before.calls),
            errors: self.errors.saturating_sub(before.errors),
            rows: self.rows.saturating_sub(before.rows),
            received: self.received.saturating_sub(before.received),
            sent: self.sent.saturating_sub(before.sent),
            phases: std::array::from_fn(|phase| {
                self.phases[phase].saturating_sub(before.phases[phase])
            }),
            durations: self.durations.since(&before.durations),
        }
    }

    /// Both together.
    pub(super) fn with(&self, other: &Sums) -> Sums {
        Sums {
            calls: self.calls + other.calls,
            errors: self.errors + other.errors,
            rows: self.rows + other.rows,
            received: self.received + other.received,
            sent: self.sent + other.sent,
            phases: std::array::from_fn(|phase| self.phases[phase] + other.phases[phase]),
            durations: self.durations.with(&other.durations),
        }
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All phases together.
    pub(super) fn total(&self) -> Duration {
        Duration::from_nanos(self.phases.iter().sum())
    }
}

impl Range {
    fn read(shortest: u64, longest: u64) -> Option<Self> {
        // A duration of 0 is the complement of all ones, so 0 is never one that was stored.
        (shortest != 0).then(|| Self {
            shortest: !shortest,
            longest: longest.max(!shortest),
        })
    }

    /// What covers both.
    pub(super) fn with(self, other: Range) -> Range {
        Range {
            shortest: self.shortest.min(other.shortest),
            longest: self.longest.max(other.longest),
        }
    }
}

#[inline]
fn add(sum: &AtomicU64, more: u64) {
    if more > 0 {
        sum.fetch_add(more, Ordering::Relaxed);
    }
}

fn get(sum: &AtomicU64) -> u64 {
    sum.load(Ordering::Relaxed)
}

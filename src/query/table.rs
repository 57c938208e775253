//! The table of fingerprints: as many as there is room for, and the rest together.
//!
//! When the table is full, a newcomer takes the place of the one that has taken least time, and is ranked as if that time
//! were its own (space-saving, Metwally et al. 2005). So whatever took more than the smallest place did is in the table,
//! and what one may have taken before it came is known and shown. What loses its place is added to the rest: nothing
//! that was counted is lost, and the sums over the table and the rest are those of all queries.
//!
//! A query looks its fingerprint up without a lock, in a map that is read while it changes; only the first query of a
//! fingerprint takes one, which no reader of figures takes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::Config;
use super::entry::{Description, Entry, Query, Series};
use super::finished::Finished;
use super::statistics::Statistics;
use super::windows::Windows;
use crate::sql::Fingerprint;

/// Longer texts are cut.
const TEXT: usize = 4096;

/// One that is exported stays so until another has taken this many times its time: rank is not to be lost and won by turns.
const STAYS: f64 = 1.1;

#[derive(Debug)]
pub(super) struct Table {
    pub(super) config: Config,
    pub(super) entries: papaya::HashMap<Fingerprint, Arc<Entry>>,
    admission: Mutex<Admission>,
    /// Of the fingerprints that lost their places.
    pub(super) rest: Statistics,
    pub(super) rest_windows: Mutex<Windows>,
    /// What is exported of the fingerprints that are not exported by themselves, and of all together.
    pub(super) other: Series,
    pub(super) all: Series,
    pub(super) ticks: AtomicU64,
    began: Instant,
    began_at: SystemTime,
}

/// Who is in the table, by what they weighed when they were looked at last; weights only grow.
#[derive(Debug, Default)]
struct Admission(BinaryHeap<Reverse<(u64, Fingerprint)>>);

impl Table {
    pub(super) fn new(config: Config) -> Self {
        Self {
            config,
            entries: papaya::HashMap::new(),
            admission: Mutex::default(),
            rest: Statistics::default(),
            rest_windows: Mutex::default(),
            other: Series::default(),
            all: Series::default(),
            ticks: AtomicU64::new(0),
            began: Instant::now(),
            began_at: SystemTime::now(),
        }
    }

    /// The place of a fingerprint; a new one where it has none.
    #[inline]
    pub(super) fn place(
        &self,
        fingerprint: Fingerprint,
        describe: impl FnOnce() -> Arc<Description>,
    ) -> Query {
        if let Some(known) = self.entries.pin().get(&fingerprint) {
            return Query(Arc::clone(known));
        }
        self.admit(describe())
    }

    /// The place that a fingerprint has now, if it has lost the one that is given.
    #[inline]
    pub(super) fn current(&self, query: &Query) -> Option<Query> {
        let retired = query.0.retired.load(Ordering::Relaxed);
        let description = &query.0.description;
        retired.then(|| self.place(description.fingerprint, || Arc::clone(description)))
    }

    #[cold]
    fn admit(&self, description: Arc<Description>) -> Query {
        let mut admission = self.admission.lock();
        let entries = self.entries.pin();
        // Another thread may have been quicker.
        if let Some(known) = entries.get(&description.fingerprint) {
            return Query(Arc::clone(known));
        }
        let missed = if admission.0.len() < self.config.max_fingerprints.max(1) {
            0
        } else {
            self.make_room(&mut admission)
        };
        let fingerprint = description.fingerprint;
        let entry = Arc::new(Entry::new(description, missed));
        entries.insert(fingerprint, Arc::clone(&entry));
        admission.0.push(Reverse((missed, fingerprint)));
        Query(entry)
    }

    /// Takes out the one that weighs least. Returns what it weighed.
    fn make_room(&self, admission: &mut Admission) -> u64 {
        let entries = self.entries.pin();
        while let Some(Reverse((weighed, fingerprint))) = admission.0.pop() {
            let Some(entry) = entries.get(&fingerprint) else {
                continue;
            };
            let weighs = entry.weight();
            if weighs > weighed {
                admission.0.push(Reverse((weighs, fingerprint)));
                continue;
            }
            entries.remove(&fingerprint);
            self.retire(entry);
            return weighs;
        }
        0
    }

    /// What it has counted is the rest's from now on.
    fn retire(&self, entry: &Entry) {
        // No tick in between: it would take for new what has a slice already.
        let mut rest = self.rest_windows.lock();
        let mut windows = entry.windows.lock();
        // Before the sums are taken: who adds to them after that sees it, and moves them again. Both sides are
        // sequentially consistent, so one of them sees what the other did.
        entry.retired.store(true, Ordering::SeqCst);
        rest.absorb(std::mem::take(&mut windows));
        drop(windows);
        entry.statistics.move_into(&self.rest);
    }

    /// A query ended at this moment.
    #[inline]
    pub(super) fn record(&self, query: &Query, finished: &Finished, now: Instant) {
        let entry = &*query.0;
        entry.add(finished, now.saturating_duration_since(self.began));
        if entry.retired.load(Ordering::SeqCst) {
            entry.statistics.move_into(&self.rest);
        }
        if entry.series.on.load(Ordering::Relaxed) {
            entry.series.add(finished);
        } else {
            self.other.add(finished);
        }
        self.all.add(finished);
    }

    /// [`TICK`](super::TICK) has passed: slices are cut, and who is exported is chosen anew.
    pub(super) fn tick(&self) {
        let number = self.ticks.load(Ordering::Relaxed);
        // The rest first: whoever is retired in between is behind it, never ahead.
        self.rest_windows.lock().tick(number, &self.rest);
        for entry in self.entries.pin().values() {
            entry.windows.lock().tick(number, &entry.statistics);
        }
        self.ticks.store(number + 1, Ordering::Relaxed);
        self.choose();
    }

    /// The `top_k` that took most time are exported by themselves.
    fn choose(&self) {
        let entries = self.entries.pin();
        let mut ranked: Vec<_> = entries
            .values()
            .map(|entry| {
                let stays = match entry.series.on.load(Ordering::Relaxed) {
                    true => STAYS,
                    false => 1.0,
                };
                (entry.statistics.total() as f64 * stays, entry)
            })
            .collect();
        ranked.sort_unstable_by(|(one, _), (two, _)| two.total_cmp(one));
        for (rank, (weight, entry)) in ranked.into_iter().enumerate() {
            let on = rank < self.config.top_k && weight > 0.0;
            entry.series.on.store(on, Ordering::Relaxed);
        }
    }

    /// Forgets all figures of fingerprints. What is exported goes on.
    pub(super) fn reset(&self) {
        let mut admission = self.admission.lock();
        let entries = self.entries.pin();
        for (fingerprint, entry) in &entries {
            entries.remove(fingerprint);
            self.retire(entry);
        }
        admission.0.clear();
        self.rest.move_into(&Statistics::default());
        *self.rest_windows.lock() = Windows::default();
    }

    /// A moment of ours on the clock on the wall.
    pub(super) fn at(&self, since: Duration) -> SystemTime {
        self.began_at + since
    }

    /// When a moment was, by that clock.
    pub(super) fn wall(&self, moment: Instant) -> SystemTime {
        self.at(moment.saturating_duration_since(self.began))
    }
}

impl Description {
    /// With a text of bounded length.
    pub(super) fn new(
        fingerprint: Fingerprint,
        summary: String,
        mut text: String,
        operation: String,
    ) -> Arc<Self> {
        if text.len() > TEXT {
            text.truncate(text.floor_char_boundary(TEXT));
            text.push('…');
        }
        Arc::new(Self {
            fingerprint,
            summary: summary.into(),
            text: text.into(),
            operation: operation.into(),
        })
    }
}

#[cfg(test)]
mod tests;

//! Since when things have been going on, readable without a lock.
//!
//! `oldest_wait` and `oldest_use` need the start of every wait and every use. A scrape must not take a lock that the
//! data path holds, so each start is an atomic in a table that only grows, and a reader walks the table. Only
//! claiming and freeing a slot takes a mutex, and that happens per wait and per connection, not per checkout.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Slots of the first chunk; each further chunk is twice as large.
const FIRST: u32 = 64;
/// Enough for 4 million slots, more than `MAX_CEILING` connections or any number of waiting tasks that fits in memory.
const CHUNKS: usize = 16;

/// The table.
#[derive(Debug)]
pub(super) struct Slots {
    epoch: Instant,
    chunks: [OnceLock<Box<[AtomicU64]>>; CHUNKS],
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    returned: Vec<u32>,
    unused: u32,
}

impl Slots {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            epoch: Instant::now(),
            chunks: Default::default(),
            free: Mutex::default(),
        })
    }

    /// A slot of one's own, empty. A full table gives one that records nothing.
    pub(super) fn claim(self: &Arc<Self>) -> Slot {
        let mut free = self.free.lock();
        let index = free.returned.pop().unwrap_or_else(|| {
            free.unused = free.unused.saturating_add(1);
            free.unused - 1
        });
        Slot {
            table: Arc::clone(self),
            index,
        }
    }

    /// How long ago the oldest recorded start was; zero when nothing is recorded.
    pub(super) fn oldest(&self, now: Instant) -> Duration {
        let starts = self.chunks.iter().filter_map(OnceLock::get).flatten();
        let first = starts
            .map(|start| start.load(Relaxed))
            .filter(|&start| start != 0)
            .min();
        first.map_or(Duration::ZERO, |start| {
            now.saturating_duration_since(self.epoch)
                .saturating_sub(Duration::from_nanos(start - 1))
        })
    }

    fn cell(&self, index: u32) -> Option<&AtomicU64> {
        let chunk = (index / FIRST + 1).ilog2();
        let offset = index - FIRST * ((1 << chunk) - 1);
        let cells = self.chunks.get(chunk as usize)?;
        let cells = cells.get_or_init(|| (0..FIRST << chunk).map(|_| AtomicU64::new(0)).collect());
        cells.get(offset as usize)
    }
}

/// One place in the table; given back when dropped.
#[derive(Debug)]
pub(super) struct Slot {
    table: Arc<Slots>,
    index: u32,
}

impl Slot {
    /// Records that something began.
    pub(super) fn start(&self, at: Instant) {
        let nanos = at.saturating_duration_since(self.table.epoch).as_nanos();
        // Zero means empty, so everything is one nanosecond later than it was.
        self.set(u64::try_from(nanos).unwrap_or(u64::MAX - 1) + 1);
    }

    /// Records that it ended.
    pub(super) fn stop(&self) {
        self.set(0);
    }

    fn set(&self, value: u64) {
        if let Some(cell) = self.table.cell(self.index) {
            cell.store(value, Relaxed);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.stop();
        self.table.free.lock().returned.push(self.index);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_oldest_start_wins_and_ends_with_its_slot() {
        let slots = Slots::new();
        assert_eq!(slots.oldest(Instant::now()), Duration::ZERO);
        let (first, second) = (slots.claim(), slots.claim());
        first.start(Instant::now());
        tokio::time::advance(Duration::from_secs(2)).await;
        second.start(Instant::now());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(slots.oldest(Instant::now()), Duration::from_secs(3));
        first.stop();
        assert_eq!(slots.oldest(Instant::now()), Duration::from_secs(1));
        drop(second);
        assert_eq!(slots.oldest(Instant::now()), Duration::ZERO);
    }

    #[test]
    fn slots_are_distinct_across_chunks_and_reused() {
        let slots = Slots::new();
        let claimed: Vec<Slot> = (0..1000).map(|_| slots.claim()).collect();
        let cells: std::collections::HashSet<_> = claimed
            .iter()
            .map(|slot| std::ptr::from_ref(slots.cell(slot.index).unwrap()))
            .collect();
        assert_eq!(cells.len(), 1000);
        drop(claimed);
        assert!(slots.claim().index < 1000);
    }
}

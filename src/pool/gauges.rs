//! How many connections there are, in one atomic word, so that a reader never sees half of a change.
//!
//! A connection that is being opened and then is open moves from `connecting` to `live` in one addition; two atomics
//! would show it twice or not at all to a scrape that falls between them.

use std::sync::atomic::{
    AtomicU32, AtomicU64,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// Bits of each count: `super::config::MAX_CEILING` fits.
const BITS: u32 = 21;
const MASK: u64 = (1 << BITS) - 1;
const LIVE: u64 = 1;
const IDLE: u64 = 1 << BITS;
const CONNECTING: u64 = 1 << (2 * BITS);

/// The counts that [`super::Status`] is made from.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    packed: AtomicU64,
    waiting: AtomicU32,
    pinging: AtomicU32,
}

/// The three packed counts at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) live: u32,
    pub(super) idle: u32,
    pub(super) connecting: u32,
}

impl Gauges {
    pub(super) fn counts(&self) -> Counts {
        let word = self.packed.load(Acquire);
        let field = |shift: u32| ((word >> shift) & MASK) as u32;
        Counts {
            live: field(0),
            idle: field(BITS),
            connecting: field(2 * BITS),
        }
    }

    pub(super) fn connect_started(&self) {
        self.packed.fetch_add(CONNECTING, AcqRel);
    }

    pub(super) fn connect_failed(&self) {
        self.packed.fetch_sub(CONNECTING, AcqRel);
    }

    pub(super) fn connected(&self) {
        self.packed.fetch_sub(CONNECTING - LIVE, AcqRel);
    }

    /// A connection in use was closed.
    pub(super) fn closed(&self) {
        self.packed.fetch_sub(LIVE, AcqRel);
    }

    /// An idle connection is in use. Only under the shelf's mutex.
    pub(super) fn taken(&self) {
        self.packed.fetch_sub(IDLE, AcqRel);
    }

    /// A connection in use is idle. Only under the shelf's mutex.
    pub(super) fn shelved(&self) {
        self.packed.fetch_add(IDLE, AcqRel);
    }

    /// An idle connection was closed. Only under the shelf's mutex.
    pub(super) fn evicted(&self) {
        self.packed.fetch_sub(IDLE + LIVE, AcqRel);
    }

    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    pub(super) fn pinging(&self) -> u32 {
        self.pinging.load(Relaxed)
    }

    pub(super) fn start_waiting(&self) -> Counted<'_> {
        Counted::start(&self.waiting)
    }

    pub(super) fn start_pinging(&self) -> Counted<'_> {
        Counted::start(&self.pinging)
    }
}

/// Counted while alive, however it ends.
#[derive(Debug)]
pub(super) struct Counted<'a>(&'a AtomicU32);

impl<'a> Counted<'a> {
    fn start(gauge: &'a AtomicU32) -> Self {
        gauge.fetch_add(1, Relaxed);
        Self(gauge)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_moves_only_its_counts() {
        let gauges = Gauges::default();
        let expect = |live, idle, connecting| {
            assert_eq!(
                gauges.counts(),
                Counts {
                    live,
                    idle,
                    connecting
                }
            )
        };
        gauges.connect_started();
        gauges.connect_started();
        expect(0, 0, 2);
        gauges.connected();
        expect(1, 0, 1);
        gauges.connect_failed();
        expect(1, 0, 0);
        gauges.shelved();
        expect(1, 1, 0);
        gauges.taken();
        gauges.closed();
        expect(0, 0, 0);
        gauges.connect_started();
        gauges.connected();
        gauges.shelved();
        gauges.evicted();
        expect(0, 0, 0);
    }
}

//! A count that only grows, as plain as it can be: the labels are put on at the scrape.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter's value.
///
/// Release and acquire, so that whoever reads the count of ends and then the count of beginnings never sees an end
/// whose beginning is missing. On x86-64 that is the same instruction as relaxed.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    /// Adds one.
    pub(super) fn inc(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Release);
    }

    /// The count now.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

/// A number of things that are alive now; a guard takes back what it added. Relaxed: it stands alone.
#[derive(Debug, Default)]
pub(super) struct Level(AtomicU64);

impl Level {
    /// One more.
    pub(super) fn inc(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less. Called by a guard's drop only, so it never goes below zero.
    pub(super) fn dec(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many are alive.
    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

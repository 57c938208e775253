//! Which connections are too old to be trusted, by a logical clock.
//!
//! Wall time would make the order of a connect and an invalidation at the same instant a matter of the clock's
//! resolution. Here each connect and each invalidation draws a number of its own, the connect before it begins: one
//! that was under way when the pool was invalidated counts as older, is replaced once, and no harm is done.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire},
};

/// The pool's clock and the marks on it.
#[derive(Debug, Default)]
pub(super) struct Generation {
    clock: AtomicU64,
    /// Connections born before are replaced at their next checkout.
    invalid_before: AtomicU64,
    /// Connections born before are closed when they come back, too: an operator asked for it.
    retired_before: AtomicU64,
}

impl Generation {
    /// The number of a connection that is about to be opened.
    pub(super) fn birth(&self) -> u64 {
        self.clock.fetch_add(1, AcqRel) + 1
    }

    /// The birth from which on connections are good.
    pub(super) fn mark(&self) -> u64 {
        self.invalid_before.load(Acquire)
    }

    pub(super) fn is_stale(&self, born: u64) -> bool {
        born < self.mark()
    }

    pub(super) fn is_retired(&self, born: u64) -> bool {
        born < self.retired_before.load(Acquire)
    }

    /// A connection of this birth was found dead. Only the first of a generation moves the mark: those that die later
    /// but are older say nothing about their successors. Whether it moved.
    pub(super) fn disconnected(&self, born: u64) -> bool {
        let now = self.birth();
        self.invalid_before
            .fetch_update(AcqRel, Acquire, |mark| (mark <= born).then_some(now))
            .is_ok()
    }

    /// Everything open or being opened now is too old.
    pub(super) fn retire_all(&self) {
        let now = self.birth();
        self.invalid_before.fetch_max(now, AcqRel);
        self.retired_before.fetch_max(now, AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_failure_of_a_generation_moves_the_mark() {
        let generation = Generation::default();
        let (first, second) = (generation.birth(), generation.birth());
        assert!(!generation.is_stale(first));
        assert!(generation.disconnected(first));
        assert!(generation.is_stale(first) && generation.is_stale(second));
        let third = generation.birth();
        assert!(
            !generation.disconnected(second),
            "an older connection's death is no news"
        );
        assert!(!generation.is_stale(third));
        assert!(
            !generation.is_retired(first),
            "a disconnect closes nothing early"
        );
        generation.retire_all();
        assert!(generation.is_stale(third) && generation.is_retired(third));
    }
}

//! `size` and `max_overflow` as shown, in one atomic word so that a reader sees both of one moment.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Release},
};

use super::config::Shape;

/// The two numbers.
#[derive(Debug)]
pub(super) struct Outline(AtomicU64);

impl Outline {
    pub(super) fn new(shape: &Shape) -> Self {
        let outline = Self(AtomicU64::new(0));
        outline.set(shape);
        outline
    }

    pub(super) fn set(&self, shape: &Shape) {
        let overflow = u64::from(shape.max_overflow.cast_unsigned());
        self.0
            .store(u64::from(shape.size) << 32 | overflow, Release);
    }

    pub(super) fn get(&self) -> (u32, i32) {
        let word = self.0.load(Acquire);
        ((word >> 32) as u32, (word as u32).cast_signed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numbers_survive_the_packing() {
        for (size, max_overflow) in [(25, 10), (0, -1), (1_000_000, 0), (3, i32::MAX)] {
            let shape = Shape {
                size,
                max_overflow,
                keep: 0,
                limit: 0,
            };
            assert_eq!(Outline::new(&shape).get(), (size, max_overflow));
        }
    }
}

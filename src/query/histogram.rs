//! Durations in buckets that grow with them, so that any quantile is known within a stated error.
//!
//! Each octave (a doubling) is cut into sixteen buckets, so the middle of a bucket is off by 1/32 of the true value at most.
//! Below [`FLOOR`] the buckets are 64 ns wide. An octave's buckets are allocated with its first duration: a query's times
//! lie in a few octaves, and there are thousands of queries.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets of an octave.
const BUCKETS: usize = 16;

const BUCKET_BITS: u32 = BUCKETS.trailing_zeros();

/// Nanoseconds below which buckets do not get narrower.
const FLOOR: u64 = 1 << FLOOR_BITS;

const FLOOR_BITS: u32 = 10;

/// The one below the floor, and 32 above it: to 2⁴² ns, 73 minutes. What is longer counts there.
const OCTAVES: usize = 33;

/// Quantiles of durations above 1 µs (and below 73 minutes) are right within this part of the true value.
pub const RELATIVE_ERROR: f64 = 1.0 / 32.0;

/// Counts of durations. Recording is one atomic addition.
#[derive(Debug)]
pub(super) struct Histogram {
    octaves: [OnceLock<Box<[AtomicU64; BUCKETS]>>; OCTAVES],
}

/// How many durations lay in which bucket, without the empty ones, in ascending order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Counts(Vec<(u16, u64)>);

impl Default for Histogram {
    fn default() -> Self {
        Self {
            octaves: [const { OnceLock::new() }; OCTAVES],
        }
    }
}

impl Histogram {
    /// One more of this duration.
    #[inline]
    pub(super) fn record(&self, nanoseconds: u64) {
        self.add(index(nanoseconds), 1);
    }

    fn add(&self, (octave, bucket): (usize, usize), count: u64) {
        let buckets = self.octaves[octave].get_or_init(Box::default);
        buckets[bucket].fetch_add(count, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub(super) fn counts(&self) -> Counts {
        self.each(|bucket| bucket.load(Ordering::Relaxed))
    }

    /// Moves everything that was counted into another.
    pub(super) fn move_into(&self, other: &Histogram) {
        let taken = self.each(|bucket| bucket.swap(0, Ordering::Relaxed));
        for (place, count) in taken.0 {
            let place = usize::from(place);
            other.add((place / BUCKETS, place % BUCKETS), count);
        }
    }

    fn each(&self, look: impl Fn(&AtomicU64) -> u64) -> Counts {
        let octaves = self.octaves.iter().enumerate();
        let buckets = octaves.filter_map(|(octave, buckets)| Some((octave, buckets.get()?)));
        let counts = buckets.flat_map(|(octave, buckets)| {
            let first = octave * BUCKETS;
            (first..).zip(buckets.iter().map(&look))
        });
        let found = counts.filter(|(_, count)| *count > 0);
        Counts(
            found
                .map(|(place, count)| (u16::try_from(place).unwrap_or(u16::MAX), count))
                .collect(),
        )
    }
}

impl Counts {
    /// What came since an earlier look at the same histogram.
    pub(super) fn since(&self, before: &Counts) -> Counts {
        let mut before = before.0.iter().peekable();
        let left = self.0.iter().filter_map(|(place, count)| {
            while before.next_if(|(earlier, _)| earlier < place).is_some() {}
            let had = before
                .next_if(|(earlier, _)| earlier == place)
                .map_or(0, |(_, count)| *count);
            let more = count.saturating_sub(had);
            (more > 0).then_some((*place, more))
        });
        Counts(left.collect())
    }

    /// Both together.
    pub(super) fn with(&self, other: &Counts) -> Counts {
        let (mut left, mut right) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::with_capacity(self.0.len().max(other.0.len()));
        loop {
            let next = match (left.peek(), right.peek()) {
                (None, None) => return Counts(both),
                (Some((one, _)), Some((two, _))) => *one.min(two),
                (Some((one, _)), None) | (None, Some((one, _))) => *one,
            };
            let mut count = 0;
            for side in [&mut left, &mut right] {
                count += side
                    .next_if(|(place, _)| *place == next)
                    .map_or(0, |(_, count)| *count);
            }
            both.push((next, count));
        }
    }

    /// The duration that a part `q` of them (0 to 1) does not exceed, as far as buckets tell; none where there are none.
    pub(super) fn quantile(&self, q: f64) -> Option<Duration> {
        let all: u64 = self.0.iter().map(|(_, count)| count).sum();
        // The nearest rank: the smallest duration that so many do not exceed.
        let rank = ((all as f64 * q).ceil() as u64).clamp(1, all.max(1));
        let mut seen = 0;
        let bucket = self.0.iter().find(|(_, count)| {
            seen += count;
            seen >= rank
        });
        bucket.map(|(place, _)| middle(usize::from(*place)))
    }

    /// Bytes that it holds on the heap.
    pub(super) fn size(&self) -> usize {
        self.0.capacity() * size_of::<(u16, u64)>()
    }
}

/// The octave and the bucket of a duration.
fn index(nanoseconds: u64) -> (usize, usize) {
    let bits = u64::BITS - nanoseconds.leading_zeros();
    let octave = bits.saturating_sub(FLOOR_BITS);
    if octave as usize >= OCTAVES {
        return (OCTAVES - 1, BUCKETS - 1);
    }
    // Below the floor all of the bits count, above it those behind the leading one.
    let shift = FLOOR_BITS - BUCKET_BITS + octave.saturating_sub(1);
    let bucket = (nanoseconds >> shift) as usize & (BUCKETS - 1);
    (octave as usize, bucket)
}

/// The middle of a bucket.
fn middle(place: usize) -> Duration {
    let (octave, bucket) = (place / BUCKETS, (place % BUCKETS) as u64);
    let above = octave.saturating_sub(1);
    let width = (FLOOR >> BUCKET_BITS) << above;
    let base = if octave == 0 { 0 } else { FLOOR << above };
    Duration::from_nanos(base + bucket * width + width / 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(durations: &[u64]) -> Histogram {
        let histogram = Histogram::default();
        durations
            .iter()
            .for_each(|duration| histogram.record(*duration));
        histogram
    }

    #[test]
    fn a_bucket_is_found_where_it_lies() {
        for (nanoseconds, place) in [
            (0, (0, 0)),
            (63, (0, 0)),
            (64, (0, 1)),
            (1023, (0, 15)),
            (1024, (1, 0)),
            (2047, (1, 15)),
            (2048, (2, 0)),
            ((1 << 42) - 1, (32, 15)),
            (1 << 42, (32, 15)),
            (u64::MAX, (32, 15)),
        ] {
            assert_eq!(index(nanoseconds), place, "{nanoseconds}");
        }
    }

    #[test]
    fn of_nothing_there_is_no_quantile() {
        assert_eq!(of(&[]).counts().quantile(0.5), None);
    }

    #[test]
    fn what_moved_is_counted_once() {
        let (one, two) = (of(&[5_000, 70_000_000]), of(&[5_000]));
        one.move_into(&two);
        assert_eq!(one.counts(), Counts::default());
        assert_eq!(two.counts(), of(&[5_000, 5_000, 70_000_000]).counts());
    }

    proptest! {
        #[test]
        fn quantiles_are_right_within_the_error(
            mut durations in prop::collection::vec(1_024_u64..(1 << 42), 1..200),
            q in 0.0_f64..=1.0,
        ) {
            let found = of(&durations).counts().quantile(q).expect("there are some");
            durations.sort_unstable();
            let rank = ((durations.len() as f64 * q).ceil() as usize).clamp(1, durations.len());
            let exact = durations[rank - 1] as f64;
            let off = (found.as_nanos() as f64 - exact).abs() / exact;
            prop_assert!(off <= RELATIVE_ERROR, "{found:?} for {exact} ns: {off}");
        }

        #[test]
        fn a_difference_and_a_sum_undo_each_other(
            first in prop::collection::vec(0_u64..(1 << 43), 0..50),
            more in prop::collection::vec(0_u64..(1 << 43), 0..50),
        ) {
            let histogram = of(&first);
            let before = histogram.counts();
            more.iter().for_each(|duration| histogram.record(*duration));
            let since = histogram.counts().since(&before);
            prop_assert_eq!(&since, &of(&more).counts());
            prop_assert_eq!(before.with(&since), histogram.counts());
        }
    }
}

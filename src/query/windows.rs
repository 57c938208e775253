//! What happened lately: the sums of the last minute in slices of five seconds, those of the last hour in slices of a minute.
//!
//! Queries only ever add to their sums. A task looks at them every [`TICK`] and keeps what came since its last look, where
//! anything did; so a window costs a query nothing, and memory only where something runs.

use std::collections::VecDeque;
use std::time::Duration;

use super::statistics::{Range, Statistics, Sums};

/// How often the sums are looked at.
pub const TICK: Duration = Duration::from_secs(5);

/// Ticks of a minute.
const MINUTE: u64 = 12;

/// Minutes that are kept.
const MINUTES: u64 = 60;

/// How far back to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Window {
    /// Since the process started, or the query was admitted to the table.
    #[default]
    Start,
    /// The last minute.
    Minute,
    /// The last 5 minutes.
    Minutes5,
    /// The last 15 minutes.
    Minutes15,
    /// The last hour.
    Hour,
}

impl Window {
    /// All of them.
    pub const ALL: [Window; 5] = [
        Window::Start,
        Window::Minute,
        Window::Minutes5,
        Window::Minutes15,
        Window::Hour,
    ];

    /// How it is written: `start`, `1m`, `5m`, `15m`, `60m`.
    pub fn label(self) -> &'static str {
        match self {
            Window::Start => "start",
            Window::Minute => "1m",
            Window::Minutes5 => "5m",
            Window::Minutes15 => "15m",
            Window::Hour => "60m",
        }
    }

    /// The window that is written so.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.label() == text)
    }

    fn minutes(self) -> u64 {
        match self {
            Window::Start => u64::MAX,
            Window::Minute => 1,
            Window::Minutes5 => 5,
            Window::Minutes15 => 15,
            Window::Hour => MINUTES,
        }
    }
}

/// One query's, or all queries', sums over time.
#[derive(Debug, Default)]
pub(super) struct Windows {
    /// How many ticks are over.
    done: u64,
    /// The sums at the last tick.
    before: Sums,
    /// The range of all ticks so far.
    range: Option<Range>,
    /// Of the last minute, and of the minute under way.
    ticks: VecDeque<Slice>,
    minutes: VecDeque<Slice>,
}

/// What one span of time added. Spans without anything are left out.
#[derive(Debug)]
struct Slice {
    number: u64,
    sums: Sums,
    range: Option<Range>,
}

impl Windows {
    /// The tick of this number is over.
    pub(super) fn tick(&mut self, number: u64, statistics: &Statistics) {
        if statistics.total() != self.before.total().as_nanos() as u64
            || statistics.calls() != self.before.calls
        {
            let sums = statistics.sums();
            let range = statistics.take_range();
            self.range = joined(self.range, range);
            self.ticks.push_back(Slice {
                number,
                sums: sums.since(&self.before),
                range,
            });
            self.before = sums;
        }
        self.close(number);
    }

    /// Nothing more comes to the tick of this number.
    fn close(&mut self, number: u64) {
        self.done = number + 1;
        if number % MINUTE == MINUTE - 1 {
            self.end_minute(number / MINUTE);
        }
        // A minute back, whatever minute that is of.
        let oldest = (number + 1).saturating_sub(MINUTE);
        while self
            .ticks
            .front()
            .is_some_and(|slice| slice.number < oldest)
        {
            self.ticks.pop_front();
        }
    }

    fn end_minute(&mut self, minute: u64) {
        let of_it = |slice: &&Slice| slice.number / MINUTE == minute;
        let mut ticks = self.ticks.iter().filter(of_it);
        if let Some(first) = ticks.next() {
            let mut whole = Slice {
                number: minute,
                sums: first.sums.clone(),
                range: first.range,
            };
            for slice in ticks {
                whole.sums = whole.sums.with(&slice.sums);
                whole.range = joined(whole.range, slice.range);
            }
            self.minutes.push_back(whole);
        }
        let oldest = (minute + 1).saturating_sub(MINUTES);
        while self
            .minutes
            .front()
            .is_some_and(|slice| slice.number < oldest)
        {
            self.minutes.pop_front();
        }
    }

    /// Takes over what another has seen, whose sums are moved into those that this one looks at. It is not ahead.
    pub(super) fn absorb(&mut self, mut other: Windows) {
        // It may have missed the tick under way, and with it the end of a minute.
        if other.done < self.done {
            other.close(self.done - 1);
        }
        self.before = self.before.with(&other.before);
        self.range = joined(self.range, other.range);
        merge(&mut self.ticks, other.ticks);
        merge(&mut self.minutes, other.minutes);
    }

    /// The sums over a window that ends now, when so many ticks are over. A minute is one of twelve ticks and the one under
    /// way; a longer one is so many whole minutes and the one under way.
    pub(super) fn over(
        &self,
        window: Window,
        ticks: u64,
        statistics: &Statistics,
    ) -> (Sums, Option<Range>) {
        let now = statistics.sums();
        if window == Window::Start {
            return (now, joined(self.range, statistics.range()));
        }
        let mut sums = now.since(&self.before);
        let mut range = statistics.range();
        let this_minute = ticks / MINUTE;
        let (recent, older) = match window.minutes() {
            1 => (ticks.saturating_sub(MINUTE), u64::MAX),
            minutes => (this_minute * MINUTE, this_minute.saturating_sub(minutes)),
        };
        let recent = self.ticks.iter().filter(|slice| slice.number >= recent);
        let older = self.minutes.iter().filter(|slice| slice.number >= older);
        for slice in recent.chain(older) {
            sums = sums.with(&slice.sums);
            range = joined(range, slice.range);
        }
        (sums, range)
    }

    /// Bytes that it holds on the heap, about.
    pub(super) fn size(&self) -> usize {
        let slices = self.ticks.iter().chain(&self.minutes);
        let counts: usize = slices.map(|slice| slice.sums.durations.size()).sum();
        (self.ticks.capacity() + self.minutes.capacity()) * size_of::<Slice>() + counts
    }
}

/// Slices of the same span become one.
fn merge(into: &mut VecDeque<Slice>, from: VecDeque<Slice>) {
    for slice in from {
        let place = into.partition_point(|known| known.number < slice.number);
        match into.get_mut(place) {
            Some(known) if known.number == slice.number => {
                known.sums = known.sums.with(&slice.sums);
                known.range = joined(known.range, slice.range);
            }
            _ => into.insert(place, slice),
        }
    }
}

fn joined(one: Option<Range>, two: Option<Range>) -> Option<Range> {
    match (one, two) {
        (Some(one), Some(two)) => Some(one.with(two)),
        (one, two) => one.or(two),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finished::{Finished, Phases};
    use super::*;

    fn query(milliseconds: u64) -> Finished {
        Finished {
            phases: Phases {
                execute: Duration::from_millis(milliseconds),
                ..Phases::default()
            },
            rows: 1,
            received: 0,
            sent: 0,
            failure: None,
            over: true,
        }
    }

    /// One query a tick, the first of a millisecond, the second of two, and so on.
    fn ran(ticks: u64) -> (Windows, Statistics) {
        let (mut windows, statistics) = (Windows::default(), Statistics::default());
        for number in 0..ticks {
            statistics.add(&query(number + 1));
            windows.tick(number, &statistics);
        }
        (windows, statistics)
    }

    #[test]
    fn a_window_holds_what_it_says() {
        // Two hours and half a minute.
        let ticks = 120 * MINUTE + 6;
        let (windows, statistics) = ran(ticks);
        for (window, calls) in [
            (Window::Start, ticks),
            (Window::Minute, MINUTE),
            (Window::Minutes5, 5 * MINUTE + 6),
            (Window::Minutes15, 15 * MINUTE + 6),
            (Window::Hour, 60 * MINUTE + 6),
        ] {
            let (sums, range) = windows.over(window, ticks, &statistics);
            assert_eq!(sums.calls, calls, "{window:?}");
            let range = range.expect("something ran");
            assert_eq!(range.longest, ticks * 1_000_000, "{window:?}");
            let first = ticks - calls + 1;
            assert_eq!(range.shortest, first * 1_000_000, "{window:?}");
        }
    }

    #[test]
    fn what_runs_now_is_in_every_window() {
        let (windows, statistics) = ran(30);
        statistics.add(&query(7));
        for window in Window::ALL {
            let before = windows.over(window, 30, &Statistics::default()).0.calls;
            let (sums, _) = windows.over(window, 30, &statistics);
            let now = if window == Window::Start {
                31
            } else {
                before + 1
            };
            assert_eq!(sums.calls, now, "{window:?}");
        }
    }

    #[test]
    fn a_quiet_hour_leaves_nothing_but_the_whole() {
        let (mut windows, statistics) = ran(30);
        for number in 30..30 + 61 * MINUTE {
            windows.tick(number, &statistics);
        }
        let ticks = 30 + 61 * MINUTE;
        assert!(windows.ticks.is_empty() && windows.minutes.is_empty());
        for window in Window::ALL {
            let (sums, _) = windows.over(window, ticks, &statistics);
            let calls = if window == Window::Start { 30 } else { 0 };
            assert_eq!(sums.calls, calls, "{window:?}");
        }
    }

    #[test]
    fn what_another_saw_is_in_the_same_windows() {
        let ticks = 62 * MINUTE + 3;
        let (windows, statistics) = ran(ticks);
        let (mut rest, moved) = ran(ticks);
        statistics.move_into(&moved);
        rest.absorb(windows);
        for window in Window::ALL {
            let (alone, _) = ran(ticks);
            let one = alone.over(window, ticks, &ran(ticks).1).0.calls;
            assert_eq!(
                rest.over(window, ticks, &moved).0.calls,
                2 * one,
                "{window:?}"
            );
        }
    }

    #[test]
    fn what_missed_the_end_of_a_minute_is_in_it() {
        // The last tick but one of the third minute.
        let (windows, _) = ran(3 * MINUTE - 1);
        let (mut rest, nothing) = (Windows::default(), Statistics::default());
        for number in 0..3 * MINUTE {
            rest.tick(number, &nothing);
        }
        rest.absorb(windows);
        let (_, moved) = ran(3 * MINUTE - 1);
        for number in 3 * MINUTE..6 * MINUTE {
            rest.tick(number, &moved);
        }
        let (sums, _) = rest.over(Window::Hour, 6 * MINUTE, &moved);
        assert_eq!(sums.calls, 3 * MINUTE - 1);
    }

    #[test]
    fn slices_are_bounded() {
        let (windows, _) = ran(1_000);
        assert!(windows.ticks.len() <= 12 && windows.minutes.len() <= 60);
    }

    #[test]
    fn a_window_is_written_as_it_is_read() {
        for window in Window::ALL {
            assert_eq!(Window::parse(window.label()), Some(window));
        }
        assert_eq!(Window::parse("2m"), None);
    }
}

//! The pace of failed logins: after some, whoever tries again from there as that user waits before it is heard.
//!
//! The wait comes before the proof is looked at, so that giving up early tells nothing. It is counted for a user and the
//! place it is asked for from, so that guessing in one place does not slow down the others; those who wait hold nothing but
//! their own connection. Beyond a number of them, more are turned away at once.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Failures without consequence: a mistyped password, an application's first attempts with an old one.
const FREE: u32 = 3;
/// The wait after the first failure that has a consequence; each further one doubles it.
const FIRST: Duration = Duration::from_millis(250);
/// A place and user without a failure for so long starts anew.
const FORGET: Duration = Duration::from_secs(300);
/// Waiting logins of one place and user.
const WAITING: u32 = 64;
/// Places and users that are remembered. Beyond it the one whose last failure is longest ago is forgotten.
const TABLE: usize = 10_000;

/// Where a client comes from, as far as its pace goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// A Unix socket.
    Local,
    /// An address.
    Remote(IpAddr),
}

impl Source {
    /// A whole IPv6 network of one customer is one place.
    fn place(self) -> Self {
        match self {
            Source::Remote(address) => Source::Remote(match address.to_canonical() {
                IpAddr::V6(address) => {
                    let network = u128::from(address) >> 64 << 64;
                    IpAddr::V6(network.into())
                }
                address => address,
            }),
            Source::Local => Source::Local,
        }
    }
}

/// More logins wait for their turn than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

/// What is remembered of failures.
#[derive(Debug)]
pub(super) struct Pace {
    /// A name of any length is one number here.
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The longest wait; zero is none at all.
    longest: Duration,
    failed: HashMap<u64, Failures>,
}

#[derive(Debug)]
struct Failures {
    count: u32,
    waiting: u32,
    last: Instant,
}

/// One place in the row of those who wait; dropping it leaves the row.
struct Waiting<'a>(&'a Mutex<State>, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(failures) = self.0.lock().failed.get_mut(&self.1) {
            failures.waiting = failures.waiting.saturating_sub(1);
        }
    }
}

impl Pace {
    pub(super) fn new(longest: Duration) -> Self {
        let pace = Self {
            hasher: RandomState::new(),
            state: Mutex::default(),
        };
        pace.set_longest(longest);
        pace
    }

    /// The longest wait from now on.
    pub(super) fn set_longest(&self, longest: Duration) {
        self.state.lock().longest = longest;
    }

    /// Waits until this user may be heard from there.
    pub(super) async fn turn(&self, source: Source, user: &str) -> Result<(), TooMany> {
        let key = self.key(source, user);
        let wait = {
            let mut state = self.state.lock();
            let longest = state.longest;
            let Some(failures) = state.failed.get_mut(&key) else {
                return Ok(());
            };
            let wait = failures.wait(longest);
            if wait.is_zero() {
                return Ok(());
            }
            if failures.waiting >= WAITING {
                return Err(TooMany);
            }
            failures.waiting += 1;
            wait
        };
        let _waiting = Waiting(&self.state, key);
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// A login failed.
    pub(super) fn failed(&self, source: Source, user: &str) {
        let (key, now) = (self.key(source, user), Instant::now());
        let mut state = self.state.lock();
        if state.failed.len() >= TABLE && !state.failed.contains_key(&key) {
            state.make_room(now);
        }
        let failures = state.failed.entry(key).or_insert(Failures {
            count: 0,
            waiting: 0,
            last: now,
        });
        if failures.is_forgotten(now) {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
    }

    /// A login succeeded: what was before it is forgiven.
    pub(super) fn succeeded(&self, source: Source, user: &str) {
        let key = self.key(source, user);
        let mut state = self.state.lock();
        if let Some(failures) = state.failed.get_mut(&key) {
            failures.count = 0;
            if failures.waiting == 0 {
                state.failed.remove(&key);
            }
        }
    }

    fn key(&self, source: Source, user: &str) -> u64 {
        self.hasher.hash_one((source.place(), user))
    }
}

impl Failures {
    fn wait(&self, longest: Duration) -> Duration {
        if self.count <= FREE || self.is_forgotten(Instant::now()) {
            return Duration::ZERO;
        }
        let doubled = 1_u32.checked_shl(self.count - FREE - 1);
        doubled.map_or(longest, |times| FIRST.saturating_mul(times).min(longest))
    }

    fn is_forgotten(&self, now: Instant) -> bool {
        now.duration_since(self.last) >= FORGET
    }
}

impl State {
    fn make_room(&mut self, now: Instant) {
        self.failed
            .retain(|_, failures| failures.waiting > 0 || !failures.is_forgotten(now));
        if self.failed.len() < TABLE {
            return;
        }
        let oldest = self.failed.iter().min_by_key(|(_, failures)| failures.last);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.failed.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const LONGEST: Duration = Duration::from_secs(5);

    fn address(text: &str) -> Source {
        Source::Remote(text.parse().unwrap())
    }

    async fn waited(pace: &Pace, source: Source, user: &str) -> Duration {
        let started = Instant::now();
        pace.turn(source, user).await.unwrap();
        started.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_doubles_to_its_limit_and_success_ends_it() {
        let pace = Pace::new(LONGEST);
        let here = address("192.0.2.1");
        let mut waits = Vec::new();
        for _ in 0..10 {
            waits.push(waited(&pace, here, "ann").await.as_millis());
            pace.failed(here, "ann");
        }
        assert_eq!(waits, [0, 0, 0, 0, 250, 500, 1000, 2000, 4000, 5000]);
        for _ in 0..100 {
            pace.failed(here, "ann");
        }
        assert_eq!(waited(&pace, here, "ann").await, LONGEST);
        pace.succeeded(here, "ann");
        assert_eq!(waited(&pace, here, "ann").await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn others_do_not_wait() {
        let pace = Pace::new(LONGEST);
        let here = address("2001:db8::1");
        for _ in 0..10 {
            pace.failed(here, "ann");
        }
        assert_eq!(waited(&pace, here, "bob").await, Duration::ZERO);
        assert_eq!(waited(&pace, Source::Local, "ann").await, Duration::ZERO);
        let elsewhere = address("2001:db8:0:1::1");
        assert_eq!(waited(&pace, elsewhere, "ann").await, Duration::ZERO);
        // The same network is the same place.
        assert_eq!(waited(&pace, address("2001:db8::2"), "ann").await, LONGEST);
    }

    #[tokio::test(start_paused = true)]
    async fn failures_are_forgotten() {
        let pace = Pace::new(LONGEST);
        for _ in 0..10 {
            pace.failed(Source::Local, "ann");
        }
        tokio::time::advance(FORGET).await;
        assert_eq!(waited(&pace, Source::Local, "ann").await, Duration::ZERO);
        pace.failed(Source::Local, "ann");
        assert_eq!(waited(&pace, Source::Local, "ann").await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn those_who_wait_are_so_many_at_most() {
        let pace = Arc::new(Pace::new(LONGEST));
        for _ in 0..10 {
            pace.failed(Source::Local, "ann");
        }
        let turn = || {
            let pace = pace.clone();
            tokio::spawn(async move { pace.turn(Source::Local, "ann").await })
        };
        let mut waiting: Vec<_> = (0..WAITING).map(|_| turn()).collect();
        tokio::task::yield_now().await;
        assert_eq!(turn().await.unwrap(), Err(TooMany));
        // One that leaves makes room.
        waiting.pop().unwrap().abort();
        tokio::task::yield_now().await;
        let next = turn();
        assert_eq!(next.await.unwrap(), Ok(()));
        for turn in waiting {
            assert_eq!(turn.await.unwrap(), Ok(()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn zero_is_no_wait() {
        let pace = Pace::new(Duration::ZERO);
        for _ in 0..10 {
            pace.failed(Source::Local, "ann");
        }
        assert_eq!(waited(&pace, Source::Local, "ann").await, Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_does_not_grow_without_end() {
        let pace = Pace::new(LONGEST);
        for number in 0..TABLE + 50 {
            pace.failed(Source::Local, &number.to_string());
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert_eq!(pace.state.lock().failed.len(), TABLE);
        tokio::time::advance(FORGET).await;
        pace.failed(Source::Local, "another");
        assert_eq!(pace.state.lock().failed.len(), 1);
    }
}

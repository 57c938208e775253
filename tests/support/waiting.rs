//! Waiting for a condition, with a limit.

use std::fmt::Display;
use std::future::Future;
use std::panic::Location;
use std::time::{Duration, Instant};

/// Between two looks.
const POLL: Duration = Duration::from_millis(20);

/// What a condition may answer: yes or no, a value or why not yet.
pub trait Outcome {
    /// What is handed out once it holds.
    type Value;

    /// The value, or why it does not hold yet.
    fn outcome(self) -> Result<Self::Value, String>;
}

impl Outcome for bool {
    type Value = ();

    fn outcome(self) -> Result<(), String> {
        self.then_some(())
            .ok_or_else(|| "it did not hold".to_owned())
    }
}

impl<T> Outcome for Option<T> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.ok_or_else(|| "there was none".to_owned())
    }
}

impl<T, E: Display> Outcome for Result<T, E> {
    type Value = T;

    fn outcome(self) -> Result<T, String> {
        self.map_err(|error| error.to_string())
    }
}

/// Asks until the condition holds, and panics naming the caller and the last answer if it does not within `limit`.
#[track_caller]
pub fn eventually<F, Fut>(
    limit: Duration,
    mut condition: F,
) -> impl Future<Output = <Fut::Output as Outcome>::Value>
where
    F: FnMut() -> Fut,
    Fut: Future,
    Fut::Output: Outcome,
{
    let caller = Location::caller();
    async move {
        let started = Instant::now();
        let mut last = "it gave no answer".to_owned();
        loop {
            let left = limit.saturating_sub(started.elapsed());
            // One attempt may itself hang: that is a no, too.
            match tokio::time::timeout(left, condition()).await {
                Ok(answer) => match answer.outcome() {
                    Ok(value) => return value,
                    Err(why) => last = why,
                },
                Err(_) => panic!("not within {limit:?} at {caller}; last: {last}"),
            }
            assert!(
                started.elapsed() < limit,
                "not within {limit:?} at {caller}; last: {last}"
            );
            tokio::time::sleep(POLL).await;
        }
    }
}

//! Random programs of several clients, held straight with PostgreSQL and through poolwatch with a pool of two: every
//! client must be told the same, message by message, whatever the others do.
//!
//! `cargo test` runs some; `POOLWATCH_MODEL_PROGRAMS` says how many of each kind instead. The seed is printed, and
//! `POOLWATCH_TEST_SEED` repeats a run. A program whose replies differ is made smaller as long as they still do, and printed with
//! both sides.

#![allow(
    clippy::print_stdout,
    reason = "seeds and counts are the report of a run"
)]

#[path = "../support/mod.rs"]
mod support;

mod catalogue;
mod compare;
mod generate;
mod holding;
mod mask;
mod named;
mod numbers;
mod pins;
mod program;
mod run;

use std::time::{Duration, Instant};

use compare::{Bed, Crashed, Mode};
use generate::{Shape, generate, third_waits};
use holding::Holding;
use numbers::Numbers;
use program::Program;

/// How long one kind may take when nobody says how many.
const QUICK: Duration = Duration::from_secs(10);

pub(crate) const TRANSACTION: Mode = Mode {
    session: false,
    at_once: false,
};
pub(crate) const SESSION: Mode = Mode {
    session: true,
    at_once: false,
};
const AT_ONCE: Mode = Mode {
    session: false,
    at_once: true,
};

#[tokio::test]
async fn transaction_pooling_is_not_noticed() {
    let shape = Shape {
        at_once: 3,
        steps: 30,
        autocommit: false,
        session_mode: false,
    };
    explore(TRANSACTION, shape).await;
}

#[tokio::test]
async fn session_pooling_is_not_noticed() {
    let shape = Shape {
        at_once: 2,
        steps: 25,
        autocommit: false,
        session_mode: true,
    };
    explore(SESSION, shape).await;
}

#[tokio::test]
async fn more_clients_than_servers_are_not_noticed() {
    let shape = Shape {
        at_once: 6,
        steps: 60,
        autocommit: true,
        session_mode: false,
    };
    explore(AT_ONCE, shape).await;
}

/// The seed of this run: the same each time, so that a change is judged by what it changes; `random` for another.
pub(crate) fn seed() -> u64 {
    let seed = match std::env::var("POOLWATCH_TEST_SEED") {
        Ok(given) if given == "random" => u64::from(rand::random::<u32>()),
        Ok(given) => given.parse().expect("a seed is a number, or random"),
        Err(_) => 1,
    };
    println!("POOLWATCH_TEST_SEED={seed}");
    seed
}

/// A third client, for whom no server is free, waits, and is then told the same.
#[tokio::test]
async fn a_third_client_waits_and_is_told_the_same() {
    let shape = Shape {
        at_once: 3,
        steps: 0,
        autocommit: false,
        session_mode: false,
    };
    explore_with(TRANSACTION, shape, third_waits).await;
}

/// Names the program that something else than a comparison ended: a connection that is refused, say.
struct Trying<'a>(&'a Program, u64);

impl Drop for Trying<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("POOLWATCH_TEST_SEED={}:\n{}", self.1, self.0);
        }
    }
}

async fn explore(mode: Mode, shape: Shape) {
    explore_with(mode, shape, generate).await;
}

async fn explore_with(mode: Mode, shape: Shape, make: fn(&mut Numbers, Shape, usize) -> Program) {
    let programs: Option<usize> = std::env::var("POOLWATCH_MODEL_PROGRAMS")
        .ok()
        .map(|number| number.parse().expect("a number of programs"));
    let seed = seed();
    let mut bed = Bed::new(mode).await;
    let (started, mut done, mut crashes) = (Instant::now(), 0, 0);
    while programs.map_or(started.elapsed() < QUICK, |programs| done < programs) {
        // Each program has a seed of its own, so that one can be repeated without those before it.
        let own = seed + u64::try_from(done).expect("a count");
        let program = make(&mut Numbers::new(own), shape, done * 100);
        assert!(
            Holding::admits(&program, mode.session),
            "seed {own}: the generator keeps its own rule\n{program}"
        );
        let trying = Trying(&program, own);
        let tried = bed.tries(&program).await;
        drop(trying);
        match tried {
            Ok(None) => {}
            Ok(Some(found)) => {
                let found = bed.shrink(found).await;
                panic!("program {done}, POOLWATCH_TEST_SEED={own}:\n{found}");
            }
            Err(Crashed) => {
                println!("PostgreSQL crashed at program {done}, POOLWATCH_TEST_SEED={own}");
                crashes += 1;
            }
        }
        done += 1;
    }
    bed.well().await;
    println!("{done} programs in {:?}", started.elapsed());
    // Of the other tests of this process too, which share the server.
    assert!(
        crashes * 50 <= done,
        "{crashes} crashes of PostgreSQL in {done} programs"
    );
    assert!(done > 0);
}

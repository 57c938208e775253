//! Every reader of foreign bytes on a stored corpus and on bytes made from it: the targets of `fuzz/`, without a fuzzer.
//!
//! `tests/corpus/<target>/` holds the seeds, and whatever a fuzzer once found. `POOLWATCH_READERS_SECONDS` says how long each
//! target is tried; the seed is printed and `POOLWATCH_TEST_SEED` repeats a run.

#![allow(
    clippy::print_stdout,
    reason = "seeds and counts are the report of a run"
)]

#[path = "../fuzz/targets/mod.rs"]
mod targets;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// How long one target is tried when nobody says so.
const QUICK: Duration = Duration::from_millis(1500);

fn corpus(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("a file of the corpus").path())
        .collect();
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let bytes = std::fs::read(&path).expect("a file of the corpus");
            (path, bytes)
        })
        .collect()
}

/// One change of a seed.
#[derive(Debug, Clone)]
enum Change {
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    /// Four bytes that are a length or a count, mostly a wrong one.
    Number(Index, i32),
    Repeat(Index, Index),
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![-2..12_i32, Just(i32::MAX), Just(i32::MIN), any::<i32>()];
    prop_oneof![
        (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Set(at, byte)),
        (any::<Index>(), prop::collection::vec(any::<u8>(), 0..12))
            .prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Change::Remove(a, b)),
        (any::<Index>(), number).prop_map(|(at, number)| Change::Number(at, number)),
        (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Change::Repeat(a, b)),
    ]
}

fn changed(mut bytes: Vec<u8>, changes: Vec<Change>) -> Vec<u8> {
    for change in changes {
        let range = |a: Index, b: Index| {
            let (a, b) = (a.index(bytes.len() + 1), b.index(bytes.len() + 1));
            a.min(b)..a.max(b)
        };
        match change {
            Change::Set(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Change::Number(at, number) if bytes.len() >= 4 => {
                let at = at.index(bytes.len() - 3);
                bytes[at..at + 4].copy_from_slice(&number.to_be_bytes());
            }
            Change::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more);
            }
            Change::Remove(a, b) => {
                let range = range(a, b);
                bytes.drain(range);
            }
            Change::Repeat(a, b) if bytes.len() < 10_000 => {
                let again = bytes[range(a, b)].to_vec();
                bytes.extend(again);
            }
            Change::Set(..) | Change::Number(..) | Change::Repeat(..) => {}
        }
    }
    bytes
}

fn inputs(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let seed = prop::sample::select(seeds);
    prop_oneof![
        1 => prop::collection::vec(any::<u8>(), 0..300),
        4 => (seed.clone(), prop::collection::vec(change(), 1..6)).prop_map(|(seed, changes)| changed(seed, changes)),
        1 => (seed.clone(), seed).prop_map(|(one, two)| [one, two].concat()),
    ]
}

fn seed() -> u64 {
    let seed = match std::env::var("POOLWATCH_TEST_SEED") {
        Ok(given) if given == "random" => u64::from(rand::random::<u32>()),
        Ok(given) => given.parse().expect("a seed is a number, or random"),
        Err(_) => 1,
    };
    println!("POOLWATCH_TEST_SEED={seed}");
    seed
}

/// Tries one target until its time is over; a failure is made smaller.
fn try_target(name: &str) {
    let stored = corpus(name);
    assert!(!stored.is_empty(), "no corpus for {name}");
    for (path, bytes) in &stored {
        let outcome = catch_unwind(|| targets::run(name, bytes));
        assert!(outcome.is_ok(), "{}", path.display());
    }
    let limit = std::env::var("POOLWATCH_READERS_SECONDS").map_or(QUICK, |text| {
        Duration::from_secs(text.parse().expect("seconds"))
    });
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed().to_be_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let inputs = inputs(stored.into_iter().map(|(_, bytes)| bytes).collect());
    let fails =
        |input: &[u8]| catch_unwind(AssertUnwindSafe(|| targets::run(name, input))).is_err();
    let (started, mut tried) = (Instant::now(), 0_u64);
    while started.elapsed() < limit {
        let mut tree = inputs.new_tree(&mut runner).expect("an input");
        if fails(&tree.current()) {
            let mut smallest = tree.current();
            while tree.simplify() || tree.complicate() {
                let current = tree.current();
                if fails(&current) {
                    smallest = current;
                } else if !tree.complicate() {
                    break;
                }
            }
            panic!(
                "{name} fails on {:?}, bytes {smallest:?}",
                String::from_utf8_lossy(&smallest)
            );
        }
        tried += 1;
    }
    println!("{name}: {tried} inputs");
    assert!(tried > 0);
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { try_target(stringify!($name)); })*

        #[test]
        fn every_target_is_tried() {
            let tried = [$(stringify!($name)),*];
            let known: Vec<&str> = targets::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(known, tried);
            for name in known {
                let file = format!("{}/fuzz/fuzz_targets/{name}.rs", env!("CARGO_MANIFEST_DIR"));
                assert!(std::path::Path::new(&file).exists(), "{file}");
            }
        }
    };
}

targets!(frame, startup, fields, inbox, replies, sql, dsn, login);

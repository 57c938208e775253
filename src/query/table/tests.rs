use std::collections::HashMap;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::super::finished::Phases;
use super::super::thresholds::Slow;
use super::super::views::QueriesView;
use super::super::windows::Window;
use super::*;

fn table(max_fingerprints: usize, top_k: usize) -> Table {
    Table::new(Config {
        max_fingerprints,
        top_k,
        slow: Slow {
            threshold: Duration::from_secs(1),
            rules: Vec::new(),
        },
        slow_log_size: 1,
        slow_log_rate: 1,
        log_literals: false,
    })
}

fn place(table: &Table, number: u64) -> Query {
    table.place(Fingerprint(number), || {
        let text = format!("SELECT {number}");
        Description::new(Fingerprint(number), text.clone(), text, "SELECT".to_owned())
    })
}

fn of(milliseconds: u64) -> Finished {
    Finished {
        phases: Phases {
            execute: Duration::from_millis(milliseconds),
            ..Phases::default()
        },
        rows: 2,
        received: 3,
        sent: 4,
        failure: None,
        over: true,
    }
}

fn run(table: &Table, number: u64, milliseconds: u64) {
    let query = place(table, number);
    table.record(&query, &of(milliseconds), Instant::now());
}

/// Calls and milliseconds of a fingerprint that has a place.
fn figures(view: &QueriesView, number: u64) -> Option<(u64, u128)> {
    let found = view
        .queries
        .iter()
        .find(|query| query.description.fingerprint == Fingerprint(number))?;
    Some((found.figures.calls, found.figures.total().as_millis()))
}

#[test]
fn a_newcomer_takes_the_place_of_the_one_with_least_time() {
    let table = table(2, 1);
    run(&table, 1, 100);
    run(&table, 2, 7);
    run(&table, 3, 5);
    let view = table.view(Window::Start);
    assert_eq!(figures(&view, 1), Some((1, 100)));
    assert_eq!(figures(&view, 2), None);
    assert_eq!(figures(&view, 3), Some((1, 5)));
    assert_eq!((view.rest.calls, view.rest.total().as_millis()), (1, 7));
    assert_eq!((view.total.calls, view.total.total().as_millis()), (3, 112));
    assert_eq!((view.fingerprints, view.limit), (2, 2));
    let third = view
        .queries
        .iter()
        .find(|query| query.description.fingerprint == Fingerprint(3));
    let missed = third.expect("it has a place").missed_at_most;
    assert_eq!(
        missed,
        Duration::from_millis(7),
        "as if that time were its own"
    );
}

#[test]
fn who_lost_its_place_finds_it_again_through_what_it_holds() {
    let table = table(1, 1);
    let first = place(&table, 1);
    table.record(&first, &of(5), Instant::now());
    run(&table, 2, 1);
    // Whoever still holds the old place counts with the rest.
    table.record(&first, &of(10), Instant::now());
    let view = table.view(Window::Start);
    assert_eq!((view.rest.calls, view.rest.total().as_millis()), (2, 15));
    let again = table.current(&first).expect("its place is another's");
    assert!(table.current(&again).is_none(), "this one is its own");
    table.record(&again, &of(20), Instant::now());
    let view = table.view(Window::Start);
    assert_eq!(figures(&view, 1), Some((1, 20)));
    assert_eq!(view.total.calls, 4);
}

#[test]
fn the_top_are_exported_and_the_whole_is_their_sum() {
    let table = table(10, 2);
    for number in 1..=4 {
        run(&table, number, number * 10);
    }
    assert_eq!(
        table.other.values().calls,
        4,
        "nobody is chosen before a tick"
    );
    table.tick();
    for number in 1..=4 {
        run(&table, number, number * 10);
    }
    let exported = |number: u64| {
        let entry = place(&table, number).0;
        let on = entry.series.on.load(Ordering::Relaxed);
        on.then(|| entry.series.values().calls)
    };
    assert_eq!([1, 2, 3, 4].map(exported), [None, None, Some(1), Some(1)]);
    assert_eq!(
        (table.other.values().calls, table.all.values().calls),
        (6, 8)
    );
    // One tenth more is what it takes to be chosen instead.
    run(&table, 2, 21);
    table.tick();
    assert_eq!([2, 3].map(exported), [None, Some(1)]);
    run(&table, 2, 30);
    table.tick();
    assert_eq!([2, 3].map(exported), [Some(0), None]);
    run(&table, 3, 100);
    table.tick();
    assert_eq!(exported(3), Some(1), "it goes on where it ended");
}

#[test]
fn forgetting_leaves_what_is_exported() {
    let table = table(10, 1);
    let held = place(&table, 1);
    run(&table, 1, 10);
    table.tick();
    table.reset();
    let view = table.view(Window::Start);
    assert_eq!((view.total.calls, view.fingerprints), (0, 0));
    assert_eq!(table.all.values().calls, 1);
    table.record(&held, &of(10), Instant::now());
    assert_eq!(table.view(Window::Start).total.calls, 1);
    assert!(table.current(&held).is_some());
}

#[test]
fn threads_that_push_each_other_out_lose_nothing() {
    const THREADS: u64 = 4;
    const EACH: u64 = 20_000;
    let (table, over) = (table(3, 2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut seen = 0;
            while !over.load(Ordering::Relaxed) {
                // Not so many that an hour passes.
                if table.ticks.load(Ordering::Relaxed) < 600 {
                    table.tick();
                }
                let total = table.all.values().calls;
                assert!(total >= seen, "a count went back");
                seen = total;
            }
        });
        let running: Vec<_> = (0..THREADS)
            .map(|thread| {
                let table = &table;
                scope.spawn(move || {
                    let mut held = place(table, thread);
                    for number in 0..EACH {
                        run(table, number % 7, 1);
                        if let Some(now) = table.current(&held) {
                            held = now;
                        }
                        table.record(&held, &of(2), Instant::now());
                    }
                })
            })
            .collect();
        for thread in running {
            thread.join().expect("no thread fails");
        }
        over.store(true, Ordering::Relaxed);
        looking.join().expect("who looks does not fail");
    });
    let view = table.view(Window::Start);
    let calls = 2 * THREADS * EACH;
    assert_eq!(view.total.calls, calls);
    assert_eq!(
        view.total.total().as_millis(),
        u128::from(3 * THREADS * EACH)
    );
    assert_eq!(
        (view.total.rows, view.total.received, view.total.sent),
        (2 * calls, 3 * calls, 4 * calls)
    );
    assert_eq!(table.all.values().calls, calls);
    let hour = table.view(Window::Hour);
    assert_eq!(hour.total.calls, calls, "windows lose nothing either");
    assert!(view.fingerprints <= 3);
}

proptest! {
    /// Space-saving's promises: what took more than the smallest place weighs has a place, and no place hides more than it says.
    #[test]
    fn the_bound_holds(runs in prop::collection::vec((0_u64..40, 1_u64..100), 1..400)) {
        let table = table(8, 1);
        let mut exact: HashMap<u64, u128> = HashMap::new();
        for (number, milliseconds) in &runs {
            run(&table, *number, *milliseconds);
            *exact.entry(*number).or_default() += u128::from(*milliseconds);
        }
        let view = table.view(Window::Start);
        let missed = |number: u64| {
            let found = view.queries.iter().find(|query| query.description.fingerprint == Fingerprint(number));
            found.map(|query| query.missed_at_most.as_millis())
        };
        let weights = view.queries.iter().map(|query| (query.figures.total() + query.missed_at_most).as_millis());
        let smallest = weights.min().unwrap_or(0);
        for (number, took) in exact {
            match figures(&view, number) {
                Some((_, shown)) => {
                    prop_assert!(shown <= took);
                    prop_assert!(took <= shown + missed(number).unwrap_or(0));
                }
                None => prop_assert!(took <= smallest, "{number} took {took} ms and has no place; {smallest} ms has one"),
            }
        }
        prop_assert_eq!(view.total.calls, runs.len() as u64);
    }
}

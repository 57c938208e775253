//! Where a query's time goes: a delay that is made in one phase shows in that phase, and what is shown is never more than
//! the client itself has waited.

use std::time::{Duration, Instant};

use super::{Shown, ended};
use crate::bench::Bench;
use crate::support::raw::{self, bind, execute, flush, parse, query, sync};
use crate::support::{Faults, Postgres, Sidecar, Trouble};

const DELAY: Duration = Duration::from_millis(300);

/// The columns of the console are whole microseconds: each of the four may have lost one.
const ROUNDED: Duration = Duration::from_micros(4);

/// The phases of the only query with this word, which its client has waited for so long.
async fn phases(sidecar: &Sidecar, word: &str, elapsed: Duration) -> [Duration; 4] {
    let shown = ended(sidecar, word, 1).await;
    let phases =
        ["wait_time", "connect_time", "execute_time", "transfer_time"].map(|name| shown.time(name));
    let sum: Duration = phases.iter().sum();
    assert!(sum <= elapsed, "{phases:?} in {elapsed:?}");
    let total = shown.time("total_time");
    assert!(sum <= total && total <= sum + ROUNDED, "{sum:?} {total:?}");
    phases
}

/// Exactly this phase took at least the delay; the client waited so much longer at least than all of the others.
#[track_caller]
fn assert_only(phases: [Duration; 4], delayed: usize, elapsed: Duration) {
    for (phase, took) in phases.iter().enumerate() {
        if phase == delayed {
            assert!(*took >= DELAY, "phase {phase} of {phases:?}");
        } else {
            assert!(
                *took <= elapsed - DELAY,
                "phase {phase} of {phases:?} in {elapsed:?}"
            );
        }
    }
}

#[tokio::test]
async fn waiting_for_a_server_is_the_wait() {
    let bench = Bench::new().await;
    let mut holder = bench.pooled().await;
    let mut waiter = bench.pooled().await;
    holder.ask(&query("BEGIN")).await;
    let started = Instant::now();
    waiter.send(&query("SELECT 1 AS waiter")).await;
    holder.ask(&query("SELECT pg_sleep(0.3)")).await;
    holder.ask(&query("COMMIT")).await;
    waiter.until('Z').await;
    let elapsed = started.elapsed();
    let phases = phases(&bench.sidecar, "waiter", elapsed).await;
    assert_only(phases, 0, elapsed);
}

#[tokio::test]
async fn opening_a_server_is_the_connect() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let upstream = faults.through(&database.url);
    // Every lease opens a server of its own.
    let environment = [("POOLWATCH_POOL__ENABLED", "off")];
    let sidecar = Sidecar::start_with(&database, &upstream, &[], &environment).await;
    let mut client = raw::Raw::login(sidecar.proxy_addr(), &database.name).await;
    client.ask(&query("BEGIN")).await;
    client.ask(&query("SELECT 1 AS opened")).await;
    client.ask(&query("COMMIT")).await;
    faults.set(Trouble::Delay(DELAY));
    let started = Instant::now();
    client.ask(&query("SELECT 1 AS opener")).await;
    let elapsed = started.elapsed();
    let found = phases(&sidecar, "opener", elapsed).await;
    // Its messages are late, too, so the other phases are only bounded by the whole.
    assert!(found[1] >= DELAY, "{found:?}");
    let shown = Shown::of(&sidecar, "opened").await;
    assert_eq!(shown.number("connect_time"), 0, "it found one: {shown:?}");
}

#[tokio::test]
async fn running_is_the_execution() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let started = Instant::now();
    client.ask(&query("SELECT pg_sleep(0.3) AS runner")).await;
    let elapsed = started.elapsed();
    assert_only(phases(&bench.sidecar, "runner", elapsed).await, 2, elapsed);
}

#[tokio::test]
async fn a_result_that_comes_slowly_is_the_transfer() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let started = Instant::now();
    // Each row is more than PostgreSQL keeps back; the first comes at once.
    let text = "SELECT repeat('x', 10000) AS slowly, CASE n WHEN 0 THEN '' ELSE pg_sleep(0.1)::text END FROM generate_series(0, 3) n";
    client.ask(&query(text)).await;
    let elapsed = started.elapsed();
    assert_only(phases(&bench.sidecar, "slowly", elapsed).await, 3, elapsed);
}

/// What was parsed long before is no part of what runs.
#[tokio::test]
async fn a_statement_parsed_before_is_timed_from_its_execution() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let before = [parse("", "SELECT pg_sleep(0.3) AS flushed"), flush()].concat();
    client.send(&before).await;
    client.take(1).await;
    let mut direct = bench.direct().await;
    direct.rows("SELECT pg_sleep(0.3)").await;
    let started = Instant::now();
    let run = [bind("", "", &[]), execute("", 0), sync()].concat();
    client.ask(&run).await;
    let elapsed = started.elapsed();
    assert_only(phases(&bench.sidecar, "flushed", elapsed).await, 2, elapsed);
}

#[tokio::test]
async fn statements_of_a_pipeline_share_no_time() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let started = Instant::now();
    let both = [
        parse("", "SELECT pg_sleep(0.3) AS before_it"),
        bind("", "", &[]),
        execute("", 0),
        sync(),
        parse("", "SELECT 1 AS behind_it"),
        bind("", "", &[]),
        execute("", 0),
        sync(),
    ];
    client.send(&both.concat()).await;
    client.until('Z').await;
    client.until('Z').await;
    let elapsed = started.elapsed();
    let first = phases(&bench.sidecar, "before_it", elapsed).await;
    let second = phases(&bench.sidecar, "behind_it", elapsed).await;
    let sum: Duration = first.iter().chain(&second).sum();
    assert!(sum <= elapsed, "{first:?} {second:?} in {elapsed:?}");
    assert_only(first, 2, elapsed);
}

/// What comes at once cannot be told apart: who works has an equal part of the time, who only says what is to be done has none.
#[tokio::test]
async fn statements_whose_results_come_together_share_their_time() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let started = Instant::now();
    let text = "BEGIN; SELECT pg_sleep(0.3) AS sleeper; SELECT 1 AS fellow; ROLLBACK";
    client.ask(&query(text)).await;
    let elapsed = started.elapsed();
    let took = |shown: &Shown| shown.time("execute_time") + shown.time("transfer_time");
    let mut sum = Duration::ZERO;
    for word in ["sleeper", "fellow", "ROLLBACK"] {
        let took = took(&ended(&bench.sidecar, word, 1).await);
        assert!(took >= DELAY / 3, "{word}: {took:?}");
        sum += took;
    }
    assert!(sum <= elapsed, "{sum:?} in {elapsed:?}");
    assert_eq!(
        took(&ended(&bench.sidecar, "BEGIN", 1).await),
        Duration::ZERO
    );
}

#[tokio::test]
async fn a_client_that_thinks_is_charged_to_no_query() {
    let bench = Bench::new().await;
    let mut client = bench.pooled().await;
    let mut direct = bench.direct().await;
    client.ask(&query("BEGIN")).await;
    let thought = Instant::now();
    direct.rows("SELECT pg_sleep(0.3)").await;
    let thought = thought.elapsed();
    let started = Instant::now();
    client.ask(&query("SELECT 1 AS thinker")).await;
    let elapsed = started.elapsed();
    client.ask(&query("COMMIT")).await;
    phases(&bench.sidecar, "thinker", elapsed).await;
    let scrape = bench.sidecar.scrape().await;
    let count = scrape.sum("poolwatch_idle_in_transaction_seconds_count", &[]);
    let sum = scrape.sum("poolwatch_idle_in_transaction_seconds_sum", &[]);
    assert_eq!(count, 2.0, "ahead of SELECT and of COMMIT");
    assert!(sum >= DELAY.as_secs_f64(), "{sum} s");
    let most = thought + elapsed + started.elapsed();
    assert!(sum <= most.as_secs_f64(), "{sum} s of {most:?}");
}

//! Run-time parameters: what a client set, or logged in with, is what its queries run with and what it is told, on
//! whichever server; and what PostgreSQL's own defaults become is what the next login is told.

use std::time::Duration;

use crate::bench::{Bench, ONE};
use crate::support::raw::{Message, Raw, bind, execute, parse, query, run, sync, tags};
use crate::support::{Faults, Postgres, Sidecar, Trouble, eventually};

const LIMIT: Duration = Duration::from_secs(20);

const ZONE: &str = "SHOW TimeZone";
const PROCESS: &str = "SELECT pg_backend_pid()";

#[tokio::test]
async fn defaults_that_changed_are_told_once_the_pool_has_new_servers() {
    let bench = Bench::new().await;
    let mut direct = bench.direct().await;
    let before = bench.pooled().await;
    let old = before.reported("TimeZone").expect("it is reported");
    assert_ne!(old, "Asia/Tokyo");
    let database = &bench.database.name;
    direct
        .rows(&format!(
            "ALTER DATABASE \"{database}\" SET timezone = 'Asia/Tokyo'"
        ))
        .await;
    // Its server goes, as in a restart or a failover.
    direct
        .rows(&format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
             WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        ))
        .await;
    let mut before = before;
    eventually(LIMIT, || async {
        let scrape = bench.sidecar.scrape().await;
        let invalid = scrape.sum("poolwatch_pool_invalidations_total", &[]) > 0.0;
        if !invalid {
            // Which may be what meets the server as it goes.
            bench.pooled().await.ask(&query("SELECT 1")).await;
        }
        invalid
    })
    .await;
    let mut after = bench.pooled().await;
    assert_eq!(after.reported("TimeZone").as_deref(), Some("Asia/Tokyo"));
    assert_eq!(after.value(ZONE).await, "Asia/Tokyo");
    // On a direct connection a session keeps what it was told.
    assert_eq!(before.value(ZONE).await, old);
    assert_eq!(after.value(ZONE).await, "Asia/Tokyo");
}

#[tokio::test]
async fn a_server_that_is_opened_with_other_defaults_is_what_the_next_login_sees() {
    let bench = Bench::with(&[("POOLWATCH_POOL__SIZE", "2")]).await;
    let mut direct = bench.direct().await;
    let (mut one, mut two) = (bench.pooled().await, bench.pooled().await);
    one.rows("BEGIN").await;
    let old = one.value(ZONE).await;
    let database = &bench.database.name;
    direct
        .rows(&format!(
            "ALTER ROLE postgres IN DATABASE \"{database}\" SET timezone = 'Asia/Tokyo'"
        ))
        .await;
    // A second server is opened now.
    assert_eq!(
        two.value(ZONE).await,
        old,
        "a session keeps what it was told"
    );
    let mut three = bench.pooled().await;
    assert_eq!(three.reported("TimeZone").as_deref(), Some("Asia/Tokyo"));
    assert_eq!(three.value(ZONE).await, "Asia/Tokyo");
    one.rows("COMMIT").await;
    // Whichever of the two servers they get.
    for _ in 0..4 {
        one.rows("BEGIN").await;
        assert_eq!(three.value(ZONE).await, "Asia/Tokyo");
        assert_eq!(one.value(ZONE).await, old);
        one.rows("COMMIT").await;
        three.rows("BEGIN").await;
        assert_eq!(one.value(ZONE).await, old);
        assert_eq!(three.value(ZONE).await, "Asia/Tokyo");
        three.rows("COMMIT").await;
    }
    assert_eq!(bench.pinned().await, 0.0);
}

/// Logs in straight and through the pool, and a third client through the pool that changes nothing.
async fn three(bench: &Bench, parameters: &[(&str, &str)]) -> (Raw, Raw, Raw) {
    let database = &bench.database.name;
    let direct = Raw::login_with(bench.direct_address(), database, parameters).await;
    (
        direct,
        bench.pooled_with(parameters).await,
        bench.pooled().await,
    )
}

/// What the statement is answered with, both ways, is the same, byte by byte; and between the statements the one server
/// serves another client, whose own parameters stay what they are.
async fn same_both_ways(bench: &Bench, parameters: &[(&str, &str)], statements: &[&str]) {
    let (mut direct, mut pooled, mut other) = three(bench, parameters).await;
    let show = "SELECT current_setting('TimeZone'), current_setting('DateStyle'), \
                current_setting('client_encoding'), current_setting('application_name'), \
                current_setting('IntervalStyle'), current_setting('work_mem')";
    let others = other.value(show).await;
    let mut in_transaction = false;
    for (number, sql) in statements.iter().enumerate() {
        let bytes = match number % 2 {
            0 => query(sql),
            _ => [run(sql, &[]), sync()].concat(),
        };
        let (expected, got) = (direct.ask(&bytes).await, pooled.ask(&bytes).await);
        assert_eq!(got, expected, "{sql} in {statements:?}");
        let status = expected.last().map(|ready: &Message| ready.body.clone());
        in_transaction = status != Some(b"I".to_vec());
        let expected = direct.ask(&query(show)).await;
        assert_eq!(
            pooled.ask(&query(show)).await,
            expected,
            "after {sql} in {statements:?}"
        );
        if !in_transaction {
            assert_eq!(bench.pinned().await, 0.0, "{sql} in {statements:?}");
            assert_eq!(other.value(show).await, others, "{sql} in {statements:?}");
        }
    }
    assert!(!in_transaction, "{statements:?}");
    drop((pooled, other));
    bench.settled().await;
}

#[tokio::test]
async fn a_parameter_that_is_reported_follows_its_client() {
    let bench = Bench::new().await;
    let programs: [&[&str]; 6] = [
        &[
            "SET TimeZone = 'Asia/Tokyo'",
            "SET TIME ZONE 'Europe/Oslo'",
            "SHOW TimeZone",
        ],
        &[
            "SELECT set_config('application_name', 'mine', false)",
            "SET application_name = 'it''s'",
        ],
        &[
            "SET NAMES 'latin1'",
            "SET client_encoding = 'UTF8'",
            "SET DateStyle = German",
        ],
        &[
            "BEGIN",
            "SET LOCAL TimeZone = 'Asia/Tokyo'",
            "SHOW TimeZone",
            "ROLLBACK",
            "SHOW TimeZone",
        ],
        &[
            "BEGIN",
            "SET TimeZone = 'Asia/Tokyo'",
            "ROLLBACK",
            "BEGIN",
            "SET IntervalStyle = 'iso_8601'",
            "COMMIT",
        ],
        &[
            "BEGIN",
            "SAVEPOINT a",
            "SET TimeZone = 'Asia/Tokyo'",
            "ROLLBACK TO a",
            "SET DateStyle = 'SQL, DMY'",
            "COMMIT",
        ],
    ];
    for statements in programs {
        same_both_ways(&bench, &[], statements).await;
    }
}

#[tokio::test]
async fn a_reset_gives_what_the_client_logged_in_with() {
    let bench = Bench::new().await;
    let login: &[(&str, &str)] = &[
        ("TimeZone", "Asia/Tokyo"),
        ("application_name", "mine"),
        ("options", "-c work_mem=5MB"),
    ];
    let programs: [&[&str]; 9] = [
        &[
            "SET TimeZone = 'Europe/Oslo'",
            "RESET TimeZone",
            "SET TIME ZONE 'Europe/Oslo'",
            "SET TimeZone TO DEFAULT",
        ],
        &[
            "RESET TimeZone",
            "RESET TimeZone",
            "RESET TIME ZONE",
            "SET TIME ZONE DEFAULT",
        ],
        // The server's default is set on purpose, and so it is not what RESET goes back to.
        &["SET TimeZone = 'GMT'", "RESET TimeZone"],
        &["RESET ALL", "DISCARD ALL", "RESET work_mem"],
        &["DISCARD ALL", "RESET ALL"],
        &[
            "BEGIN",
            "RESET TimeZone",
            "SET TimeZone = 'Europe/Oslo'",
            "RESET TimeZone",
            "COMMIT",
        ],
        &[
            "SET TimeZone = 'Europe/Oslo'",
            "BEGIN",
            "RESET TimeZone",
            "ROLLBACK",
            "RESET TimeZone",
        ],
        &[
            "BEGIN",
            "SAVEPOINT a",
            "RESET application_name",
            "ROLLBACK TO a",
            "RESET application_name",
            "ROLLBACK",
        ],
        &[
            "SET application_name = 'other'; RESET application_name; SET TimeZone = 'Europe/Oslo'",
            "RESET ALL",
        ],
    ];
    for statements in programs {
        same_both_ways(&bench, login, statements).await;
    }
    // What is pinned while it is reset.
    let (mut direct, mut pooled, _) = three(&bench, login).await;
    for sql in [
        "SET work_mem = '7MB'",
        "SET TimeZone = 'GMT'",
        "LISTEN news",
        "RESET ALL",
        "RESET work_mem",
    ] {
        assert_eq!(
            pooled.ask(&query(sql)).await,
            direct.ask(&query(sql)).await,
            "{sql}"
        );
        let show = query("SELECT current_setting('work_mem'), current_setting('TimeZone')");
        assert_eq!(pooled.ask(&show).await, direct.ask(&show).await, "{sql}");
    }
    // A Sync behind the one that ends its batch.
    let twice = [run("DISCARD ALL", &[]), sync(), sync()].concat();
    let mut answers = Vec::new();
    for client in [&mut direct, &mut pooled] {
        client.send(&twice).await;
        answers.push([client.until('Z').await, client.until('Z').await]);
    }
    assert_eq!(answers[1], answers[0]);
    // What follows in the same batch, and what follows that fails.
    for sql in [
        "RESET ALL",
        "RESET TimeZone",
        "DISCARD ALL",
        "SET TimeZone TO DEFAULT",
    ] {
        for last in [
            "SHOW TimeZone",
            "SELECT 1/0",
            "START TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        ] {
            let batch = [
                run("SET TimeZone = 'Europe/Oslo'", &[]),
                sync(),
                run(sql, &[]),
                run(last, &[]),
                run("SHOW TimeZone", &[]),
                sync(),
                query("SHOW TimeZone; ROLLBACK"),
            ];
            let mut answers = Vec::new();
            for client in [&mut direct, &mut pooled] {
                client.send(&batch.concat()).await;
                answers.push([
                    client.until('Z').await,
                    client.until('Z').await,
                    client.until('Z').await,
                ]);
            }
            assert_eq!(answers[1], answers[0], "{sql}, {last}");
        }
    }
    // DISCARD ALL is committed at once, so that it may stand behind itself.
    let batch = [run("DISCARD ALL", &[]), run("DISCARD ALL", &[]), sync()].concat();
    let again = [
        parse("", "DISCARD ALL"),
        bind("", "", &[]),
        execute("", 0),
        bind("", "", &[]),
        execute("", 0),
        run("SHOW TimeZone", &[]),
        sync(),
    ]
    .concat();
    // The error takes back what was set, not the DISCARD ALL: nothing has changed, so nothing is told.
    let failed = [
        run("DISCARD ALL", &[]),
        run("SELECT set_config('TimeZone', 'Europe/Oslo', false)", &[]),
        run("SELECT 1/0", &[]),
        sync(),
    ]
    .concat();
    for batch in [&batch, &again, &failed] {
        assert_eq!(pooled.ask(batch).await, direct.ask(batch).await);
        assert_eq!(pooled.value(ZONE).await, "Asia/Tokyo");
        assert_eq!(direct.value(ZONE).await, "Asia/Tokyo");
    }
    // Nor is a client told again what it has when a transaction that failed has ended.
    let chained = [
        run("DISCARD ALL", &[]),
        run("START TRANSACTION", &[]),
        run("SELECT 1/0", &[]),
        sync(),
    ]
    .concat();
    for batch in [
        &chained,
        &query("COMMIT AND CHAIN"),
        &query("SHOW TimeZone"),
        &query("ROLLBACK"),
    ] {
        assert_eq!(pooled.ask(batch).await, direct.ask(batch).await);
    }
    // Queries that were sent without a wait.
    let all = [
        query("RESET TimeZone"),
        query("SHOW TimeZone"),
        query("SHOW work_mem"),
    ]
    .concat();
    for client in [&mut direct, &mut pooled] {
        client.send(&all).await;
        let mut shown = Vec::new();
        for _ in 0..3 {
            let answer = client.until('Z').await;
            shown.extend(
                answer
                    .iter()
                    .filter(|message| message.tag == 'D')
                    .map(Message::row),
            );
        }
        assert_eq!(shown.concat(), ["Asia/Tokyo", "5MB"]);
    }
}

/// PostgreSQL says much between its answers if it is asked to, to statements of ours as well, and bytes come as they come.
#[tokio::test]
async fn what_is_said_of_our_own_statements_is_cut_out_in_whatever_pieces_it_comes() {
    let server = Postgres::shared().await;
    let database = server.database().await;
    let faults = Faults::before(server.port()).await;
    let sidecar = Sidecar::start_with(&database, &faults.through(&database.url), &[], &ONE).await;
    let login = [
        ("TimeZone", "Asia/Tokyo"),
        ("options", "-c client_min_messages=debug5"),
    ];
    let mut pooled = Raw::login_with(sidecar.proxy_addr(), &database.name, &login).await;
    let process = pooled.value(PROCESS).await;
    for piece in [1, 3, 50, 1_000] {
        faults.set(Trouble::Pieces(piece));
        for sql in [
            "RESET TimeZone",
            "DISCARD ALL",
            "SET jit = off",
            "SELECT set_config('jit', 'on', false)",
        ] {
            for bytes in [query(sql), [run(sql, &[]), sync()].concat()] {
                let answer = pooled.ask(&bytes).await;
                let tags = tags(&answer);
                assert!(!tags.contains('E') && tags.contains('N'), "{sql}: {tags}");
                assert_eq!(tags.matches('C').count(), 1, "{sql}: {tags}");
                assert_eq!(pooled.value(ZONE).await, "Asia/Tokyo", "{sql}");
            }
        }
    }
    assert_eq!(
        pooled.value(PROCESS).await,
        process,
        "the connection was kept"
    );
}

#[tokio::test]
async fn psql_has_what_pgoptions_say_next_to_one_that_has_other() {
    let bench = Bench::new().await;
    let psql = |options: &'static str| {
        let mut command = tokio::process::Command::new(&bench.database.program);
        command
            .args(["-X", "-A", "-t", "-c", "SHOW statement_timeout", "-c"])
            .args(["RESET statement_timeout", "-c", "SHOW statement_timeout"])
            .arg(bench.sidecar.url())
            .env("PGOPTIONS", options)
            .kill_on_drop(true);
        async move {
            let output = command.output().await.expect("psql runs");
            String::from_utf8_lossy(&output.stdout).into_owned()
        }
    };
    for _ in 0..2 {
        let (one, two) = tokio::join!(
            psql("-c statement_timeout=61s"),
            psql("-c statement_timeout=62s -c geqo=off")
        );
        assert_eq!(
            (one.as_str(), two.as_str()),
            ("61s\nRESET\n61s\n", "62s\nRESET\n62s\n")
        );
        assert_eq!(psql("").await, "0\nRESET\n0\n");
    }
    assert_eq!(bench.pinned().await, 0.0);
}

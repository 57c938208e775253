//! The commands under load: pgbench goes on and loses nothing.

use super::{Guarded, LIMIT, done, row};
use crate::support::{Pgbench, eventually};

const SCRIPT: &str = "\\set n random(1, 1000000)\nBEGIN;\nINSERT INTO done VALUES (:n);\nSELECT count(*) FROM (SELECT 1) AS one;\nCOMMIT;\n";

/// Clients of pgbench.
const CLIENTS: &str = "8";

async fn committed(guarded: &Guarded) -> u32 {
    let direct = guarded.direct().await;
    let count = direct
        .query_one("SELECT count(*)::int FROM done", &[])
        .await;
    u32::try_from(count.expect("a count").get::<_, i32>(0)).expect("a count")
}

/// Each of these again and again while pgbench runs.
async fn under_load(protocol: &str, commands: &[&str]) -> u32 {
    let guarded = Guarded::start().await;
    let direct = guarded.direct().await;
    direct
        .batch_execute("CREATE TABLE done (n int)")
        .await
        .expect("a table");
    let admin = guarded.admin().await;
    let arguments = ["-c", CLIENTS, "-j", "1", "-T", "4", "-M", protocol];
    let load = Pgbench::run(&guarded.database, &guarded.sidecar, SCRIPT, &arguments);
    let mut rounds = 0;
    let orders = async {
        eventually(LIMIT, || async { committed(&guarded).await > 20 }).await;
        loop {
            for command in commands {
                done(&admin, &command.replace("<db>", &guarded.database.name)).await;
            }
            rounds += 1;
            let before = committed(&guarded).await;
            // Between two rounds there is work: else nothing would be interrupted.
            eventually(LIMIT, || async {
                committed(&guarded).await > before || done(&admin, "SHOW CLIENTS").await.len() == 1
            })
            .await;
        }
    };
    let report = tokio::select! {
        report = load => report,
        () = orders => unreachable!("the orders have no end"),
    };
    // The last round may have been cut off between two of its commands.
    let transactions = report.clean();
    assert!(rounds > 1, "{rounds} rounds");
    assert_eq!(
        transactions,
        committed(&guarded).await,
        "after {rounds} rounds of {commands:?}"
    );
    let stats = done(&guarded.admin().await, "SHOW STATS_TOTALS").await;
    let counted: u32 = row(&stats, "database", &guarded.database.name)["xact_count"]
        .parse()
        .expect("a number");
    assert_eq!(counted, transactions);
    rounds
}

#[tokio::test]
async fn pause_and_resume_lose_no_transaction() {
    under_load(
        "prepared",
        &["PAUSE", "RESUME", "PAUSE <db>", "RESUME <db>"],
    )
    .await;
}

#[tokio::test]
async fn reconnect_and_wait_close_lose_no_transaction() {
    under_load(
        "extended",
        &[
            "RECONNECT",
            "WAIT_CLOSE",
            "RECONNECT <db>",
            "WAIT_CLOSE <db>",
        ],
    )
    .await;
}

#[tokio::test]
async fn suspend_reload_and_set_lose_no_transaction() {
    let commands = [
        "SUSPEND",
        "RESUME",
        "RELOAD",
        "SET pool.size = 3",
        "DISABLE <db>",
        "ENABLE <db>",
    ];
    under_load("simple", &commands).await;
}

//! poolwatch as a process: it starts, serves, is scraped, and ends when told to.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Exit, Faults, Postgres, Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(30);

#[tokio::test]
async fn queries_flow_through_it_and_sigterm_ends_it() {
    let database = Postgres::shared().await.database().await;
    let network = Faults::before(Postgres::shared().await.port()).await;
    let upstream = network.through(&database.url);
    let mut sidecar = Sidecar::start_with(&database, &upstream, &[], &[]).await;
    let output = sidecar.psql("SELECT 6 * 7").await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "42\n",
        "{output:?}"
    );
    let client = sidecar.connect().await;
    client.simple_query("SELECT 1").await.expect("a query");
    let transactions = eventually(LIMIT, || async {
        let count = sidecar
            .scrape()
            .await
            .sum("poolwatch_transactions_total", &[]);
        (count >= 2.0).then_some(count)
    })
    .await;
    assert_eq!(transactions, 2.0);
    assert!(network.bytes_to_server() > 0, "it went another way");
    sidecar.signal(Signal::SIGTERM);
    assert_eq!(sidecar.wait_exit(LIMIT).await, Exit { code: Some(0) });
    eventually(LIMIT, || async { database.sessions().await == 0 }).await;
}

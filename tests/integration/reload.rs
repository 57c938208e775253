//! SIGHUP: what can be changed while running is, every difference is logged, and wrong settings change nothing.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::support::{Postgres, Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(20);

async fn logged(sidecar: &Sidecar, wanted: &[&str]) {
    eventually(LIMIT, || async {
        let logs = sidecar.logs();
        logs.iter()
            .any(|line| wanted.iter().all(|part| line.contains(part)))
    })
    .await;
}

async fn size(sidecar: &Sidecar, database: &str) -> u64 {
    let (_, body) = sidecar.get("/api/v1/pools").await;
    let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let pools = value["pools"].as_array().expect("pools");
    let pool = pools
        .iter()
        .find(|pool| pool["name"] != "control" && pool["database"] == database);
    pool.expect("the pool")["size"].as_u64().expect("a size")
}

#[tokio::test]
async fn sighup_applies_what_it_may_and_says_what_it_did() {
    let database = Postgres::shared().await.database().await;
    let file = std::env::temp_dir().join(format!("{}.toml", database.name));
    std::fs::write(&file, "[pool]\nsize = 5\n").expect("a settings file");
    let path = file.to_str().expect("a path in UTF-8");
    let sidecar = Sidecar::start_with(&database, &database.url, &["--config", path], &[]).await;
    let client = sidecar.connect().await;
    client.batch_execute("SELECT 1").await.expect("an answer");
    assert_eq!(size(&sidecar, &database.name).await, 5);

    let changed = "[pool]\nsize = 7\nmode = \"session\"\n[log]\nlevel = \"debug\"\n";
    std::fs::write(&file, changed).expect("a settings file");
    sidecar.signal(Signal::SIGHUP);
    logged(&sidecar, &["settings read again"]).await;
    logged(&sidecar, &["setting changed", "pool.size", "5", "7"]).await;
    logged(&sidecar, &["setting changed", "log.level", "info", "debug"]).await;
    logged(&sidecar, &["needs a restart", "pool.mode"]).await;
    assert_eq!(size(&sidecar, &database.name).await, 7);

    std::fs::write(&file, "[pool]\nsize = 3\nsizze = 3\n").expect("a settings file");
    sidecar.signal(Signal::SIGHUP);
    logged(&sidecar, &["settings not applied"]).await;
    assert_eq!(size(&sidecar, &database.name).await, 7);
    client.batch_execute("SELECT 1").await.expect("an answer");
    std::fs::remove_file(&file).expect("the settings file");
}

//! What `poolwatch serve` shows of migrations: where they stand, a run that is under way, and how old all that is.

use std::time::Duration;

use poolwatch::ops::postgres::{Mode, Options};

use crate::migrate::{ORDERS, Project};
use crate::support::program::run;
use crate::support::{Database, Postgres, Scrape, Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(30);

async fn watching(database: &Database, settings: &[(&str, &str)]) -> Sidecar {
    let mut environment = vec![("POOLWATCH_MIGRATE__WATCH", "50ms")];
    environment.extend(settings);
    Sidecar::start_with(database, &database.url, &[], &environment).await
}

/// All figures of migrations, as lines without the name's beginning; those of a tool only. No times.
fn figures(scrape: &Scrape, tool: &str) -> Vec<String> {
    let lines = scrape.text.lines();
    let of_tool = lines.filter(|line| line.contains(&format!("tool=\"{tool}\"")));
    of_tool
        .filter_map(|line| line.strip_prefix("poolwatch_migration"))
        .filter(|line| !line.contains("seconds") && !line.ends_with(" 0"))
        .map(|line| line.replace(&format!("tool=\"{tool}\""), ""))
        .map(|line| line.replace("{,", "{").replace(",}", "}").replace("{}", ""))
        .collect()
}

/// Waits until those are the figures.
async fn shown(sidecar: &Sidecar, tool: &str, expected: &[&str]) {
    eventually(LIMIT, || async {
        let found = figures(&sidecar.scrape().await, tool);
        (found == expected)
            .then_some(())
            .ok_or_else(|| format!("{found:#?}"))
    })
    .await;
}

fn collector(scrape: &Scrape, figure: &str) -> f64 {
    let labels = [("collector", "migrations")];
    scrape.value(&format!("poolwatch_collector_{figure}"), &labels)
}

#[tokio::test]
async fn versions_and_what_is_pending_are_shown() {
    let project = Project::new(&ORDERS).await;
    let revisions = Project::new(&[
        (
            "1_first.py",
            "revision: str = 'first'\ndown_revision: Union[str, None] = None\n",
        ),
        (
            "2_left.py",
            "revision: str = 'left'\ndown_revision: Union[str, None] = 'first'\n",
        ),
        (
            "3_right.py",
            "revision = \"right\"\ndown_revision = \"first\"\n",
        ),
        (
            "4_both.py",
            "revision = 'both'\ndown_revision = ('left', 'right')\n",
        ),
        ("env.py", "import alembic\n"),
    ])
    .await;
    let source = [
        (
            "POOLWATCH_MIGRATE__SOURCE",
            project.directory.to_str().unwrap(),
        ),
        (
            "POOLWATCH_MIGRATE__ALEMBIC_SOURCE",
            revisions.directory.to_str().unwrap(),
        ),
    ];
    let sidecar = watching(&project.database, &source).await;
    shown(&sidecar, "sqlx", &["s_pending 2"]).await;
    shown(&sidecar, "alembic", &["s_pending 4"]).await;
    project.migrate(&["up", "--to", "1"]).await.expect(0);
    let at_one = ["_heads 1", "_info{version=\"1\"} 1", "s_pending 1"];
    shown(&sidecar, "sqlx", &at_one).await;
    let client = project.database.connect().await;
    client
        .batch_execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); INSERT INTO alembic_version VALUES ('left'), ('right')")
        .await
        .unwrap();
    let two = [
        "_heads 2",
        "_info{version=\"left\"} 1",
        "_info{version=\"right\"} 1",
        "s_pending 1",
    ];
    shown(&sidecar, "alembic", &two).await;
    // Ahead of the directory: what is pending cannot be told.
    client
        .batch_execute("DELETE FROM alembic_version; INSERT INTO alembic_version VALUES ('newer')")
        .await
        .unwrap();
    shown(
        &sidecar,
        "alembic",
        &["_heads 1", "_info{version=\"newer\"} 1"],
    )
    .await;
    let scrape = sidecar.scrape().await;
    assert_eq!(collector(&scrape, "success"), 1.0);
    // Looks use a connection again, and leave nothing in it.
    let opened = [("db_client_connection_pool_name", "control")];
    let opened = scrape.value("poolwatch_pool_connections_opened_total", &opened);
    assert!(opened <= 2.0, "{opened} connections");
}

#[tokio::test]
async fn a_run_and_whom_it_waits_for_are_shown() {
    let project = Project::new(&ORDERS).await;
    project.migrate(&["up", "--to", "1"]).await.expect(0);
    let sidecar = watching(&project.database, &[]).await;
    let stands = ["_heads 1", "_info{version=\"1\"} 1"];
    shown(&sidecar, "sqlx", &stands).await;
    let holder = project.database.connect().await;
    let open = "SET application_name TO 'the report'; BEGIN; SELECT * FROM orders";
    holder.batch_execute(open).await.unwrap();
    let waiting = tokio::spawn(run(project.command(&["up"])));
    let blocked = [
        "_blockers{blocker=\"idle_in_transaction\"} 1",
        "_heads 1",
        "_info{version=\"1\"} 1",
        "_running 1",
    ];
    shown(&sidecar, "sqlx", &blocked).await;
    let tool = [("tool", "sqlx")];
    let took = sidecar
        .scrape()
        .await
        .value("poolwatch_migration_run_seconds", &tool);
    assert!(took > 0.0, "{took}");
    let said: Vec<_> = sidecar.logs();
    let said = said
        .iter()
        .filter(|line| line.contains("a migration waits for locks of others"));
    let said: Vec<_> = said.collect();
    assert!(
        said.len() == 1
            && said[0].contains("the report")
            && said[0].contains("idle in transaction"),
        "{said:?}"
    );
    holder.batch_execute("COMMIT").await.unwrap();
    waiting.await.unwrap().expect(0);
    shown(&sidecar, "sqlx", &["_heads 1", "_info{version=\"2\"} 1"]).await;
    let took = sidecar
        .scrape()
        .await
        .value("poolwatch_migration_run_seconds", &tool);
    assert_eq!(took, 0.0);
}

#[tokio::test]
async fn alembics_own_run_is_noticed_by_what_it_does() {
    let project = Project::new(&[]).await;
    let sql = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); \
               INSERT INTO alembic_version VALUES ('one'); CREATE TABLE orders ()";
    let client = project.database.connect().await;
    client.batch_execute(sql).await.unwrap();
    let sidecar = watching(&project.database, &[]).await;
    let stands = ["_heads 1", "_info{version=\"one\"} 1"];
    shown(&sidecar, "alembic", &stands).await;
    // Who only looks is no run.
    client
        .batch_execute("BEGIN; SELECT * FROM alembic_version")
        .await
        .unwrap();
    let seen = sidecar.scrape().await;
    let last = collector(&seen, "last_success_timestamp_seconds");
    eventually(LIMIT, || async {
        collector(&sidecar.scrape().await, "last_success_timestamp_seconds") > last + 0.2
    })
    .await;
    assert_eq!(figures(&sidecar.scrape().await, "alembic"), stands);
    // As Alembic goes about it: its table first, then what the scripts say, then its table again.
    let holder = project.database.connect().await;
    holder
        .batch_execute("BEGIN; SELECT * FROM orders")
        .await
        .unwrap();
    let altering = tokio::spawn(async move {
        client.batch_execute("ALTER TABLE orders ADD id int; UPDATE alembic_version SET version_num = 'two'; COMMIT").await
    });
    let blocked = [
        "_blockers{blocker=\"idle_in_transaction\"} 1",
        "_heads 1",
        "_info{version=\"one\"} 1",
        "_running 1",
    ];
    shown(&sidecar, "alembic", &blocked).await;
    holder.batch_execute("COMMIT").await.unwrap();
    altering.await.unwrap().unwrap();
    shown(
        &sidecar,
        "alembic",
        &["_heads 1", "_info{version=\"two\"} 1"],
    )
    .await;
}

/// The last figures stay, and say how old they are.
#[tokio::test]
async fn a_look_that_fails_is_shown_and_waits_for_nobody_long() {
    let mut server = Postgres::own(Options::default()).await;
    let database = server.database().await;
    let client = database.connect().await;
    let sql = "CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY); INSERT INTO alembic_version VALUES ('one')";
    client.batch_execute(sql).await.unwrap();
    let sidecar = watching(&database, &[]).await;
    let stands = ["_heads 1", "_info{version=\"one\"} 1"];
    shown(&sidecar, "alembic", &stands).await;
    let success = async |expected: f64| {
        eventually(LIMIT, || async {
            let scrape = sidecar.scrape().await;
            (collector(&scrape, "success") == expected).then_some(scrape)
        })
        .await
    };
    success(1.0).await;
    client
        .batch_execute("BEGIN; LOCK TABLE alembic_version IN ACCESS EXCLUSIVE MODE")
        .await
        .unwrap();
    let failed = success(0.0).await;
    let took = collector(&failed, "duration_seconds");
    assert!((1.0..5.0).contains(&took), "{took}");
    // The run is seen nevertheless.
    let running = ["_heads 1", "_info{version=\"one\"} 1", "_running 1"];
    assert_eq!(figures(&failed, "alembic"), running);
    let stale = collector(&failed, "last_success_timestamp_seconds");
    let again = sidecar.scrape().await;
    assert_eq!(collector(&again, "last_success_timestamp_seconds"), stale);
    client.batch_execute("COMMIT").await.unwrap();
    let mended = success(1.0).await;
    assert!(collector(&mended, "last_success_timestamp_seconds") > stale);
    shown(&sidecar, "alembic", &stands).await;

    server.stop(Mode::Fast).await.unwrap();
    let down = success(0.0).await;
    assert_eq!(figures(&down, "alembic"), stands);
    server.start_again().await.unwrap();
    success(1.0).await;
    let said = sidecar.logs();
    let said = said
        .iter()
        .filter(|line| line.contains("were not looked at"));
    assert!(said.count() >= 2, "{:#?}", sidecar.logs());
}

#[tokio::test]
async fn what_is_off_is_not_shown() {
    let database = Postgres::shared().await.database().await;
    let sidecar = watching(&database, &[("POOLWATCH_MIGRATE__WATCH", "off")]).await;
    let text = sidecar.scrape().await.text;
    assert!(
        !text.contains("poolwatch_migration") && !text.contains("poolwatch_collector"),
        "{text}"
    );
}

//! What `poolwatch migrate` says when the server cannot do it, and that nothing is half-done then.

use poolwatch::ops::postgres::{Mode, Options};

use crate::migrate::{ORDERS, Project};
use crate::support::Postgres;
use crate::support::program::run;

#[tokio::test]
async fn a_standby_and_a_read_only_server_are_told_apart() {
    let mut server = Postgres::own(Options::default()).await;
    let project = Project::on(&server, &ORDERS).await;
    project.migrate(&["up", "--to", "1"]).await.expect(0);
    server
        .add_conf("default_transaction_read_only = on")
        .unwrap();
    server.stop(Mode::Fast).await.unwrap();
    server.start_again().await.unwrap();
    let told = async |expected: &str| {
        for command in ["up", "down"] {
            let ended = project.migrate(&[command]).await.expect(1);
            ended.says(expected);
        }
        // Who only looks may.
        assert_eq!(project.states().await, "1 applied, 2 pending");
    };
    told("default_transaction_read_only is on").await;
    server.stop(Mode::Fast).await.unwrap();
    std::fs::write(server.socket_dir().join("data/standby.signal"), "").unwrap();
    server.start_again().await.unwrap();
    told("the server is a read-only standby: connect to its primary").await;
}

#[tokio::test]
async fn missing_rights_are_told_and_nothing_is_left() {
    let server = Postgres::shared().await;
    let project = Project::new(&ORDERS).await;
    let role = format!("nobody_{:08x}", rand::random::<u32>());
    let admin = project.database.connect().await;
    admin
        .batch_execute(&format!("CREATE ROLE {role} LOGIN"))
        .await
        .unwrap();
    let url = server.url(&role, &project.database.name);
    let up = async || run(project.command_at(&url, &["up"])).await.expect(1).err;
    let none = up().await;
    assert!(
        none.contains("the table of migrations cannot be used: permission denied for schema public (SQLSTATE 42501)"),
        "{none}"
    );
    // The table may be read, and not written.
    project.migrate(&["up", "--to", "1"]).await.expect(0);
    let hidden = up().await;
    assert!(
        hidden.contains("permission denied for table _sqlx_migrations (SQLSTATE 42501)"),
        "{hidden}"
    );
    // All but what the script is about.
    let sql =
        format!("GRANT CREATE ON SCHEMA public TO {role}; GRANT ALL ON _sqlx_migrations TO {role}");
    admin.batch_execute(&sql).await.unwrap();
    let script = up().await;
    for told in [
        "2_prices.up.sql failed: must be owner of table orders (SQLSTATE 42501)",
        "all of it was rolled back; the database stands at version 1",
    ] {
        assert!(script.contains(told), "{told} is not in\n{script}");
    }
    assert_eq!(project.states().await, "1 applied, 2 pending");
    let sql = format!("DROP OWNED BY {role}; DROP ROLE {role}");
    admin.batch_execute(&sql).await.unwrap();
}

/// The file of a table is /dev/full, which answers every write as a full disk does.
#[tokio::test]
async fn a_full_disk_is_told_and_leaves_the_database_as_it_was() {
    let server = Postgres::own(Options::default()).await;
    let project = Project::on(&server, &[("1_events.sql", "CREATE TABLE events (n int)")]).await;
    project.write(
        "2_fill.sql",
        "CREATE TABLE half ();\nINSERT INTO events VALUES (1);\n",
    );
    project.migrate(&["up", "--to", "1"]).await.expect(0);
    let file = project.value("SELECT pg_relation_filepath('events')").await;
    let file = server.socket_dir().join("data").join(file);
    let kept = file.with_extension("kept");
    std::fs::rename(&file, &kept).unwrap();
    std::os::unix::fs::symlink("/dev/full", &file).unwrap();
    let full = project.migrate(&["up"]).await.expect(1);
    for told in [
        "2_fill.sql failed: could not extend file",
        "No space left on device (SQLSTATE 53100); Check free disk space.",
        "all of it was rolled back; the database stands at version 1",
    ] {
        full.says(told);
    }
    let half = "SELECT coalesce(to_regclass('half')::text, 'none')";
    assert_eq!(project.value(half).await, "none");
    assert_eq!(project.states().await, "1 applied, 2 pending");
    std::fs::rename(&kept, &file).unwrap();
    project.migrate(&["up"]).await.expect(0);
    assert_eq!(
        project.value("SELECT count(*)::text FROM events").await,
        "1"
    );
}

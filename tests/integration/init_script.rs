//! `config/init.sql`, run by psql as PostgreSQL's container runs it, leaves what `poolwatch init` leaves.

use crate::init::{Pair, WHOLE, superuser};
use crate::support::Postgres;
use crate::support::program::{Ended, clean, poolwatch, run};

/// The script with these flags, in a file.
async fn script(flags: &[&str]) -> tempfile_of::File {
    let mut arguments = vec!["init", "--print-sql"];
    arguments.extend(flags);
    let printed = run(poolwatch(&arguments, &[])).await.expect(0);
    tempfile_of::File::with(&printed.out)
}

/// A file that goes when it is dropped.
mod tempfile_of {
    use std::path::PathBuf;

    pub(super) struct File(pub(super) PathBuf);

    impl File {
        pub(super) fn with(text: &str) -> Self {
            let name = format!("poolwatch-script-{:08x}.sql", rand::random::<u32>());
            let path = std::env::temp_dir().join(name);
            std::fs::write(&path, text).expect("a temporary file");
            Self(path)
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }
}

/// As the image's entry point does it: no psqlrc, the variables of the container.
async fn psql(server: &Postgres, file: &std::path::Path, environment: &[(&str, &str)]) -> Ended {
    let program = server.binaries().program("psql");
    let url = superuser(server);
    let arguments = [
        "-X",
        "-v",
        "ON_ERROR_STOP=1",
        "--no-password",
        "-d",
        &url,
        "-f",
        file.to_str().expect("UTF-8"),
    ];
    run(clean(program, &arguments, environment)).await
}

fn variables(pair: &Pair) -> [(&'static str, &str); 3] {
    [
        ("POSTGRES_USER", pair.role.as_str()),
        ("POSTGRES_PASSWORD", "hunter2"),
        ("POSTGRES_DB", pair.database.as_str()),
    ]
}

#[tokio::test]
async fn the_script_leaves_what_init_leaves_and_runs_twice() {
    let server = Postgres::shared().await;
    for flags in [
        &["--vector", "optional"][..],
        &["--vector", "off", "--sidecar"],
    ] {
        let file = script(flags).await;
        let (by_script, by_init) = (Pair::new(), Pair::new());
        for _ in 0..2 {
            let ended = psql(server, &file.0, &variables(&by_script))
                .await
                .expect(0);
            assert_eq!((ended.out.as_str(), ended.err.as_str()), ("", ""));
        }
        by_init.init(&superuser(server), flags).await.expect(0);
        let state = by_script.state(server).await;
        assert_eq!(state, by_init.state(server).await);
        if !flags.contains(&"--sidecar") {
            assert_eq!(state, WHOLE);
        }
        // Each finds what the other has made.
        let again = by_script.init(&superuser(server), flags).await.expect(0);
        assert!(!again.out.contains("done"), "{}", again.out);
        let ended = psql(server, &file.0, &variables(&by_init)).await.expect(0);
        assert_eq!(ended.err, "");
        assert_eq!(by_init.state(server).await, state);
    }
}

#[tokio::test]
async fn the_script_does_on_a_database_that_is_there_what_init_does() {
    let server = Postgres::shared().await;
    // As in the container, whose entry point makes the database for its own superuser.
    let (by_script, by_init) = (Pair::new(), Pair::new());
    let client = server.connect("postgres").await;
    for pair in [&by_script, &by_init] {
        let sql = format!("CREATE DATABASE {}", pair.database);
        client.batch_execute(&sql).await.unwrap();
    }
    let file = script(&["--vector", "off"]).await;
    psql(server, &file.0, &variables(&by_script))
        .await
        .expect(0);
    by_init.init(&superuser(server), &[]).await.expect(0);
    let state = by_script.state(server).await;
    assert_eq!(state, by_init.state(server).await);
    assert!(
        state.contains("owner=postgres")
            && state.contains("acl={postgres=CTc/postgres,ROLE=Tc/postgres}"),
        "{state}"
    );
}

#[tokio::test]
async fn the_script_refuses_what_init_refuses() {
    let server = Postgres::shared().await;
    let pair = Pair::new();
    let file = script(&[]).await;
    let ended = psql(server, &file.0, &variables(&pair)).await.expect(3);
    ended.says("the server has no extension \"vector\" (pgvector)");
    assert_eq!(pair.state(server).await, "");

    let client = server.connect("postgres").await;
    let sql = format!("CREATE DATABASE {}", pair.database);
    client.batch_execute(&sql).await.unwrap();
    let inside = server.connect(&pair.database).await;
    inside
        .batch_execute("CREATE TABLE public.orders ()")
        .await
        .unwrap();
    let before = pair.state(server).await;
    let file = script(&["--vector", "off"]).await;
    let ended = psql(server, &file.0, &variables(&pair)).await.expect(3);
    assert!(
        ended.err.contains("it holds table orders")
            || ended.err.contains("it holds table public.orders"),
        "{}",
        ended.err
    );
    let after = pair.state(server).await;
    assert!(after.ends_with(&before), "{after}\nwas\n{before}");
    let file = script(&["--vector", "off", "--drop-public=cascade"]).await;
    psql(server, &file.0, &variables(&pair)).await.expect(0);
    assert!(!pair.state(server).await.contains("schema public"));
}

#[tokio::test]
async fn the_script_takes_secrets_from_files_and_warns_of_the_default() {
    let server = Postgres::shared().await;
    let pair = Pair::new();
    let named = tempfile_of::File::with(&format!("{}\n", pair.role));
    let file = script(&["--vector", "off"]).await;
    let environment = [
        ("POSTGRES_USER_FILE", named.0.to_str().unwrap()),
        ("POSTGRES_DB", pair.database.as_str()),
    ];
    let ended = psql(server, &file.0, &environment).await.expect(0);
    ended.says("the role gets the default one");
    assert_eq!(pair.state(server).await, WHOLE);
}

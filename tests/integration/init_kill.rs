//! `poolwatch init` killed (SIGKILL) at every step: whatever is left, the next run makes the whole of it.

use super::init::{Pair, WHOLE, superuser};
use crate::support::program::poolwatch;
use crate::support::{Postgres, Tap, When};

/// More than `init` sends by far; a run that gets there would be stuck in a loop.
const MOST: u32 = 200;

/// Kills a run after so many requests; whether it ended by itself before.
async fn killed(server: &Postgres, entry: &str, pair: &Pair, allowed: u32, when: When) -> bool {
    let tap = Tap::before(server.port(), allowed, when).await;
    let url = format!(
        "init.url=postgres://{}@127.0.0.1:{}/{entry}?sslmode=disable",
        server.user(),
        tap.port
    );
    let arguments = [
        "init",
        "--set",
        &url,
        "--vector",
        "off",
        "--sidecar",
        "--user",
        &pair.role,
        "--database",
        &pair.database,
    ];
    let password = [("POSTGRES_PASSWORD", "hunter2")];
    tap.kills(poolwatch(&arguments, &password)).await
}

async fn at_every_step(when: When) {
    let server = Postgres::shared().await;
    let url = superuser(server);
    // Other tests take the lock of `postgres`, and a run that waits for it asks more often: the steps would not be the same.
    let entry = server.database().await.name;
    let mut seen = std::collections::BTreeSet::new();
    for allowed in 0..MOST {
        let pair = Pair::new();
        let whole = killed(server, &entry, &pair, allowed, when).await;
        let left = pair.state(server).await;
        let again = pair.init(&url, &["--sidecar"]).await.expect(0);
        let expected = WHOLE
            .replace("\ndatabase", "\nmember of poolwatch\ndatabase")
            .replace("CTc/ROLE", "CTc/ROLE,poolwatch=c/ROLE")
            .replace(
                "\nsetting",
                "\nschema poolwatch owner=poolwatch acl=\nsetting",
            );
        assert_eq!(
            pair.state(server).await,
            expected,
            "{allowed} {when:?} left\n{left}"
        );
        seen.insert(left);
        if whole {
            assert!(!again.out.contains("done"), "{}", again.out);
            // Nothing, the roles, the database without and with what is in it: all or nothing within each.
            assert_eq!(seen.len(), 4, "{seen:#?}");
            return;
        }
    }
    panic!("{MOST} requests were not enough");
}

#[tokio::test]
async fn killed_after_any_answer_the_next_run_makes_the_rest() {
    at_every_step(When::Answered).await;
}

#[tokio::test]
async fn killed_while_postgresql_works_the_next_run_makes_the_rest() {
    at_every_step(When::Sent).await;
}

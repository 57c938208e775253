//! Orders and the pools they are about. No server is opened.

use bb8::ManageConnection;

use super::*;
use crate::backend::tests::fake::{saying, welcome};
use crate::backend::{Credentials, ServerManager};
use crate::cluster::{RouteError, testing};
use crate::metrics::Metrics;

fn pool(cluster: &Cluster, database: &str) -> Arc<PoolHandle> {
    let pool = cluster.pool("app", database, &Credentials::default());
    pool.unwrap()
}

fn paused(pool: &PoolHandle) -> bool {
    pool.pool.status().paused
}

#[tokio::test]
async fn a_pause_holds_for_the_pools_there_are_and_those_to_come() {
    let cluster = testing::cluster(&Metrics::new());
    let one = pool(&cluster, "one");
    assert!(cluster.pause(None));
    assert!(!cluster.pause(None), "it was so before");
    let two = pool(&cluster, "two");
    assert!(paused(&one) && paused(&two));
    assert!(cluster.resume(None));
    assert!(!cluster.resume(None), "it was not so any more");
    assert!(!paused(&one) && !paused(&two));
}

#[tokio::test]
async fn what_was_paused_by_name_is_resumed_by_name() {
    let cluster = testing::cluster(&Metrics::new());
    let (one, two) = (pool(&cluster, "one"), pool(&cluster, "two"));
    assert!(cluster.pause(Some("one")) && cluster.pause(Some("later")));
    assert!(paused(&one) && !paused(&two) && paused(&pool(&cluster, "later")));
    cluster.pause(None);
    cluster.resume(None);
    assert!(paused(&one) && !paused(&two), "all is not each");
    cluster.pause(None);
    assert!(cluster.resume(Some("one")));
    assert!(paused(&one), "it is paused with all");
    cluster.resume(None);
    assert!(!paused(&one));
    assert!(!cluster.resume(Some("one")));
    let ordered = cluster.ordered();
    assert!(ordered.is_paused("later") && !ordered.is_paused("one"));
}

#[tokio::test]
async fn an_operators_pause_and_a_commands_do_not_end_each_other() {
    let cluster = testing::cluster(&Metrics::new());
    let pool = pool(&cluster, "one");
    pool.hold();
    cluster.pause(None);
    pool.release();
    assert!(paused(&pool), "the operator's lasts");
    pool.hold();
    cluster.resume(None);
    assert!(paused(&pool), "the command's lasts");
    pool.release();
    assert!(!paused(&pool));
}

#[tokio::test]
async fn a_disabled_database_gets_nobody_and_is_known() {
    let cluster = testing::cluster(&Metrics::new());
    let inside = pool(&cluster, "one");
    cluster.set_disabled("one", true);
    let refused = cluster.pool("app", "one", &Credentials::default());
    assert!(matches!(refused, Err(RouteError::Disabled(name)) if name == "one"));
    assert!(!paused(&inside));
    cluster.set_disabled("nowhere", true);
    assert!(cluster.knows("db") && cluster.knows("one") && cluster.knows("nowhere"));
    assert!(!cluster.knows("elsewhere"));
    cluster.set_disabled("nowhere", false);
    assert!(!cluster.knows("nowhere"));
    cluster.set_disabled("one", false);
    pool(&cluster, "one");
}

#[tokio::test]
async fn a_wait_for_servers_to_be_replaced_ends_with_the_last_of_them_or_at_its_limit() {
    let cluster = testing::cluster(&Metrics::new());
    let pool = pool(&cluster, "one");
    let (long, short) = (Duration::from_secs(30), Duration::from_millis(100));
    cluster.released(None, short).await.unwrap();
    let (target, _serving) = saying(welcome()).await;
    let manager = ServerManager::listing(target, pool.roster.clone());
    let server = manager.connect().await.unwrap();
    cluster.replaced(Some("one"), short).await.unwrap();
    cluster.reconnect(Some("two"));
    cluster.replaced(None, short).await.unwrap();
    cluster.reconnect(Some("one"));
    let error = cluster.replaced(None, short).await.unwrap_err();
    assert_eq!(
        error,
        StillThere {
            left: 1,
            after: short
        }
    );
    cluster.replaced(Some("two"), short).await.unwrap();
    let closing = async {
        tokio::task::yield_now().await;
        drop(server);
    };
    let (replaced, ()) = tokio::join!(cluster.replaced(None, long), closing);
    replaced.unwrap();
}

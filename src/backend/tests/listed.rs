//! Servers in the list of their pool.

use std::time::SystemTime;

use bb8::ManageConnection;
use tokio::time::Instant;

use super::fake::*;
use crate::backend::*;

/// A manager of servers that log in and say no more, which are in this list.
async fn listing(roster: &Roster) -> (ServerManager, tokio::task::JoinHandle<()>) {
    let (target, task) = saying(welcome()).await;
    (ServerManager::listing(target, roster.clone()), task)
}

#[tokio::test]
async fn a_server_is_in_the_list_from_its_opening_to_its_drop() {
    let (ids, before) = (Ids::default(), SystemTime::now());
    let (roster, other) = (Roster::new(ids.clone()), Roster::new(ids));
    let (manager, task) = listing(&roster).await;
    let server = manager.connect().await.unwrap();
    let (elsewhere, _task) = listing(&other).await;
    let elsewhere = elsewhere.connect().await.unwrap();

    let listed = roster.snapshot();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].address.is_some() && listed[0].local_address.is_some());
    assert_eq!((listed[0].process_id, listed[0].held), (9, false));
    assert!(listed[0].opened_at >= before && listed[0].asked_at == listed[0].opened_at);
    assert_eq!(server.cancels().server(), listed[0].id);
    assert!(
        other.snapshot()[0].id > listed[0].id,
        "ids are of all pools"
    );

    server.hold();
    server.asked(Instant::now() + LONG);
    let held = roster.snapshot().remove(0);
    assert!(held.held && held.asked_at >= held.opened_at + LONG);
    server.let_go();
    assert!(!roster.snapshot()[0].held);
    drop(server);
    assert!(roster.snapshot().is_empty());
    drop(elsewhere);
    assert!(other.snapshot().is_empty());
    task.await.unwrap();
}

#[tokio::test]
async fn an_order_to_replace_servers_is_about_those_whose_opening_had_begun() {
    let roster = Roster::default();
    let before = roster.round();
    let (old, _old_task) = listing(&roster).await;
    let old = old.connect().await.unwrap();
    assert_eq!(roster.retired(), 0);
    roster.retire_all();
    assert_eq!((roster.retired(), roster.snapshot()[0].stale), (1, true));
    let (new, _new_task) = listing(&roster).await;
    let new = new.connect().await.unwrap();
    assert_eq!(roster.retired(), 1);
    // One that was being opened while the order came.
    let (mut between, _peer) = connected().await;
    between.list_in(&roster, before);
    assert_eq!(roster.retired(), 2);
    drop((old, between));
    assert_eq!((roster.retired(), roster.snapshot().len()), (0, 1));
    drop(new);
}

//! Hosts that do not answer, goodbyes and cancel requests.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::fake::*;
use crate::backend::*;
use crate::error::ClientError;

#[tokio::test]
async fn a_host_that_does_not_answer_leaves_time_for_the_next() {
    let (silent, silent_task) = saying(vec![]).await;
    let (starting, _task) = saying(message(b'E', b"SFATAL\0C57P03\0Mstarting\0\0").to_vec()).await;
    let (good, _task) = saying(welcome()).await;
    let mut target = target(1);
    target.hosts = [&silent, &starting, &good]
        .map(|one| one.hosts[0].clone())
        .to_vec();
    target.connect_timeout = 10 * SHORT;
    let started = std::time::Instant::now();
    Server::connect(&target).await.unwrap();
    assert!(started.elapsed() < target.connect_timeout);
    silent_task.abort();
}

#[tokio::test]
async fn a_refusal_is_not_tried_elsewhere() {
    let (refusing, _task) = saying(message(b'E', b"SFATAL\0C28P01\0Mno\0\0").to_vec()).await;
    let (good, _task) = saying(welcome()).await;
    let mut target = target(1);
    target.hosts = [&refusing, &good].map(|one| one.hosts[0].clone()).to_vec();
    let error = Server::connect(&target).await.unwrap_err();
    assert_eq!(error.sqlstate(), "28P01");
}

#[tokio::test]
async fn an_idle_server_says_goodbye_and_a_busy_one_does_not() {
    for busy in [false, true] {
        let (mut server, mut peer) = connected().await;
        if busy {
            server.mark_busy();
        }
        drop(server);
        let mut heard = Vec::new();
        peer.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard == b"X\0\0\0\x04", !busy, "{heard:?}");
    }
}

#[tokio::test]
async fn a_cancel_request_carries_the_key_and_has_a_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = target(listener.local_addr().unwrap().port());
    target.connect_timeout = 5 * SHORT;
    let serve = tokio::spawn(async move {
        let (mut login, _) = listener.accept().await.unwrap();
        read_startup(&mut login).await;
        login.write_all(&welcome()).await.unwrap();
        let (mut cancel, _) = listener.accept().await.unwrap();
        let request = read_startup(&mut cancel).await;
        drop(cancel);
        let (silent, _) = listener.accept().await.unwrap();
        (request, silent, login)
    });
    let server = Server::connect(&target).await.unwrap();
    let cancels = server.cancels();
    cancels.aim().send().await.unwrap();
    let error = cancels.aim().send().await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Timeout {
                phase: Phase::Cancel,
                ..
            }
        ),
        "{error}"
    );
    assert_eq!(cancels.in_flight(), 0);
    let (request, ..) = serve.await.unwrap();
    assert_eq!(request, [4, 210, 22, 46, 0, 0, 0, 9, 1, 2, 3, 4]);
}

//! Logins with servers that lie, stall, refuse or hang up.

use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::fake::*;
use crate::backend::*;
use crate::dsn::{Host, SslMode};
use crate::error::{Class, ClientError};
use crate::tls::{ClientTls, ServerTls, Stream};

#[tokio::test]
async fn a_login_is_understood() {
    let (server, _peer) = connected().await;
    assert_eq!(server.process_id(), 9);
    assert_eq!(server.parameters().get("timezone"), Some("UTC"));
    assert_eq!(server.status(), TxStatus::Idle);
    assert!(server.is_reusable());
}

#[tokio::test]
async fn the_startup_message_carries_user_database_and_what_was_asked_for() {
    let (mut target, task) =
        fake(|mut socket| async move { read_startup(&mut socket).await }).await;
    target.startup = vec![("application_name".to_owned(), "mine".to_owned())];
    let _ = Server::connect(&target).await;
    let startup = task.await.unwrap();
    assert_eq!(
        startup,
        b"\0\x03\0\x02user\0app\0database\0db\0application_name\0mine\0\0".to_vec(),
    );
}

#[tokio::test]
async fn every_phase_that_never_ends_is_named() {
    let cases: [(&[u8], ClientTls, Phase); 4] = [
        (b"", tls(SslMode::Require), Phase::Tls),
        (b"S", tls(SslMode::Require), Phase::Tls),
        (b"", tls(SslMode::Disable), Phase::Login),
        (b"R\0\0\0\x08\0\0\0\0", tls(SslMode::Disable), Phase::Ready),
    ];
    for (words, tls, expected) in cases {
        let (mut target, task) = saying(words.to_vec()).await;
        target.tls = tls;
        target.connect_timeout = SHORT;
        let error = Server::connect(&target).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::Timeout { phase, .. } if phase == expected),
            "{error}"
        );
        assert!(
            error.to_string().starts_with(&expected.to_string()),
            "{error}"
        );
        assert_eq!((error.class(), error.sqlstate()), (Class::Connect, "08001"));
        task.abort();
    }
}

#[tokio::test]
async fn a_port_without_a_listener_is_refused_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().port());
    drop(listener);
    let error = Server::connect(&target).await.unwrap_err();
    assert_eq!(error.sqlstate(), "08001");
    assert!(
        error.client_message().contains("refused"),
        "{}",
        error.client_message()
    );
}

#[tokio::test]
async fn a_missing_socket_is_told() {
    let mut target = target(5432);
    target.hosts[0].host = Host::Unix(PathBuf::from("/nonexistent"));
    let error = Server::connect(&target).await.unwrap_err();
    assert_eq!(error.sqlstate(), "08001");
    assert!(error.client_message().contains("No such file"), "{error}");
}

#[tokio::test]
async fn an_end_in_the_middle_of_the_login_is_a_lost_connection() {
    let whole = welcome();
    for cut in [0, 3, 9, whole.len() - 1] {
        let words = whole[..cut].to_vec();
        let (target, _task) = fake(move |mut socket| async move {
            read_startup(&mut socket).await;
            socket.write_all(&words).await.unwrap();
        })
        .await;
        let error = Server::connect(&target).await.unwrap_err();
        assert!(matches!(error, ConnectError::Closed(_)), "{error:?}");
        assert_eq!(error.sqlstate(), "08006");
    }
}

#[tokio::test]
async fn junk_and_impossible_lengths_end_the_login() {
    let cases: [&[u8]; 6] = [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"R\x7f\xff\xff\xff",
        b"R\0\0\0\0",
        b"R\0\0\0\x05\0",
        b"Z\0\0\0\x05I",
        b"R\0\0\0\x08\0\0\0\0K\0\0\0\x05\0",
    ];
    for words in cases {
        let (target, _task) = saying(words.to_vec()).await;
        let error = Server::connect(&target).await.unwrap_err();
        assert!(
            matches!(
                error,
                ConnectError::Unexpected { .. } | ConnectError::Frame(_)
            ),
            "{words:?}: {error:?}"
        );
    }
}

#[tokio::test]
async fn the_servers_own_refusal_is_passed_on_before_and_after_the_login() {
    let refusal = message(b'E', b"SFATAL\0C53300\0Mtoo many\0Hwait\0\0");
    let late = joined(&[message(b'R', &[0; 4]), refusal.clone()]);
    for words in [refusal.to_vec(), late] {
        let (target, _task) = saying(words).await;
        let error = Server::connect(&target).await.unwrap_err();
        assert_eq!(error.sqlstate(), "53300");
        assert_eq!(error.client_message(), "too many");
        assert_eq!(error.server_error().unwrap().hint, "wait");
    }
}

#[tokio::test]
async fn a_missing_password_and_a_foreign_method_are_told_apart() {
    let (mut target, _task) = saying(message(b'R', &[0, 0, 0, 3]).to_vec()).await;
    target.credentials = Credentials::default();
    let error = Server::connect(&target).await.unwrap_err();
    assert!(matches!(error, ConnectError::NoPassword { .. }), "{error}");
    let (target, _task) = saying(message(b'R', &[0, 0, 0, 7]).to_vec()).await;
    let error = Server::connect(&target).await.unwrap_err();
    assert!(error.to_string().contains("gss"), "{error}");
    let (target, _task) = saying(message(b'R', b"\0\0\0\x0aSCRAM-SHA-512\0\0").to_vec()).await;
    let error = Server::connect(&target).await.unwrap_err();
    assert!(matches!(error, ConnectError::Method(_)), "{error}");
}

#[tokio::test]
async fn a_server_that_skips_its_scram_proof_is_not_believed() {
    let (target, _task) = fake(|mut socket| async move {
        read_startup(&mut socket).await;
        let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
        socket.write_all(&offer).await.unwrap();
        let _ = socket.read(&mut [0; 512]).await;
        socket.write_all(&welcome()).await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await;
    let error = Server::connect(&target).await.unwrap_err();
    assert!(
        matches!(
            error,
            ConnectError::Unexpected {
                phase: Phase::Login,
                ..
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn require_does_not_go_on_in_clear_and_prefer_does() {
    let serve = |mut socket: TcpStream| async move {
        read_startup(&mut socket).await;
        socket.write_all(b"N").await.unwrap();
        let mut rest = [0; 4];
        if socket.read_exact(&mut rest).await.is_err() {
            return false;
        }
        socket.write_all(&welcome()).await.unwrap();
        true
    };
    for (mode, goes_on) in [(SslMode::Require, false), (SslMode::Prefer, true)] {
        let (mut target, task) = fake(serve).await;
        target.tls = tls(mode);
        let connected = Server::connect(&target).await;
        assert_eq!(connected.is_ok(), goes_on, "{mode:?}: {connected:?}");
        if let Err(error) = connected {
            assert!(matches!(error, ConnectError::NoTls), "{error}");
            assert_eq!(error.sqlstate(), "08001");
        }
        assert_eq!(task.await.unwrap(), goes_on, "{mode:?}");
    }
}

#[tokio::test]
async fn bytes_smuggled_in_clear_before_the_handshake_are_not_taken_for_the_servers() {
    let (mut target, _task) = fake(|mut socket| async move {
        read_startup(&mut socket).await;
        let mut words = b"S".to_vec();
        words.extend(welcome());
        socket.write_all(&words).await.unwrap();
        let _ = ServerTls::self_signed()
            .unwrap()
            .accept(Stream::Tcp(socket))
            .await;
    })
    .await;
    target.tls = tls(SslMode::Require);
    let error = Server::connect(&target).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
}

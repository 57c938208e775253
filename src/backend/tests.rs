//! Servers that lie, stall or hang up: none of them may panic, hold memory or hold the caller.

use std::path::PathBuf;
use std::time::Duration;

use bb8::ManageConnection;
use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::dsn::{Host, HostPort, SslMode};
use crate::error::{Class, ClientError};
use crate::tls::{ClientTls, Keepalive, ServerTls};

/// A limit that a test should never meet.
const LONG: Duration = Duration::from_secs(20);
/// A limit that a test wants to meet.
const SHORT: Duration = Duration::from_millis(200);

fn target(port: u16) -> Target {
    Target {
        host: HostPort {
            host: Host::Tcp("127.0.0.1".to_owned()),
            port,
        },
        user: "app".to_owned(),
        password: Some("secret".into()),
        database: "db".to_owned(),
        tls: ClientTls::disabled(),
        connect_timeout: LONG,
        keepalive: Keepalive::default(),
        startup: vec![],
    }
}

fn message(tag: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(tag);
    out.put_u32(body.len() as u32 + 4);
    out.put_slice(body);
    out
}

fn joined(parts: &[BytesMut]) -> Vec<u8> {
    parts.concat()
}

/// A login without questions, one parameter, a key, ready.
fn welcome() -> Vec<u8> {
    joined(&[
        message(b'R', &[0, 0, 0, 0]),
        message(b'S', b"TimeZone\0UTC\0"),
        message(b'K', &[0, 0, 0, 9, 1, 2, 3, 4]),
        message(b'Z', b"I"),
    ])
}

fn fatal() -> BytesMut {
    message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgoing down\0\0")
}

/// Listens, takes one connection, and lets `serve` play the server on it.
async fn fake<F, T>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> (Target, JoinHandle<T>)
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move { serve(listener.accept().await.unwrap().0).await });
    (target, task)
}

/// Reads a startup message (or anything with a bare length) whole.
async fn read_startup(socket: &mut TcpStream) -> Vec<u8> {
    let length = socket.read_u32().await.unwrap() as usize;
    let mut body = vec![0; length - 4];
    socket.read_exact(&mut body).await.unwrap();
    body
}

/// A server that takes the startup message, says `words` and keeps the connection open until the other side closes.
async fn saying(words: Vec<u8>) -> (Target, JoinHandle<()>) {
    fake(move |mut socket| async move {
        read_startup(&mut socket).await;
        socket.write_all(&words).await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await
}

/// A connected server, and the other end of its socket.
async fn connected() -> (Server, TcpStream) {
    let (target, task) = fake(|mut socket| async move {
        read_startup(&mut socket).await;
        socket.write_all(&welcome()).await.unwrap();
        socket
    })
    .await;
    let server = Server::connect(&target).await.unwrap();
    (server, task.await.unwrap())
}

/// Looks until the look says something, since the reactor has to see the bytes first.
async fn look_until(server: &mut Server, seen: impl Fn(&Server, &Result<(), HangUp>) -> bool) {
    let looking = async {
        loop {
            let looked = server.look();
            if seen(server, &looked) {
                return;
            }
            assert!(looked.is_ok(), "{looked:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, looking).await.unwrap();
}

async fn look_until_hang_up(server: &mut Server) -> HangUp {
    look_until(server, |_, looked| looked.is_err()).await;
    server.look().unwrap_err()
}

#[tokio::test]
async fn a_login_is_understood() {
    let (server, _peer) = connected().await;
    assert_eq!(server.process_id(), 9);
    assert_eq!(server.parameters().get("timezone"), Some("UTC"));
    assert_eq!(server.status(), TxStatus::Idle);
    assert!(!server.is_busy() && !server.is_encrypted());
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
        b"\0\x03\0\0user\0app\0database\0db\0application_name\0mine\0\0".to_vec(),
    );
}

#[tokio::test]
async fn every_phase_that_never_ends_is_named() {
    let refuse_tls = |mode| ClientTls::new(mode, None, None).unwrap();
    let cases: [(&[u8], ClientTls, Phase); 4] = [
        (b"", refuse_tls(SslMode::Require), Phase::TlsRequest),
        (b"S", refuse_tls(SslMode::Require), Phase::TlsHandshake),
        (b"", ClientTls::disabled(), Phase::Login),
        (b"R\0\0\0\x08\0\0\0\0", ClientTls::disabled(), Phase::Ready),
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
            error.to_string().ends_with(&expected.to_string()),
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
async fn a_missing_socket_names_its_file() {
    let mut target = target(5432);
    target.host.host = Host::Unix(PathBuf::from("/nonexistent"));
    let error = Server::connect(&target).await.unwrap_err();
    assert!(
        error.to_string().contains("/nonexistent/.s.PGSQL.5432"),
        "{error}"
    );
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
        assert!(
            matches!(
                error,
                ConnectError::Lost {
                    source: HangUp::Closed,
                    ..
                }
            ),
            "{error:?}"
        );
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
                ConnectError::Lost {
                    source: HangUp::Protocol(_),
                    ..
                }
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
        assert_eq!(error.client_hint().as_deref(), Some("wait"));
    }
}

#[tokio::test]
async fn a_missing_password_and_a_foreign_method_are_told_apart() {
    let (mut target, _task) = saying(message(b'R', &[0, 0, 0, 3]).to_vec()).await;
    target.password = None;
    let error = Server::connect(&target).await.unwrap_err();
    assert!(
        matches!(error, ConnectError::PasswordNeeded { .. }),
        "{error}"
    );
    let (target, _task) = saying(message(b'R', &[0, 0, 0, 7]).to_vec()).await;
    let error = Server::connect(&target).await.unwrap_err();
    assert!(error.to_string().contains("GSSAPI"), "{error}");
    let (target, _task) = saying(message(b'R', b"\0\0\0\x0aSCRAM-SHA-512\0\0").to_vec()).await;
    let error = Server::connect(&target).await.unwrap_err();
    assert!(error.to_string().contains("SCRAM-SHA-512"), "{error}");
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
            ConnectError::Lost {
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
        target.tls = ClientTls::new(mode, None, None).unwrap();
        let connected = Server::connect(&target).await;
        assert_eq!(connected.is_ok(), goes_on, "{mode:?}: {connected:?}");
        if let Err(error) = connected {
            assert!(matches!(error, ConnectError::TlsRefused { .. }), "{error}");
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
        let _ = ServerTls::self_signed().unwrap().accept(socket).await;
    })
    .await;
    target.tls = ClientTls::new(SslMode::Require, None, None).unwrap();
    let error = Server::connect(&target).await.unwrap_err();
    assert!(matches!(error, ConnectError::Tls { .. }), "{error:?}");
}

#[tokio::test]
async fn looking_applies_what_the_server_says_unasked() {
    let (mut server, mut peer) = connected().await;
    server.look().unwrap();
    let words = joined(&[
        message(b'N', b"SNOTICE\0C00000\0Mhello\0\0"),
        message(b'A', b"\0\0\0\x09channel\0payload\0"),
        message(b'S', b"TimeZone\0Asia/Tokyo\0"),
    ]);
    // In two pieces: the first look meets half a message.
    let (first, second) = words.split_at(words.len() - 4);
    peer.write_all(first).await.unwrap();
    look_until(&mut server, |server, _| !server.wire.unread.is_empty()).await;
    peer.write_all(second).await.unwrap();
    look_until(&mut server, |server, _| {
        server.parameters().get("TimeZone") == Some("Asia/Tokyo")
    })
    .await;
    assert!(server.take_unread().is_empty());
    server.look().unwrap();
}

#[tokio::test]
async fn looking_sees_every_way_to_go() {
    let cases: [(Vec<u8>, &str); 6] = [
        (vec![], "closed"),
        (fatal().to_vec(), "going down"),
        (message(b'D', b"\0\0").to_vec(), "broke the protocol"),
        (b"N\x7f\xff\xff\xff".to_vec(), "broke the protocol"),
        (message(b'S', b"no end").to_vec(), "broke the protocol"),
        (
            message(b'E', b"SERROR\0C42601\0Mwhat\0\0").to_vec(),
            "broke the protocol",
        ),
    ];
    for (words, expected) in cases {
        let (mut server, mut peer) = connected().await;
        peer.write_all(&words).await.unwrap();
        drop(peer);
        let hang_up = look_until_hang_up(&mut server).await;
        assert!(hang_up.to_string().contains(expected), "{hang_up}");
        assert!(server.look().is_err(), "a hang-up is for ever");
        let manager = ServerManager::new(target(1));
        assert!(manager.has_broken(&mut server));
    }
}

#[tokio::test]
async fn bytes_given_back_are_looked_at_first() {
    let (mut server, _peer) = connected().await;
    server.keep_unread(&message(b'S', b"TimeZone\0Asia/Tokyo\0"));
    server.look().unwrap();
    assert_eq!(server.parameters().get("TimeZone"), Some("Asia/Tokyo"));
    server.keep_unread(&fatal());
    let hang_up = server.look().unwrap_err();
    assert_eq!(hang_up.sqlstate(), "57P01");
}

#[tokio::test]
async fn looking_leaves_a_busy_servers_reply_alone() {
    let (mut server, mut peer) = connected().await;
    server.mark_busy();
    peer.write_all(&message(b'Z', b"I")).await.unwrap();
    server.stream_mut(); // the relay's own way to the socket
    server.look().unwrap();
    let mut reply = [0; 6];
    server.stream_mut().read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"Z\0\0\0\x05I");
}

#[tokio::test]
async fn a_ping_takes_an_empty_query_and_nothing_else() {
    let (mut server, mut peer) = connected().await;
    let manager = ServerManager::new(target(1));
    let answers = tokio::spawn(async move {
        let mut request = [0; 7];
        peer.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"Q\0\0\0\x06;\0");
        let good = joined(&[message(b'I', b""), message(b'Z', b"I")]);
        peer.write_all(&good).await.unwrap();
        peer.read_exact(&mut request).await.unwrap();
        let odd = joined(&[message(b'C', b"SELECT 1\0"), message(b'Z', b"I")]);
        peer.write_all(&odd).await.unwrap();
        peer
    });
    manager.is_valid(&mut server).await.unwrap();
    assert!(!manager.has_broken(&mut server));
    let error = manager.is_valid(&mut server).await.unwrap_err();
    assert!(matches!(error, ServerError::OddPing), "{error}");
    answers.await.unwrap();
}

#[tokio::test]
async fn a_query_dropped_after_any_number_of_polls_leaves_the_server_unusable_or_untouched() {
    let manager = ServerManager::new(target(1));
    for polls in 0.. {
        let (mut server, mut peer) = connected().await;
        let done = {
            let mut query = Box::pin(server.simple_query("ROLLBACK"));
            let mut done = false;
            for poll in 0..polls {
                if poll == 1 {
                    // The first half of the answer, then the rest, so that there are places to be dropped at.
                    peer.write_all(&message(b'C', b"ROLLBACK\0")).await.unwrap();
                }
                if poll == 2 {
                    peer.write_all(&message(b'Z', b"I")).await.unwrap();
                }
                let limit = if poll < 2 { SHORT } else { LONG };
                // A poll, then whatever wakes it within the limit.
                if tokio::time::timeout(limit, &mut query).await.is_ok() {
                    done = true;
                    break;
                }
            }
            done
        };
        let untouched = polls == 0;
        assert_eq!(
            manager.has_broken(&mut server),
            !done && !untouched,
            "after {polls} polls"
        );
        if done {
            break;
        }
    }
}

#[tokio::test]
async fn an_answer_without_end_is_refused() {
    let (mut server, mut peer) = connected().await;
    let flood = tokio::spawn(async move {
        let row = message(
            b'D',
            &[b"\0\x01\0\0\x40\0".as_slice(), &[b'x'; 0x4000]].concat(),
        );
        while peer.write_all(&row).await.is_ok() {}
    });
    let error = server.simple_query("select").await.unwrap_err();
    assert!(matches!(error, QueryError::TooLarge { .. }), "{error}");
    assert!(server.is_busy());
    drop(server);
    flood.await.unwrap();
}

#[tokio::test]
async fn an_error_is_the_answer_and_the_connection_lives() {
    let (mut server, mut peer) = connected().await;
    let answer = joined(&[
        message(b'E', b"SERROR\0C42601\0Msyntax error\0\0"),
        message(b'Z', b"I"),
    ]);
    peer.write_all(&answer).await.unwrap();
    let error = server.simple_query("what").await.unwrap_err();
    assert_eq!(error.sqlstate(), "42601");
    assert!(!server.is_busy());
    server.look().unwrap();
}

#[tokio::test]
async fn recovery_passes_over_what_is_owed_without_holding_it() {
    let (mut server, mut peer) = connected().await;
    server.mark_busy();
    server.skip_bytes(10);
    server.keep_unread(b"0123456");
    let long = 8 * 1024 * 1024;
    let talk = tokio::spawn(async move {
        peer.write_all(b"789").await.unwrap();
        let mut head = BytesMut::from(&b"D"[..]);
        head.put_u32(long + 4);
        peer.write_all(&head).await.unwrap();
        for _ in 0..long / 4096 {
            peer.write_all(&[b'Z'; 4096]).await.unwrap();
        }
        let end = joined(&[
            message(b'E', b"SERROR\0C42601\0Mno\0\0"),
            message(b'Z', b"E"),
            message(b'S', b"TimeZone\0Asia/Tokyo\0"),
            message(b'Z', b"T"),
        ]);
        peer.write_all(&end).await.unwrap();
        peer
    });
    server.recover_to_ready(2).await.unwrap();
    assert!(server.wire.unread.capacity() < 1024 * 1024);
    assert_eq!(server.status(), TxStatus::InTransaction);
    assert_eq!(server.parameters().get("TimeZone"), Some("Asia/Tokyo"));
    assert!(!server.is_busy());
    talk.await.unwrap();
}

#[tokio::test]
async fn recovery_gives_up_on_a_copy_that_wants_data() {
    let (mut server, mut peer) = connected().await;
    peer.write_all(&message(b'G', b"\0\0\0")).await.unwrap();
    assert!(server.recover_to_ready(1).await.is_err());
    assert!(server.broken().is_some());
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
async fn a_cancel_request_goes_to_the_same_address_and_has_a_limit() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = target(listener.local_addr().unwrap().port());
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
    server.cancel_token().send(LONG).await.unwrap();
    let error = server.cancel_token().send(SHORT).await.unwrap_err();
    assert!(matches!(error, CancelError::Timeout { .. }), "{error}");
    let (request, ..) = serve.await.unwrap();
    assert_eq!(request, [4, 210, 22, 46, 0, 0, 0, 9, 1, 2, 3, 4]);
}

//! Servers that lie, stall or hang up: none of them may panic, hold memory or hold the caller.

use std::path::PathBuf;
use std::time::Duration;

use bb8::ManageConnection;
use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::JoinHandle;

use super::*;
use crate::dsn::{Host, HostPort, SslMode};
use crate::error::{Class, ClientError};
use crate::pgwire::Inbox;
use crate::tls::{ClientTls, ServerTls, Stream, TlsFiles};

/// A limit that a test should never meet.
const LONG: Duration = Duration::from_secs(20);
/// A limit that a test wants to meet.
const SHORT: Duration = Duration::from_millis(200);

fn host(port: u16) -> HostPort {
    HostPort {
        host: Host::Tcp("127.0.0.1".to_owned()),
        port,
    }
}

fn tls(mode: SslMode) -> ClientTls {
    ClientTls::new(mode, &TlsFiles::default()).unwrap()
}

fn target(port: u16) -> Target {
    Target {
        hosts: vec![host(port)],
        user: "app".to_owned(),
        credentials: Credentials::password(Some("secret".into())),
        database: "db".to_owned(),
        tls: tls(SslMode::Disable),
        connect_timeout: LONG,
        startup: vec![],
        protocol: Protocol::default(),
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
    look_until(&mut server, |server, _| !server.unread.is_empty()).await;
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
        (message(b'D', b"\0\0").to_vec(), "unexpected"),
        (b"N\x7f\xff\xff\xff".to_vec(), "unexpected"),
        (message(b'S', b"no end").to_vec(), "unexpected"),
        (
            message(b'E', b"SERROR\0C42601\0Mwhat\0\0").to_vec(),
            "unexpected",
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
    assert!(
        matches!(hang_up, HangUp::Fatal(ref message) if message.code == "57P01"),
        "{hang_up}"
    );
}

/// What is read next from a server would not begin with a message: nobody else is given it.
#[tokio::test]
async fn a_server_with_part_of_a_message_left_over_is_not_handed_out() {
    let (mut server, _peer) = connected().await;
    let manager = ServerManager::new(target(1));
    let notice = message(b'N', b"SNOTICE\0\0");
    for (left_over, unusable) in [(&notice[..], false), (&notice[..7], true)] {
        server.keep_unread(left_over);
        assert_eq!(manager.has_broken(&mut server), unusable, "{left_over:?}");
    }
}

#[tokio::test]
async fn one_look_takes_in_so_much_and_no_more() {
    let (mut server, _peer) = connected().await;
    // A Unix socket: what was written is there to be read at once, all of it.
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let mut talk = message(b'N', &[b'M'; 995]).repeat(120);
    talk.extend(message(b'S', b"TimeZone\0Asia/Tokyo\0"));
    let written = tokio::time::timeout(LONG, peer.write_all(&talk)).await;
    written.unwrap().unwrap();
    ours.readable().await.unwrap();
    *server.stream_mut() = Stream::Unix(ours);
    server.look().unwrap();
    assert_eq!(server.parameters().get("TimeZone"), Some("UTC"));
    server.look().unwrap();
    assert_eq!(server.parameters().get("TimeZone"), Some("Asia/Tokyo"));
}

#[tokio::test]
async fn a_ping_is_an_empty_query() {
    let (mut server, mut peer) = connected().await;
    let manager = ServerManager::new(target(1));
    let answers = tokio::spawn(async move {
        let mut request = [0; 7];
        peer.read_exact(&mut request).await.unwrap();
        assert_eq!(&request, b"Q\0\0\0\x06;\0");
        let good = joined(&[message(b'I', b""), message(b'Z', b"I")]);
        peer.write_all(&good).await.unwrap();
        peer
    });
    manager.is_valid(&mut server).await.unwrap();
    assert!(!manager.has_broken(&mut server));
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
async fn an_answer_that_no_statement_of_ours_has_is_refused() {
    let cases: [(&[u8], &str); 3] = [
        (b"D\x7f\xff\xff\xff", "limit"),
        (b"D\0\0\0\x03", "impossible length"),
        (b"G\0\0\0\x07\0\0\0", "answers no statement"),
    ];
    for (words, expected) in cases {
        let (mut server, mut peer) = connected().await;
        peer.write_all(words).await.unwrap();
        let error = server.simple_query("select").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!server.is_reusable());
    }
}

#[tokio::test]
async fn a_zero_byte_is_refused_before_anything_is_sent() {
    let (mut server, _peer) = connected().await;
    let error = server.simple_query("select 'secret\0'").await.unwrap_err();
    assert!(matches!(error, QueryError::ZeroByte), "{error}");
    assert!(server.is_reusable());
    for poisoned in ["user", "password"] {
        let (mut target, _task) = saying(message(b'R', &[0, 0, 0, 3]).to_vec()).await;
        match poisoned {
            "user" => target.user = "app\0database\0other".to_owned(),
            _ => target.credentials = Credentials::password(Some("a\0b".into())),
        }
        let error = Server::connect(&target).await.unwrap_err();
        assert!(
            matches!(error, ConnectError::ZeroByte(_)),
            "{poisoned}: {error}"
        );
    }
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
    assert_eq!(error.server_error().unwrap().code, "42601");
    assert!(server.is_reusable());
    server.look().unwrap();
}

#[tokio::test]
async fn what_is_owed_to_someone_who_left_is_passed_over_without_holding_it() {
    let (mut server, mut peer) = connected().await;
    server.mark_busy();
    let mut remains = Remains {
        inbox: Inbox::default(),
        // He left in the middle of a row.
        body: 10,
        ready_owed: 2,
        sync_missing: false,
        open_transaction: lease::OpenTransaction::Rollback,
        reset: Reset::NOTHING,
    };
    let long = 8 * 1024 * 1024;
    let talk = tokio::spawn(async move {
        peer.write_all(b"0123456789").await.unwrap();
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
    let drained = lease::drain(&mut server, &mut remains);
    tokio::time::timeout(LONG, drained).await.unwrap().unwrap();
    assert_eq!(server.status(), TxStatus::InTransaction);
    assert_eq!(server.parameters().get("TimeZone"), Some("Asia/Tokyo"));
    talk.await.unwrap();
}

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

/// A pooler that knows protocol 3.0 only is asked again for that, once; then it is known.
#[tokio::test]
async fn who_refuses_the_newest_protocol_is_asked_for_the_oldest() {
    let violation = message(b'E', b"SFATAL\0VFATAL\0C08P01\0Munsupported protocol\0\0").to_vec();
    for answer in [violation, Vec::new()] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap().port());
        let serving = tokio::spawn(async move {
            let mut asked = Vec::new();
            for _ in 0..3 {
                let (mut socket, _) = listener.accept().await.unwrap();
                let startup = read_startup(&mut socket).await;
                asked.push(startup[3]);
                if startup[3] == 0 {
                    socket.write_all(&welcome()).await.unwrap();
                } else {
                    socket.write_all(&answer).await.unwrap();
                }
            }
            asked
        });
        for _ in 0..2 {
            Server::connect(&target).await.unwrap();
        }
        assert_eq!(serving.await.unwrap(), [2, 0, 0]);
    }
}

/// Where the old protocol is refused too, it was not the protocol; and a refusal of another kind is final.
#[tokio::test]
async fn a_refusal_that_is_not_the_protocols_is_told_as_it_came() {
    for (code, logins) in [("08P01", 2), ("28P01", 1), ("3D000", 1)] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap().port());
        let error = format!("SFATAL\0VFATAL\0C{code}\0Mno\0\0");
        let serving = tokio::spawn(async move {
            for _ in 0..logins {
                let (mut socket, _) = listener.accept().await.unwrap();
                read_startup(&mut socket).await;
                let _ = socket.write_all(&message(b'E', error.as_bytes())).await;
            }
        });
        let refused = Server::connect(&target).await.unwrap_err();
        assert_eq!(refused.sqlstate(), code);
        serving.await.unwrap();
    }
}

/// A secret is kept as long as it is, and sent back so; one that no PostgreSQL has is refused.
#[tokio::test]
async fn long_secrets_are_kept_whole() {
    for length in [4_usize, 32, 256, 257, 0] {
        let secret = vec![7; length];
        let key = [&[0, 0, 0, 9], &secret[..]].concat();
        let greeting = joined(&[
            message(b'v', &[0, 3, 0, 2, 0, 0, 0, 0]),
            message(b'R', &[0; 4]),
            message(b'K', &key),
            message(b'Z', b"I"),
        ]);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = target(listener.local_addr().unwrap().port());
        let serving = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            read_startup(&mut socket).await;
            socket.write_all(&greeting).await.unwrap();
            let (mut request, _) = listener.accept().await.unwrap();
            read_startup(&mut request).await
        });
        match Server::connect(&target).await {
            Ok(server) => {
                server.cancels().aim().send().await.unwrap();
                let request = serving.await.unwrap();
                assert_eq!(request, [&[0x04, 0xd2, 0x16, 0x2e][..], &key].concat());
            }
            Err(error) => {
                assert!(length == 0 || length > 256, "{length}: {error}");
                serving.abort();
            }
        }
    }
}

//! Servers made of a socket and a script.

use std::time::Duration;

use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::backend::*;
use crate::dsn::{Host, HostPort, SslMode};
use crate::tls::{ClientTls, TlsFiles};

/// A limit that a test should never meet.
pub(super) const LONG: Duration = Duration::from_secs(20);
/// A limit that a test wants to meet.
pub(super) const SHORT: Duration = Duration::from_millis(200);

pub(super) fn host(port: u16) -> HostPort {
    HostPort {
        host: Host::Tcp("127.0.0.1".to_owned()),
        port,
    }
}

pub(super) fn tls(mode: SslMode) -> ClientTls {
    ClientTls::new(mode, &TlsFiles::default()).unwrap()
}

pub(crate) fn target(port: u16) -> Target {
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

pub(super) fn message(tag: u8, body: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    out.put_u8(tag);
    out.put_u32(body.len() as u32 + 4);
    out.put_slice(body);
    out
}

pub(super) fn joined(parts: &[BytesMut]) -> Vec<u8> {
    parts.concat()
}

/// A login without questions, one parameter, a key, ready.
pub(crate) fn welcome() -> Vec<u8> {
    joined(&[
        message(b'R', &[0, 0, 0, 0]),
        message(b'S', b"TimeZone\0UTC\0"),
        message(b'K', &[0, 0, 0, 9, 1, 2, 3, 4]),
        message(b'Z', b"I"),
    ])
}

pub(super) fn fatal() -> BytesMut {
    message(b'E', b"SFATAL\0VFATAL\0C57P01\0Mgoing down\0\0")
}

/// Listens, takes one connection, and lets `serve` play the server on it.
pub(super) async fn fake<F, T>(
    serve: impl FnOnce(TcpStream) -> F + Send + 'static,
) -> (Target, JoinHandle<T>)
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
pub(super) async fn read_startup(socket: &mut TcpStream) -> Vec<u8> {
    let length = socket.read_u32().await.unwrap() as usize;
    let mut body = vec![0; length - 4];
    socket.read_exact(&mut body).await.unwrap();
    body
}

/// A server that takes the startup message, says `words` and keeps the connection open until the other side closes.
pub(crate) async fn saying(words: Vec<u8>) -> (Target, JoinHandle<()>) {
    fake(move |mut socket| async move {
        read_startup(&mut socket).await;
        socket.write_all(&words).await.unwrap();
        let _ = socket.read_to_end(&mut Vec::new()).await;
    })
    .await
}

/// A connected server, and the other end of its socket.
pub(super) async fn connected() -> (Server, TcpStream) {
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
pub(super) async fn look_until(
    server: &mut Server,
    seen: impl Fn(&Server, &Result<(), HangUp>) -> bool,
) {
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

pub(super) async fn look_until_hang_up(server: &mut Server) -> HangUp {
    look_until(server, |_, looked| looked.is_err()).await;
    server.look().unwrap_err()
}

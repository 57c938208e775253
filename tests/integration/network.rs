//! The proxy that misbehaves on order does so: other tests rely on it.

use std::io::ErrorKind;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Faults, Trouble, eventually};

const LIMIT: Duration = Duration::from_secs(10);

/// Answers each byte with the same byte.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    port
}

async fn through(faults: &Faults) -> std::io::Result<TcpStream> {
    TcpStream::connect(("127.0.0.1", faults.port())).await
}

async fn ping(stream: &mut TcpStream) -> std::io::Result<usize> {
    stream.write_all(b"ping").await?;
    stream.read(&mut [0; 16]).await
}

#[tokio::test]
async fn without_trouble_bytes_pass_and_are_counted() {
    let faults = Faults::before(echo().await).await;
    let mut stream = through(&faults).await.unwrap();
    assert_eq!(ping(&mut stream).await.unwrap(), 4);
    assert_eq!((faults.bytes_to_server(), faults.accepted()), (4, 1));
    drop(stream);
    eventually(LIMIT, || async { faults.open() == 0 }).await;
    assert_eq!(faults.bytes_to_client(), 4);
}

#[tokio::test]
async fn a_black_hole_swallows_until_it_ends() {
    let faults = Faults::before(echo().await).await;
    let mut stream = through(&faults).await.unwrap();
    faults.set(Trouble::BlackHole);
    stream.write_all(b"ping").await.unwrap();
    let mut new = through(&faults).await.unwrap();
    new.write_all(b"ping").await.unwrap();
    eventually(LIMIT, || async { faults.accepted() == 2 }).await;
    assert_eq!(faults.bytes_to_server(), 0);
    faults.set(Trouble::None);
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 4);
    assert_eq!(new.read(&mut [0; 16]).await.unwrap(), 4);
}

#[tokio::test]
async fn delay_holds_each_piece_both_ways() {
    let faults = Faults::before(echo().await).await;
    let mut stream = through(&faults).await.unwrap();
    faults.set(Trouble::Delay(Duration::from_millis(30)));
    let started = std::time::Instant::now();
    ping(&mut stream).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(60));
}

#[tokio::test]
async fn refused_and_then_served_again_on_the_same_port() {
    let faults = Faults::before(echo().await).await;
    let mut old = through(&faults).await.unwrap();
    assert_eq!(ping(&mut old).await.unwrap(), 4);
    faults.set(Trouble::Refuse);
    eventually(LIMIT, || async {
        matches!(through(&faults).await, Err(error) if error.kind() == ErrorKind::ConnectionRefused)
    })
    .await;
    assert_eq!(
        ping(&mut old).await.unwrap(),
        4,
        "an open connection goes on"
    );
    faults.set(Trouble::None);
    let mut stream = eventually(LIMIT, || through(&faults)).await;
    assert_eq!(ping(&mut stream).await.unwrap(), 4);
}

#[tokio::test]
async fn open_connections_are_closed_or_reset() {
    let faults = Faults::before(echo().await).await;
    let mut stream = through(&faults).await.unwrap();
    ping(&mut stream).await.unwrap();
    faults.close_all();
    assert_eq!(stream.read(&mut [0; 16]).await.unwrap(), 0);
    let mut stream = through(&faults).await.unwrap();
    ping(&mut stream).await.unwrap();
    faults.reset_all();
    let error = stream.read(&mut [0; 16]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    faults.set(Trouble::Reset);
    eventually(LIMIT, || async {
        let mut stream = through(&faults).await?;
        match ping(&mut stream).await {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(()),
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
            other => Err(std::io::Error::other(format!("{other:?}"))),
        }
    })
    .await;
}

//! Which protocol a server is asked for, and the keys that come with it.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;

use super::fake::*;
use crate::backend::*;
use crate::error::ClientError;

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

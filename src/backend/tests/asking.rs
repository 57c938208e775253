//! Questions of our own to a server, and what it owes to somebody who left.

use bb8::ManageConnection;
use bytes::{BufMut, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::fake::*;
use crate::backend::*;
use crate::pgwire::Inbox;

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

//! The look at an idle server: what it said unasked, and whether it is still there.

use bb8::ManageConnection;
use tokio::io::AsyncWriteExt;
use tokio::net::UnixStream;

use super::fake::*;
use crate::backend::*;
use crate::tls::Stream;

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

//! The protocol's bytes.

use std::task::{Context, Poll, Waker};

use poolwatch::pgwire::{
    HEADER, Header, Inbox, Replies, ServerMessage, Severity, StartupPacket, cstr, parse_startup,
    startup_length,
};

/// Walks over messages as a session does. A header never claims to be shorter than itself, and a limit is kept.
pub fn frame(mut data: &[u8]) {
    let string = cstr(data);
    if let Some((text, rest)) = string {
        assert_eq!(text.len() + 1 + rest.len(), data.len());
        assert!(!text.contains(&0));
    }
    assert_eq!(string.is_some(), data.contains(&0));
    while let Ok(Some(header)) = Header::parse(data) {
        assert!(header.total >= HEADER);
        assert_eq!(header.tag, data[0]);
        assert_eq!(header.at_most(1000).is_ok(), header.total <= 1000);
        let Some(rest) = data.get(header.total..) else {
            return;
        };
        data = rest;
    }
}

/// Reads a startup packet. What is read holds nothing that was not sent, and prints no value.
pub fn startup(data: &[u8]) {
    if let Some(head) = data.first_chunk::<4>()
        && let Ok(length) = startup_length(*head)
    {
        assert!((8..=10_000).contains(&length));
    }
    match parse_startup(data) {
        Ok(StartupPacket::Session {
            major, parameters, ..
        }) => {
            assert_eq!(major, 3);
            let sum: usize = parameters
                .0
                .iter()
                .map(|(a, b)| a.len() + b.len() + 2)
                .sum();
            assert_eq!(sum + 5, data.len());
            for (name, value) in &parameters.0 {
                assert!(!name.is_empty() && parameters.value(name).is_some());
                assert!(!name.contains('\0') && !value.contains('\0'));
            }
            let _ = format!("{parameters:?}");
        }
        Ok(StartupPacket::Cancel(key)) => {
            assert!((1..=256).contains(&key.secret.len()));
            assert!(format!("{key:?}").contains("hidden"));
        }
        Ok(StartupPacket::Ssl | StartupPacket::Gss) => {}
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Reads an ErrorResponse. Texts hold no NUL and come from the message.
pub fn fields(data: &[u8]) {
    let message = ServerMessage::parse(data);
    let _ = message.is_fatal();
    for text in [
        &message.severity,
        &message.code,
        &message.message,
        &message.detail,
        &message.hint,
    ] {
        assert!(!text.contains('\0'));
        // A byte that is not UTF-8 becomes three.
        assert!(text.len() <= 3 * data.len());
    }
}

/// Drives an input buffer by the bytes, beside a plain vector that must hold the same.
pub fn inbox(data: &[u8]) {
    let (mut inbox, mut held) = (Inbox::default(), Vec::new());
    let mut cx = Context::from_waker(Waker::noop());
    for step in data.chunks_exact(2) {
        let amount = usize::from(step[1]);
        match step[0] % 5 {
            0 | 1 => {
                // Now and then much at once, so that it is full.
                let count = if amount > 250 { 20_000 } else { amount };
                let bytes = vec![step[1]; count];
                let mut source = &bytes[..];
                match inbox.poll_fill(&mut cx, &mut source) {
                    Poll::Ready(Ok(read)) => held.extend_from_slice(&bytes[..read]),
                    Poll::Ready(Err(error)) => panic!("{error}"),
                    Poll::Pending => assert!(inbox.is_full()),
                }
            }
            2 => {
                let count = amount.min(inbox.len());
                inbox.consume(count);
                held.drain(..count);
            }
            3 => {
                let offset = amount.min(inbox.len());
                let count = (amount / 2).min(inbox.len() - offset);
                inbox.cut(offset, count);
                held.drain(offset..offset + count);
            }
            _ => {
                let count = amount.min(inbox.len());
                assert_eq!(inbox.split_off(count), held.split_off(count));
            }
        }
        assert_eq!(inbox.bytes(), held);
        assert_eq!(inbox.len(), held.len());
        assert_eq!(inbox.is_empty(), held.is_empty());
        assert!(inbox.len() <= Inbox::CAPACITY);
    }
}

/// Builds replies of any text. What is built can be read, and no text forges a field or a message.
pub fn replies(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let middle = (text.len() / 2..=text.len()).find(|at| text.is_char_boundary(*at));
    let (left, right) = text.split_at(middle.unwrap_or(0));
    let mut replies = Replies::default();
    replies
        .error(Severity::Error, "XX000", left, Some(right))
        .parameter_status(left, right)
        .backend_key_data(7, data)
        .negotiate_protocol_version(0, &[left, right])
        .ready_for_query(b'I');
    let (mut bytes, mut tags) = (replies.bytes(), Vec::new());
    while let Ok(Some(header)) = Header::parse(bytes) {
        tags.push(header.tag);
        if header.tag == b'E' {
            let read = ServerMessage::parse(&bytes[HEADER..header.total]);
            let kept = |text: &str| text.split('\0').next().unwrap_or_default().to_owned();
            assert_eq!(read.code, "XX000");
            assert_eq!((read.message, read.hint), (kept(left), kept(right)));
        }
        bytes = &bytes[header.total..];
    }
    assert!(bytes.is_empty());
    assert_eq!(tags, b"ESKvZ");
}

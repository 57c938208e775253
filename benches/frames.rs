//! What the data path does with every byte that passes, without a socket: the walk from header to header over a full
//! input buffer, and the look through a statement's text for what outlives its transaction.
//!
//! `cargo bench --bench frames`. Throughput is in bytes of input.

use std::hint::black_box;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

use poolwatch::pgwire::{Header, Inbox, backend};
use poolwatch::sql::classify;

/// One message as a server sends it.
fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = i32::try_from(body.len() + 4).expect("a short body");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A row of three text columns, about as long as a narrow table's.
fn data_row() -> Vec<u8> {
    let mut body = vec![0, 3];
    for column in ["1234567", "somebody@example.org", "2024-05-06 07:08:09.123"] {
        let length = i32::try_from(column.len()).expect("a short column");
        body.extend_from_slice(&length.to_be_bytes());
        body.extend_from_slice(column.as_bytes());
    }
    message(backend::DATA_ROW, &body)
}

/// What an INSERT of a prepared statement is answered with: the smallest messages there are.
fn extended_replies() -> Vec<u8> {
    [
        message(backend::PARSE_COMPLETE, b""),
        message(backend::BIND_COMPLETE, b""),
        message(backend::NO_DATA, b""),
        message(backend::COMMAND_COMPLETE, b"INSERT 0 1\0"),
        message(backend::READY_FOR_QUERY, b"I"),
    ]
    .concat()
}

/// As many whole repetitions of `unit` as one input buffer holds.
fn buffer_of(unit: &[u8]) -> Vec<u8> {
    unit.repeat(Inbox::CAPACITY / unit.len())
}

fn fill(mut from: &[u8]) -> Inbox {
    let mut inbox = Inbox::default();
    let mut cx = Context::from_waker(Waker::noop());
    let polled = inbox.poll_fill(&mut cx, &mut from);
    assert!(matches!(polled, Poll::Ready(Ok(1..))), "{polled:?}");
    inbox
}

/// Passes over every message; how many there were.
fn walk(inbox: &mut Inbox) -> usize {
    let mut messages = 0;
    while let Ok(Some(header)) = Header::parse(inbox.bytes()) {
        black_box(header.tag);
        inbox.consume(header.total);
        messages += 1;
    }
    messages
}

fn header_walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("header_walk");
    for (name, unit, per_unit) in [
        ("data_rows", data_row(), 1),
        ("extended_replies", extended_replies(), 5),
    ] {
        let buffer = buffer_of(&unit);
        let messages = buffer.len() / unit.len() * per_unit;
        assert_eq!(walk(&mut fill(&buffer)), messages);
        group.throughput(Throughput::Bytes(buffer.len() as u64));
        group.bench_function(name, |bencher| {
            // The fill is a copy that a socket would make too, so it stays outside what is timed.
            bencher.iter_batched_ref(|| fill(&buffer), walk, BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// A statement of about `length` bytes in which nothing is found, so that all of it is looked at.
fn statement(length: usize) -> String {
    let mut text = "SELECT id, name, created_at FROM accounts WHERE owner_id IN (0".to_owned();
    for number in 100_000.. {
        if text.len() + 9 > length {
            break;
        }
        text.push_str(&format!(", {number}"));
    }
    text.push(')');
    text
}

fn look_for_state(c: &mut Criterion) {
    let mut group = c.benchmark_group("state_word");
    // The second is prose in a literal: letters where the first has digits, so more places to look closer at.
    let prose = "a note about advice, moved into the template of some_other_move ".repeat(156);
    for (name, text) in [
        ("100_bytes", statement(100)),
        ("10_kB", statement(10_000)),
        (
            "10_kB_of_prose",
            format!("INSERT INTO notes VALUES ('{prose}')"),
        ),
    ] {
        assert_eq!(classify(text.as_bytes()), None, "{name}");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| classify(black_box(text.as_bytes())));
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = header_walk, look_for_state
}
criterion_main!(benches);

//! The readers of foreign bytes, one function each: it is given any bytes and must neither panic nor hang, and what it
//! claims must hold. cargo-fuzz and `tests/readers.rs` run the same functions.

#![allow(
    unreachable_pub,
    reason = "included by path into the fuzz targets and into a test"
)]

mod dsn;
mod login;
mod sql;
mod wire;

/// A target: bytes in, nothing out but a panic.
pub type Target = fn(&[u8]);

/// Every target, by the name of its corpus.
pub const TARGETS: &[(&str, Target)] = &[
    ("frame", wire::frame),
    ("startup", wire::startup),
    ("fields", wire::fields),
    ("inbox", wire::inbox),
    ("replies", wire::replies),
    ("sql", sql::sql),
    ("dsn", dsn::dsn),
    ("login", login::login),
];

/// Runs one by its name.
pub fn run(name: &str, data: &[u8]) {
    let target = TARGETS.iter().find(|(known, _)| *known == name);
    target.expect("a target of this name").1(data);
}

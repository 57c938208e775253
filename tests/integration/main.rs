//! The integration tests: one binary, a file a topic, on real PostgreSQL servers that the tests start themselves.

#[path = "../support/mod.rs"]
mod support;

mod launcher;
mod network;
mod session_pooling;
mod state;
mod wire;

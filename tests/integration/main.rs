//! The integration tests: one binary, a file a topic, on real PostgreSQL servers that the tests start themselves.

#[path = "../support/mod.rs"]
mod support;

mod hostile;
mod launcher;
mod network;
mod session_pooling;
mod startup;
mod state;
mod tls;
mod wire;

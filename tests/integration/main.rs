//! The integration tests: one binary, a file a topic, on real PostgreSQL servers that the tests start themselves.

#[path = "../support/mod.rs"]
mod support;

mod bench;
mod hostile;
mod hostile_server;
mod launcher;
mod network;
mod session_pooling;
mod startup;
mod state;
mod tls;
mod wire;
mod wire_sharing;
mod wire_volume;

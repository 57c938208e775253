//! The integration tests: one binary, a file a topic, on real PostgreSQL servers that the tests start themselves.

#[path = "../support/mod.rs"]
mod support;

mod auth;
mod auth_hostile;
mod auth_tls;
mod auth_users;
mod backend_auth;
mod bench;
mod cancels;
mod console;
mod databases;
mod demo;
mod failures;
mod figures;
mod hostile;
mod hostile_many;
mod hostile_server;
mod launcher;
mod leaks;
mod limits;
mod network;
mod parameters;
mod pins;
mod prepared;
mod reload;
mod scrape_under_stress;
mod session_pooling;
mod sharing_edges;
mod shutdown;
mod sidecar;
mod startup;
mod state;
mod state_edges;
mod tls;
mod truth;
mod wire;
mod wire_sharing;
mod wire_volume;

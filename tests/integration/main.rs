//! The integration tests: one binary, a file a topic, on real PostgreSQL servers that the tests start themselves.

#[path = "../support/mod.rs"]
mod support;

mod backend_auth;
mod demo;
mod failures;
mod figures;
mod launcher;
mod network;
mod scrape_under_stress;
mod shutdown;
mod sidecar;
mod truth;

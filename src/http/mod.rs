//! What is served over HTTP, by the control runtime and from memory: no handler waits for a pool or a database, so a
//! scrape takes as long as ever when the pool is exhausted or PostgreSQL does not answer.
//!
//! - `GET /` what there is, as plain text
//! - `GET /metrics` Prometheus' text format
//! - `GET /healthz` 200 while the process lives
//! - `GET /readyz` 200 when it can serve, else 503 with the reasons
//! - `GET /api/v1/pools` the pools and their state, as JSON
//! - `GET /api/v1/pins` the sessions that keep their servers, and why, as JSON
//!
//! Errors are problem documents (RFC 9457).

mod index;
mod listener;
mod pins;
mod pools;
mod probes;
mod problem;
mod readiness;
mod scrape;
mod server;

pub use readiness::{Latch, Readiness};
pub use server::{Config, HttpState, router, serve};

#[cfg(test)]
mod tests;

//! What is served over HTTP, by the control runtime and from memory: no handler waits for a pool or a database, so a
//! scrape takes as long as ever when the pool is exhausted or PostgreSQL does not answer.
//!
//! - `GET /` what there is, as plain text
//! - `GET /metrics` Prometheus' text format
//! - `GET /healthz` 200 while the process lives
//! - `GET /readyz` 200 when it can serve, else 503 with the reasons
//! - `/api/v1/…` the JSON API, described at `/api/v1/openapi.json` and `/api/v1/docs`: one resource a file
//!
//! Reading order: `server` has the routes, `access` says who may ask, `guard` bounds requests, `openapi` describes the API.
//! Errors are problem documents (RFC 9457).

mod access;
mod configuration;
mod databases;
mod guard;
mod holders;
mod index;
mod listener;
mod openapi;
mod orders;
mod paging;
mod pins;
mod pools;
mod probes;
mod problem;
mod queries;
mod readiness;
mod reference;
mod scrape;
mod server;
mod sessions;

pub use access::Access;
pub use configuration::Setting;
pub use orders::{Answer, Ask, Orders};
pub use readiness::{Latch, Readiness};
pub use server::{Config, HttpState, router, serve};

#[cfg(test)]
mod tests;

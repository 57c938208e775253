//! What the integration tests stand on: PostgreSQL servers, the product itself as a process, its metrics as values,
//! a network that misbehaves on order, and waiting with a limit.
//!
//! Nothing here sleeps for a fixed time: [`eventually`] polls until a condition holds or a limit is over.

#![allow(
    unreachable_pub,
    dead_code,
    unused_imports,
    reason = "included into test binaries by path, each of which uses its own part of it"
)]

mod faults;
mod pgbench;
mod postgres;
pub mod program;
pub mod raw;
mod scrape;
mod sidecar;
mod tap;
mod waiting;

pub use faults::{Faults, Trouble};
pub use pgbench::Pgbench;
pub use postgres::{Database, Postgres};
pub use scrape::{Histogram, Scrape};
pub use sidecar::{Exit, Sidecar};
pub use tap::{Tap, When};
pub use waiting::{Outcome, eventually};

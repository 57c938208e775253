//! poolwatch: a sidecar for applications that use PostgreSQL.

pub mod clients;
pub mod error;
pub mod http;
pub mod metrics;
pub mod ops;
pub mod pool;
pub mod secret;
pub mod status;
pub mod tasks;
pub mod telemetry;

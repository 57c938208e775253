//! poolwatch: a sidecar for applications that use PostgreSQL.

pub mod clients;
pub mod error;
pub mod metrics;
pub mod ops;
pub mod pool;
pub mod secret;
pub mod tasks;

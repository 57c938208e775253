//! poolwatch: a sidecar for applications that use PostgreSQL.

pub mod config;
pub mod dsn;
pub mod error;
pub mod pool;
pub mod secret;
pub mod tasks;

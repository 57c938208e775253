//! poolwatch: a sidecar for applications that use PostgreSQL.

pub mod cli;
pub mod config;
pub mod dsn;
pub mod error;
pub mod ops;
pub mod pool;
pub mod secret;
pub mod tasks;

//! poolwatch: a sidecar for applications that use PostgreSQL.

pub mod error;
pub mod pgwire;
pub mod pool;
pub mod secret;
pub mod sql;
pub mod tasks;

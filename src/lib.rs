//! poolwatch: a sidecar for applications that use PostgreSQL.

pub mod backend;
pub mod dsn;
pub mod error;
pub mod pgwire;
pub mod pool;
pub mod secret;
pub mod tasks;
pub mod tls;

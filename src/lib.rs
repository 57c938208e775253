//! poolwatch: a sidecar for applications that use PostgreSQL.

pub mod auth;
pub mod backend;
pub mod clients;
pub mod cluster;
pub mod error;
pub mod metrics;
pub mod pgwire;
pub mod pool;
pub mod proxy;
pub mod secret;
pub mod sql;
pub mod tasks;

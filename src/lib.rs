//! poolwatch: a sidecar for applications that use PostgreSQL.

pub mod app;
pub mod auth;
pub mod backend;
pub mod clients;
pub mod cluster;
pub mod config;
pub mod control;
pub mod dsn;
pub mod error;
pub mod http;
pub mod metrics;
pub mod ops;
pub mod pgwire;
pub mod pool;
pub mod proxy;
pub mod secret;
pub mod sql;
pub mod status;
pub mod tasks;
pub mod telemetry;
pub mod tls;

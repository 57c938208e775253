//! poolwatch: a sidecar for applications that use PostgreSQL.
//!
//! It owns the connection pool that the application uses, so it can say what no pool inside a library and no exporter
//! outside can: how full the pool is, who waits and for how long, why connections open and close.
//!
//! ```text
//! client ─▶ proxy ─▶ cluster ─▶ pool ─▶ backend ─▶ PostgreSQL ◀─ control      the path of a query, and who asks
//!             │ queries          │ events
//!             └──────────────────┴──▶ metrics ─▶ http /metrics                who is told
//! live parts ─▶ status ─▶ http /api                                           who shows
//! ```
//!
//! Modules, in reading order: [`pool`] and [`pgwire`] know nothing of each other nor of anything else; [`backend`] is a
//! server connection, [`cluster`] the pools there are, [`proxy`] the client side. [`metrics`] is told and [`http`] shows.
//! [`config`] reads the settings, [`app`] makes parts of them, [`ops`] are the commands.

pub mod app;
pub mod auth;
pub mod backend;
pub mod cli;
pub mod clients;
pub mod cluster;
pub mod config;
pub mod console;
pub mod control;
pub mod diagnosis;
pub mod dsn;
pub mod error;
pub mod http;
pub mod md5;
pub mod metrics;
pub mod migrate;
pub mod ops;
pub mod pgwire;
pub mod pool;
pub mod proxy;
pub mod query;
pub mod scram;
pub mod secret;
pub mod sql;
pub mod status;
pub mod tasks;
pub mod telemetry;
pub mod tls;

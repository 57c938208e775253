//! One-shot commands and what they run on. Beside `app` the only place that sees every part, and the only one that
//! prints.

pub mod config_cmd;
pub mod demo;
mod direct;
pub mod health;
pub mod http_client;
pub mod init;
pub mod migrate;
pub mod postgres;
mod reachable;
pub mod serve;
pub mod uri;

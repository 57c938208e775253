//! The registry: every exported name is declared in [`families`], every label value that is not a name is an enum in
//! `labels`.
//!
//! Two kinds of value, kept apart on purpose:
//! - What happened is counted where it happens, through handles that were resolved once ([`PoolMetrics`],
//!   [`ProxyMetrics`]): a relaxed atomic addition, no lookup and no lock.
//! - What is the case now (connections, waiters, clients by state) is not kept here at all. A scrape asks the part that
//!   knows, through a closure over its atomics, so that no figure has two origins that could drift apart.
//!
//! A scrape builds its samples from the table of pools that exist at that moment, so a pool that went away takes its
//! series with it. Nothing here is global: two [`Metrics`] in one process share nothing.

mod buckets;
mod count;
pub mod families;
mod family;
mod labels;
mod migrations;
mod pool;
mod proxy;
mod queries;
mod registry;
mod scrape;
mod sqlstate;
mod upstream;

pub use family::{Family, Kind};
pub use labels::{
    AuthFailure, Blocker, ClientState, Limit, LoginOutcome, MigrationTool, Phase, PinReason,
    StatementMessage,
};
pub use migrations::{CollectorMetrics, MigrationMetrics, MigrationRun};
pub use pool::{PinGuard, PoolLabels, PoolMetrics, PoolTotals};
pub use proxy::ProxyMetrics;
pub use queries::{QuerySamples, QuerySeries};
pub use registry::{EncodeError, Metrics};
pub use upstream::UpstreamMetrics;

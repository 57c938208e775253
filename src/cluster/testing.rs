//! What unit tests of several parts make a cluster of.

use super::{Cluster, Config};
use crate::backend::tests::fake::target;
use crate::metrics::Metrics;
use crate::pool;

/// A cluster whose servers are nowhere.
pub(crate) fn cluster(metrics: &Metrics) -> Cluster {
    let config = Config {
        upstream: target(1),
        pool: pool::Config::default(),
        max_pools: 10,
        servers: None,
    };
    Cluster::new(config, metrics.clone())
}

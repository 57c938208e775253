//! The registry of one process: the table of pools and everything else that is exported.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Registry, TextEncoder};

use super::families as f;
use super::labels::ClientState;
use super::migrations::{CollectorMetrics, MigrationMetrics};
use super::pool::{PoolLabels, PoolMetrics};
use super::proxy::ProxyMetrics;
use super::queries::QuerySamples;
use super::scrape::Scrape;
use super::upstream::UpstreamMetrics;

/// Everything this process exports. Cheap to clone; clones share all of it.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    parts: Arc<Parts>,
}

/// A scrape could not be written out.
#[derive(Debug, thiserror::Error)]
#[error("the metrics could not be encoded")]
pub struct EncodeError(#[from] prometheus::Error);

impl Metrics {
    /// A registry with nothing in it but what is always exported.
    pub fn new() -> Self {
        let parts = Arc::new(Parts::new());
        let registry = Registry::new();
        let exported = Exported {
            descs: f::ALL.map(describe),
            parts: Arc::clone(&parts),
        };
        registry
            .register(Box::new(exported))
            .expect("the names are constants and differ, as a test holds");
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(
                prometheus::process_collector::ProcessCollector::for_self(),
            ))
            .expect("the library's names are none of ours");
        Self { registry, parts }
    }

    /// The figures of a pool; those already there when the name is known. Not for a query's path: this takes the lock
    /// that a scrape takes.
    pub fn pool(&self, labels: PoolLabels) -> Arc<PoolMetrics> {
        let mut pools = self.parts.pools.lock();
        let pool = pools
            .entry(labels.name.clone())
            .or_insert_with(|| Arc::new(PoolMetrics::new(labels)));
        Arc::clone(pool)
    }

    /// The pool is gone: its series vanish from the next scrape on. What still holds its handles may go on recording,
    /// unseen.
    pub fn forget_pool(&self, name: &str) {
        let forgotten = self.parts.pools.lock().remove(name);
        if let Some(pool) = forgotten {
            pool.unwatch();
        }
    }

    /// The figures of the client side.
    pub fn proxy(&self) -> Arc<ProxyMetrics> {
        Arc::clone(&self.parts.proxy)
    }

    /// The figures of a PostgreSQL host; those already there when it is known.
    pub fn upstream(&self, host: &str, port: u16) -> Arc<UpstreamMetrics> {
        let mut upstreams = self.parts.upstreams.lock();
        if let Some(known) = upstreams.iter().find(|known| known.is(host, port)) {
            return Arc::clone(known);
        }
        let upstream = Arc::new(UpstreamMetrics::new(host, port));
        upstreams.push(Arc::clone(&upstream));
        upstream
    }

    /// The figures of the watched database's migrations. There are none before the first call.
    pub fn migrations(&self) -> Arc<MigrationMetrics> {
        Arc::clone(self.parts.migrations.lock().get_or_insert_default())
    }

    /// The figures of a collector; those already there when it is known.
    pub fn collector(&self, name: &'static str) -> Arc<CollectorMetrics> {
        let mut collectors = self.parts.collectors.lock();
        if let Some(known) = collectors.iter().find(|known| known.is(name)) {
            return Arc::clone(known);
        }
        let collector = Arc::new(CollectorMetrics::new(name));
        collectors.push(Arc::clone(&collector));
        collector
    }

    /// Where a scrape asks how many clients there are in each state, in the order of [`ClientState::ALL`].
    pub fn watch_clients(
        &self,
        counts: impl Fn() -> [usize; ClientState::COUNT] + Send + Sync + 'static,
    ) {
        *self.parts.clients.lock() = Some(Box::new(counts));
    }

    /// Where a scrape asks for the figures of queries by fingerprint. Until this is called, they are not exported.
    pub fn watch_queries(&self, samples: impl Fn() -> QuerySamples + Send + Sync + 'static) {
        *self.parts.queries.lock() = Some(Box::new(samples));
    }

    /// One scrape, in Prometheus' text format. Answers from memory: it waits for no pool, no client and no database.
    ///
    /// # Errors
    /// If a family cannot be encoded, which would be a bug of ours.
    pub fn encode(&self) -> Result<String, EncodeError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

type QuerySource = Box<dyn Fn() -> QuerySamples + Send + Sync>;

type ClientCounts = Box<dyn Fn() -> [usize; ClientState::COUNT] + Send + Sync>;

/// What is exported. The locks are taken by scrapes and by the coming and going of pools, never by a query.
struct Parts {
    pools: Mutex<BTreeMap<String, Arc<PoolMetrics>>>,
    upstreams: Mutex<Vec<Arc<UpstreamMetrics>>>,
    migrations: Mutex<Option<Arc<MigrationMetrics>>>,
    collectors: Mutex<Vec<Arc<CollectorMetrics>>>,
    proxy: Arc<ProxyMetrics>,
    clients: Mutex<Option<ClientCounts>>,
    queries: Mutex<Option<QuerySource>>,
}

impl Parts {
    fn new() -> Self {
        Self {
            pools: Mutex::default(),
            upstreams: Mutex::default(),
            migrations: Mutex::default(),
            collectors: Mutex::default(),
            proxy: Arc::new(ProxyMetrics::new()),
            clients: Mutex::default(),
            queries: Mutex::default(),
        }
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut out = Scrape::default();
        out.gauge(&f::BUILD_INFO, &[env!("CARGO_PKG_VERSION")], 1.0);
        self.proxy.collect(&mut out);
        let counts = match &*self.clients.lock() {
            Some(counts) => counts(),
            None => [0; ClientState::COUNT],
        };
        for state in ClientState::ALL {
            let count = counts[state as usize];
            out.gauge(&f::CLIENTS, &[state.label()], count as f64);
        }
        if let Some(samples) = &*self.queries.lock() {
            samples().collect(&mut out);
        }
        for upstream in self.upstreams.lock().iter() {
            upstream.collect(&mut out);
        }
        if let Some(migrations) = &*self.migrations.lock() {
            migrations.collect(&mut out);
        }
        for collector in self.collectors.lock().iter() {
            collector.collect(&mut out);
        }
        // The handles are taken out first, so that a new pool waits for a copy of the table, not for a whole scrape.
        let pools: Vec<_> = self.pools.lock().values().cloned().collect();
        for pool in pools {
            pool.collect(&mut out);
        }
        out.finish()
    }
}

/// The one collector behind the registry: built afresh at each scrape, so that what is gone leaves nothing behind.
struct Exported {
    descs: [Desc; f::ALL.len()],
    parts: Arc<Parts>,
}

impl Collector for Exported {
    fn desc(&self) -> Vec<&Desc> {
        self.descs.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.parts.collect()
    }
}

fn describe(family: &super::Family) -> Desc {
    let labels = family.labels.iter().map(ToString::to_string).collect();
    Desc::new(
        family.name.to_owned(),
        family.help.to_owned(),
        labels,
        HashMap::new(),
    )
    .expect("names, labels and help are constants, as a test holds")
}

//! Asks PostgreSQL, now and then, whether it is there.
//!
//! The first answer makes the process ready. Afterwards the last answer is a metric, and a change is a line in the log.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::control::{Control, Limits};
use crate::error::chain;
use crate::http::Latch;
use crate::metrics::{Metrics, UpstreamMetrics};

/// Between two probes while PostgreSQL answers.
const EVERY: Duration = Duration::from_secs(5);
/// Between two probes while it does not: a start or a failover should be seen soon.
const RETRY: Duration = Duration::from_millis(500);
/// One probe takes this long at most.
const LIMIT: Duration = Duration::from_secs(5);

/// The probe of one upstream.
#[derive(Debug)]
pub(super) struct Probe {
    control: Control,
    metrics: Arc<UpstreamMetrics>,
    /// Connections that the settings allow for each pool; `None` where there is no limit.
    wanted: Option<u32>,
    latch: Option<Latch>,
    up: Option<bool>,
}

impl Probe {
    pub(super) fn new(
        control: Control,
        metrics: &Metrics,
        settings: &Settings,
        latch: Latch,
    ) -> Self {
        let host = control.host();
        let metrics = metrics.upstream(&host.host.to_string(), host.port);
        let overflow = u32::try_from(settings.pool.max_overflow).ok();
        let wanted = overflow.map(|overflow| settings.pool.size + overflow);
        Self {
            control,
            metrics,
            wanted,
            latch: Some(latch),
            up: None,
        }
    }

    /// Probes until told to stop.
    pub(super) async fn run(mut self, stopping: impl Future<Output = ()>) {
        tokio::pin!(stopping);
        loop {
            let pause = tokio::select! {
                pause = self.once() => pause,
                // A probe that is cut off has changed nothing.
                () = &mut stopping => return,
            };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = &mut stopping => return,
            }
        }
    }

    async fn once(&mut self) -> Duration {
        let answer = self.control.limits(LIMIT).await;
        let up = answer.is_ok();
        self.metrics.probed(up);
        match &answer {
            Ok(limits) if self.up != Some(true) => self.came_up(limits),
            Err(error) if self.up != Some(false) => {
                tracing::warn!(host = %self.control.host(), error = chain(error), "PostgreSQL does not answer");
            }
            _ => {}
        }
        self.up = Some(up);
        if up { EVERY } else { RETRY }
    }

    fn came_up(&mut self, limits: &Limits) {
        self.latch = None;
        tracing::info!(
            host = %self.control.host(),
            version = limits.version,
            max_connections = limits.max_connections,
            "PostgreSQL answers"
        );
        let usable = limits.usable();
        if let Some(wanted) = self.wanted.filter(|wanted| *wanted > usable) {
            tracing::warn!(
                wanted,
                usable,
                "the pool may open more connections than PostgreSQL allows"
            );
        }
    }
}

//! The observation of queries: made of settings, told of time, asked by scrapes.

use super::App;
use crate::config::Settings;
use crate::metrics::Metrics;
use crate::query::{Config, Queries, Slow, TICK};

/// Who is told of every query; nobody where `queries.enabled` is off.
pub(super) fn queries(settings: &Settings, metrics: &Metrics) -> Option<Queries> {
    let section = &settings.queries;
    let count = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    let queries = section.enabled.then(|| {
        Queries::new(Config {
            max_fingerprints: count(section.max_fingerprints),
            top_k: count(section.top_k),
            slow: slow(settings),
            slow_log_size: count(section.slow_log_size),
            slow_log_rate: section.slow_log_rate,
            log_literals: section.log_literals,
        })
    })?;
    let samples = queries.clone();
    metrics.watch_queries(move || samples.samples());
    Some(queries)
}

fn slow(settings: &Settings) -> Slow {
    Slow {
        threshold: settings.queries.slow_threshold,
        rules: settings.queries.slow_rules.0.clone(),
    }
}

impl App {
    /// Cuts time into slices, for as long as the process runs.
    pub(super) fn observe_queries(&self) {
        let Some(queries) = self.queries.clone() else {
            return;
        };
        let stopping = self.background.stopping();
        let ticking = async move {
            let mut ticks = tokio::time::interval(TICK);
            // The first is over at once.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                queries.tick();
            }
        };
        self.background
            .spawn_on(&self.control_path.first(), "query windows", async move {
                tokio::select! {
                    () = stopping => {}
                    () = ticking => {}
                }
            });
    }

    /// The thresholds of a reload.
    pub(super) fn reload_queries(&self, settings: &Settings) {
        if let Some(queries) = &self.queries {
            queries.set_slow_thresholds(slow(settings));
        }
    }
}

//! Looks for servers that are held and not used, counts them, and says once of each who holds it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::App;
use crate::diagnosis::{Holder, Leak, Leaks};
use crate::sql::Fingerprint;
use crate::status::{ClientState, Status};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(1);

impl App {
    /// For as long as the process runs.
    pub(super) fn watch_leaks(&self, status: Arc<Status>) {
        let board = self.leaks.clone();
        let (settings, cluster) = (self.settings.clone(), self.cluster.clone());
        let stopping = self.background.stopping();
        let watching = async move {
            let (mut leaks, mut looks) = (Leaks::default(), tokio::time::interval(EVERY));
            loop {
                looks.tick().await;
                let threshold = settings.lock().pool.leak_threshold;
                let found = match threshold {
                    Some(threshold) => leaks.look(holders(&status), threshold, Instant::now()),
                    None => Vec::new(),
                };
                let mut counts: HashMap<&str, usize> = HashMap::new();
                for (leak, new) in &found {
                    *counts.entry(&leak.holder.pool).or_default() += 1;
                    if *new {
                        tell(leak, &status);
                    }
                }
                *board.lock() = found.iter().map(|(leak, _)| leak.clone()).collect();
                for pool in cluster.pools() {
                    let count = counts.get(pool.name()).copied().unwrap_or_default();
                    pool.metrics.set_suspected_leaks(count);
                }
            }
        };
        self.background
            .spawn_on(&self.control_path.first(), "leaks", async move {
                tokio::select! {
                    () = stopping => {}
                    () = watching => {}
                }
            });
    }
}

/// Who has a server of a pool.
fn holders(status: &Status) -> Vec<Holder> {
    let sessions = status.sessions();
    let pinned: HashMap<u64, String> = status
        .pinned()
        .into_iter()
        .map(|session| {
            let reasons: Vec<_> = session.pins.iter().map(|pin| pin.reason.label()).collect();
            (session.client, reasons.join(", "))
        })
        .collect();
    let pools: HashMap<u64, &str> = sessions
        .servers
        .iter()
        .map(|of| (of.server.id, of.pool.as_str()))
        .collect();
    let clients = sessions.clients.iter();
    let holders = clients.filter_map(|client| {
        let holding = sessions.by_client.get(&client.id)?;
        Some(Holder {
            client: client.id,
            pool: (*pools.get(&holding.server)?).to_owned(),
            user: client.info.user.clone(),
            application: client.info.application_name.clone(),
            held: holding.held,
            running: client.state == ClientState::Active,
            step: client.step,
            pinned_by: pinned.get(&client.id).cloned(),
            last: client.last.map(Fingerprint),
        })
    });
    holders.collect()
}

fn tell(leak: &Leak, status: &Status) {
    let Leak { holder, idle } = leak;
    let last = holder
        .last
        .and_then(|last| status.queries()?.description(last));
    tracing::warn!(
        pool = holder.pool,
        client = holder.client,
        user = holder.user,
        application = holder.application,
        held_seconds = holder.held.as_secs_f64(),
        idle_seconds = idle.as_secs_f64(),
        pinned_by = holder.pinned_by,
        fingerprint = holder.last.map(|last| last.to_string()),
        last_statement = last.as_ref().map(|last| &*last.summary),
        "suspected leak: a client has a server and has run nothing on it for long"
    );
}

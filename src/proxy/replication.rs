//! Replication connections: a server of their own, outside the pool, passed through as it is.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;

use tokio::io::copy_bidirectional;
use tokio::time::Instant;

use super::Shared;
use super::control::Registered;
use crate::backend::{ConnectError, Server, Target};
use crate::clients::ClientGuard;
use crate::cluster::PoolHandle;
use crate::metrics::PinGuard;
use crate::pgwire::StartupParameters;
use crate::pool::Outside;
use crate::tls::Stream;

/// A replication connection and its server.
#[derive(Debug)]
pub(super) struct Replication {
    pub(super) client: Stream,
    pub(super) server: Server,
    pub(super) shared: Arc<Shared>,
    pub(super) registered: Registered,
    pub(super) _registration: ClientGuard,
    pub(super) _pin: PinGuard,
    /// Behind the server: its room is free when it is closed.
    pub(super) _room: Outside,
}

/// What the client wants to replicate, if it asks for the replication protocol (PostgreSQL, `parse_bool` or the word `database`).
pub(super) fn kind(parameters: &StartupParameters) -> Option<&'static str> {
    let value = parameters.value("replication")?.to_ascii_lowercase();
    match value.as_str() {
        "database" => Some("logical"),
        "true" | "t" | "yes" | "y" | "on" | "1" => Some("physical"),
        _ => None,
    }
}

/// Opens a server with the client's own startup parameters.
pub(super) async fn connect(
    pool: &PoolHandle,
    parameters: &StartupParameters,
) -> Result<Server, ConnectError> {
    let own = |name: &str| name == "user" || name == "database" || name.starts_with("_pq_.");
    let startup = parameters
        .0
        .iter()
        .filter(|(name, _)| !own(name))
        .cloned()
        .collect();
    Server::connect(&Target {
        startup,
        ..pool.target().clone()
    })
    .await
}

impl Replication {
    /// Passes bytes both ways until either side ends, or the process stops.
    pub(super) async fn run(mut self) {
        let control = self.registered.control.clone();
        control.runs_on(self.server.cancels(), Instant::now());
        let stopping = self.shared.tasks.stopping();
        let killed = poll_fn(|cx| {
            control.register(cx.waker());
            match control.killed() {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        });
        let copied: io::Result<(u64, u64)> = tokio::select! {
            copied = copy_bidirectional(&mut self.client, self.server.stream_mut()) => copied,
            // What is lost is the copy's position, and both streams end here.
            () = stopping => return,
            () = killed => return,
        };
        if let Ok((up, down)) = copied {
            tracing::debug!(up, down, "replication connection ended");
        }
    }
}

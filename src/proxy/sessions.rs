//! The sessions as an operator reaches them: who has which server, and ending them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::control::Controls;
use crate::backend::Aim;
use crate::clients::Reading;

/// A way to all sessions that keeps none of them alive.
#[derive(Debug, Clone)]
pub struct Sessions(pub(super) Arc<Controls>);

/// A client with a server in its hands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The client's id.
    pub client: u64,
    /// The server's id; 0 for one outside the pools.
    pub server: u64,
    /// Since when it has it.
    pub since: Instant,
}

impl Sessions {
    /// Who has which server at this moment, in no particular order.
    pub fn links(&self) -> Vec<Link> {
        self.0.links()
    }

    /// Changes what is read from clients, if it is one of these now. False if not. What was read before is carried out and
    /// answered whatever is read now.
    pub fn change_reading(&self, from: &[Reading], to: Reading) -> bool {
        self.0.change_reading(from, to)
    }

    /// What is read from clients.
    pub fn reading(&self) -> Reading {
        self.0.reading()
    }

    /// Ends the session of one client, whatever it does. What it runs is cancelled. False if there is none.
    pub async fn end(&self, client: u64, limit: Duration) -> bool {
        let (ended, aims) = self.0.kill(|watched, _| watched == client);
        cancel(aims, limit).await;
        ended > 0
    }

    /// Cancels what one client runs, or ends its wait for a server, as its own cancel request would. False if there is no
    /// such client, or it waits for nothing.
    pub async fn cancel(&self, client: u64, limit: Duration) -> bool {
        let Some((waits, aim)) = self.0.cancel_of(client) else {
            return false;
        };
        let found = waits || aim.is_some();
        cancel(aim.into_iter().collect(), limit).await;
        found
    }

    /// Ends all sessions in this database, or in any; how many that were.
    pub async fn end_all(&self, database: Option<&str>, limit: Duration) -> usize {
        let (ended, aims) = self
            .0
            .kill(|_, of| database.is_none_or(|database| database == of));
        cancel(aims, limit).await;
        ended
    }
}

/// Sends the requests all at once, and waits for them no longer than `limit`; each goes on to count as under way.
async fn cancel(aims: Vec<Aim>, limit: Duration) {
    let sent = futures_util::future::join_all(aims.into_iter().map(Aim::send));
    if tokio::time::timeout(limit, sent).await.is_err() {
        tracing::warn!(?limit, "cancel requests not answered");
    }
}

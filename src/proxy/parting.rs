//! What becomes of a server when its session has no use for it any more.

use std::sync::Arc;

use super::pins::Pins;
use super::relay::Parting;
use super::session::Session;
use super::state::State;
use super::timing::Observed;
use crate::backend::{Lease, OpenTransaction, Remains, Reset, TxStatus};
use crate::error::chain;
use crate::pgwire::Inbox;
use crate::pool::CloseReason;
use crate::query::Origin;

/// Whether the session goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LeaseEnd {
    /// The client may ask again.
    Next,
    /// The session is over.
    Over,
}

impl Session {
    /// Begins to tell of the session's queries.
    pub(super) fn observe(&mut self) {
        let info = self.registration.info();
        let observed = self.context.queries.clone().map(|queries| Observed {
            queries,
            origin: Arc::new(Origin {
                user: info.user.clone(),
                database: info.database.clone(),
                application: info.application_name.clone(),
                pool: self.pool.name().to_owned(),
            }),
            client: self.registration.id(),
            last: self.registration.last_statement(),
        });
        self.traffic.timing.observe(observed);
    }

    /// Begins to watch what the session leaves in its servers.
    pub(super) fn watch_state(&mut self) {
        let info = self.registration.info();
        let place = self.context.pinned.place(
            self.registration.id(),
            self.pool.name(),
            &info.application_name,
        );
        self.traffic.pins = Pins::listed(place);
        self.traffic.state = State::new(self.base.clone(), self.context.settings.pinning);
    }

    /// Returns the server, has it restored in the background, or closes it. Nothing is awaited here, so nothing can be
    /// cancelled half-way.
    pub(super) fn part(&mut self, parting: &Parting, lease: Lease) -> LeaseEnd {
        if !matches!(parting, Parting::Settled) {
            self.traffic.timing.abandon(&self.pool.metrics);
        }
        match parting {
            Parting::Settled => {
                self.give_back(lease);
                return LeaseEnd::Next;
            }
            Parting::ServerFatal | Parting::ServerGone(_) | Parting::ServerJunk(_) => {
                lease.broken()
            }
            Parting::Goodbye
            | Parting::ClientGone
            | Parting::Violation(_)
            | Parting::Overdue(_)
            | Parting::Stopping => self.abandon(lease),
        }
        LeaseEnd::Over
    }

    fn give_back(&mut self, mut lease: Lease) {
        let ahead_of_time = self.traffic.from_server.split_off(self.traffic.to_client);
        lease.server().keep_unread(&ahead_of_time);
        // What it has in doubt is nothing that the client set.
        if lease.server().applied() != self.base.id()
            && !lease.server().in_doubt()
            && let Some(changed) = self.pool.changed(&self.base, lease.server())
        {
            self.base = changed;
        }
        let always = self.context.settings.reset_always && self.traffic.touched;
        let reset = self.traffic.state.reset().with(Reset::EVERYTHING, always);
        if reset.any() || lease.server().cancels().in_flight() > 0 {
            // Nothing is left to read; what is marked for the client is still to be sent to it.
            let nothing = Remains {
                inbox: Inbox::default(),
                body: 0,
                ready_owed: 0,
                sync_missing: false,
                open_transaction: OpenTransaction::Rollback,
                reset,
            };
            self.traffic.state.on_reset();
            self.restore(lease, nothing);
        } else {
            lease.server().mark_idle();
            lease.give_back();
        }
    }

    /// The client leaves for good.
    fn abandon(&mut self, lease: Lease) {
        let traffic = &self.traffic;
        let unseen = (traffic.pins.beyond_state()
            || self.session_pooling
            || self.context.settings.reset_always)
            && traffic.touched
            // Which statements the server has is not known then.
            || !traffic.sharing.is_quiet();
        let reset = traffic.state.reset().with(Reset::EVERYTHING, unseen);
        // A Sync of ours would commit what the client never did.
        let open = traffic.pipeline.is_open();
        if traffic.settled()
            && lease.server_ref().status() == TxStatus::Idle
            && !reset.any()
            && !open
        {
            self.give_back(lease);
            return;
        }
        let half_sent =
            traffic.to_server > 0 || traffic.client_body > 0 || !traffic.ahead.is_empty();
        if half_sent || open || traffic.pipeline.is_copying() {
            self.close(lease);
            return;
        }
        let remains = self.remains(reset);
        self.restore(lease, remains);
    }

    /// Closes a server that cannot be brought back into step. What it still runs is cancelled first: PostgreSQL would
    /// notice the closed connection only when it answers, and hold its locks and its place until then.
    fn close(&self, lease: Lease) {
        if self.traffic.pipeline.is_empty() {
            return lease.close(CloseReason::ClientAbort);
        }
        let limit = self.context.settings.reset_timeout;
        self.context.tasks.spawn("server close", async move {
            let aim = lease.server_ref().cancels().aim();
            if let Ok(Err(error)) = tokio::time::timeout(limit, aim.send()).await {
                tracing::debug!(error = chain(&error), "cancel request failed");
            }
            lease.close(CloseReason::ClientAbort);
        });
    }

    /// What a client that leaves has not read, and what the server still owes it.
    fn remains(&mut self, reset: Reset) -> Remains {
        let traffic = &mut self.traffic;
        traffic.from_server.consume(traffic.to_client);
        traffic.to_client = 0;
        Remains {
            inbox: std::mem::take(&mut traffic.from_server),
            body: std::mem::take(&mut traffic.server_body),
            ready_owed: traffic.pipeline.ready_owed(),
            sync_missing: traffic.pipeline.lacks_sync(),
            open_transaction: self.context.settings.open_transaction,
            reset,
        }
    }

    /// Cleans the server up in the background, so that a client that is gone is not waited for, nor makes others wait.
    fn restore(&self, lease: Lease, remains: Remains) {
        let limit = self.context.settings.reset_timeout;
        let pool = self.pool.clone();
        self.context.tasks.spawn("server reset", async move {
            if let Err(error) = lease.restore(remains, limit).await {
                tracing::warn!(
                    pool = pool.name(),
                    error = chain(&error),
                    "server closed: it could not be reset"
                );
            }
        });
    }
}

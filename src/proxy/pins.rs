//! Why a session keeps its server, and who is told.
//!
//! In transaction pooling a server goes to the next client after each transaction, unless this client left something
//! in it ([`State`](super::state::State) knows what), or needs it for something that only this server has.

use std::sync::Arc;

use crate::clients::PinPlace;
use crate::metrics::{PinGuard, PinReason, PoolMetrics};

/// The reasons that are state which a statement left.
pub(super) const STATE: [PinReason; 12] = [
    PinReason::SetParameter,
    PinReason::SetConfig,
    PinReason::SetRole,
    PinReason::Listen,
    PinReason::TemporaryTable,
    PinReason::HoldCursor,
    PinReason::AdvisoryLock,
    PinReason::SqlPrepare,
    PinReason::Load,
    PinReason::DoBlock,
    PinReason::FunctionCall,
    PinReason::Command,
];

/// The reasons one session is pinned for.
#[derive(Debug, Default)]
pub(super) struct Pins {
    guards: Vec<PinGuard>,
    /// Where pinned sessions are listed; `None` for one that nobody asks about.
    place: Option<PinPlace>,
}

impl Pins {
    /// Of a session that is listed, while it is pinned, at this place.
    pub(super) fn listed(place: PinPlace) -> Self {
        Self {
            guards: Vec::new(),
            place: Some(place),
        }
    }

    /// Whether the server must stay.
    #[inline]
    pub(super) fn any(&self) -> bool {
        !self.guards.is_empty()
    }

    /// Pins for a reason, if it is not yet.
    pub(super) fn pin(&mut self, reason: PinReason, metrics: &Arc<PoolMetrics>) {
        if self.guards.iter().any(|guard| guard.reason() == reason) {
            return;
        }
        self.guards.push(metrics.pinned(reason));
        if let Some(place) = &mut self.place {
            place.add(reason);
        }
    }

    /// A reason that is no more.
    pub(super) fn unpin(&mut self, reason: PinReason) {
        let before = self.guards.len();
        self.guards.retain(|guard| guard.reason() != reason);
        if self.guards.len() < before
            && let Some(place) = &mut self.place
        {
            place.remove(reason);
        }
    }

    /// Whether something is left that no record of state tells of.
    pub(super) fn beyond_state(&self) -> bool {
        self.guards
            .iter()
            .any(|guard| !STATE.contains(&guard.reason()))
    }
}

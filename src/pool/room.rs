//! Room for one more connection in the limit that several pools share: for one of the pool's own, or for one that is
//! opened outside the pool and counts all the same.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::budget::{Member as _, Place, Room, Share};
use super::checkout::Waiting;
use super::error::CheckoutError;
use super::lease::Held;
use super::shared::Shared;

/// What there is to go on with where nothing was idle.
pub(super) enum Found<M: bb8::ManageConnection> {
    /// Room for a connection, at once; `None` where no limit is shared.
    Room(Option<Room>),
    /// After a wait: a connection that came back, or room for one.
    Waited(Option<Held<M>>, Option<Room>),
}

/// The right to one connection outside the pool. Given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Outside {
    /// `None` where no limit is shared.
    _room: Option<Room>,
}

impl<M: bb8::ManageConnection> Shared<M> {
    /// Room for one more connection of the pool's own; or an idle one that came back meanwhile.
    pub(super) async fn room(
        &self,
        started: Instant,
        limit: Duration,
    ) -> Result<Found<M>, CheckoutError<M::Error>> {
        let Some(share) = &self.share else {
            return Ok(Found::Room(None));
        };
        if let Some(room) = share.room() {
            return Ok(Found::Room(Some(room)));
        }
        let attempt = |place: &Place<'_>| match self.take() {
            Some(held) => Some(Found::Waited(Some(held), None)),
            None => Some(Found::Waited(None, Some(place.try_take()?))),
        };
        let granted = |found: &Found<M>| matches!(found, Found::Waited(Some(_), _));
        self.wait_for_room(share, started, limit, attempt, granted)
            .await
    }

    /// Room for a connection outside the pool. Idle connections, the pool's own among them, are closed for it.
    pub(super) async fn outside(
        &self,
        limit: Duration,
    ) -> Result<Outside, CheckoutError<M::Error>> {
        let started = Instant::now();
        if self.gate.is_closed() {
            return Err(CheckoutError::Closed);
        }
        let Some(share) = &self.share else {
            return Ok(Outside { _room: None });
        };
        let room = match share.room() {
            Some(room) => room,
            None => {
                let attempt = |place: &Place<'_>| {
                    let own = || self.shed().then(|| place.try_take()).flatten();
                    place.try_take().or_else(own)
                };
                self.wait_for_room(share, started, limit, attempt, |_| false)
                    .await?
            }
        };
        Ok(Outside { _room: Some(room) })
    }

    /// Waits in the queue of all pools until an attempt succeeds. `granted` says whether what it found is a connection that
    /// was kept for this wait.
    async fn wait_for_room<T>(
        &self,
        share: &Share,
        started: Instant,
        limit: Duration,
        attempt: impl Fn(&Place<'_>) -> Option<T>,
        granted: impl Fn(&T) -> bool,
    ) -> Result<T, CheckoutError<M::Error>> {
        let mut waiting = Waiting::start(self, Instant::now());
        let place = share.queue();
        let left = limit.saturating_sub(started.elapsed());
        let found = timeout(left, async {
            loop {
                if self.gate.is_closed() {
                    return None;
                }
                if let Some(found) = attempt(&place) {
                    return Some(found);
                }
                place.woken().await;
            }
        })
        .await;
        waiting.granted = matches!(&found, Ok(Some(found)) if granted(found));
        drop((place, waiting));
        match found {
            Ok(Some(found)) => Ok(found),
            Ok(None) => Err(CheckoutError::Closed),
            Err(_) => Err(CheckoutError::NoRoom {
                limit: share.limit(),
                waited: started.elapsed(),
            }),
        }
    }
}

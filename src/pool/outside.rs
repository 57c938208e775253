//! Room for a connection that is opened outside the pool, and that the limit over several pools counts all the same.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::budget::{Member as _, Room};
use super::error::CheckoutError;
use super::shared::Shared;

/// The right to one connection outside the pool. Given back when dropped.
#[derive(Debug)]
#[must_use]
pub struct Outside {
    /// `None` where no limit is shared.
    _room: Option<Room>,
}

impl<M: bb8::ManageConnection> Shared<M> {
    /// Waits for its turn as a checkout does. Idle connections, the pool's own among them, make room.
    pub(super) async fn outside(
        &self,
        limit: Duration,
    ) -> Result<Outside, CheckoutError<M::Error>> {
        let Some(share) = &self.share else {
            return Ok(Outside { _room: None });
        };
        if let Some(room) = share.room() {
            return Ok(Outside { _room: Some(room) });
        }
        let started = Instant::now();
        let place = share.queue();
        let found = timeout(limit, async {
            loop {
                if self.gate.is_closed() {
                    return Err(CheckoutError::Closed);
                }
                let room = place
                    .try_take()
                    .or_else(|| self.shed().then(|| place.try_take()).flatten());
                if room.is_some() {
                    return Ok(Outside { _room: room });
                }
                place.woken().await;
            }
        });
        found.await.unwrap_or_else(|_| {
            Err(CheckoutError::NoRoom {
                limit: share.limit(),
                waited: started.elapsed(),
            })
        })
    }
}

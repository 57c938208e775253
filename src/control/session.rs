//! One connection held for several statements: what a lock, a transaction and a migration need.

use std::ops::Deref;

use super::{Control, Manager};
use crate::pool::{Checkout, CheckoutError, CloseReason};

/// A connection of the control pool that one caller has to itself. It is closed when it is dropped, and not reused
/// unless [`reuse`](Self::reuse) says so: locks, settings and half-done transactions end with it.
#[derive(Debug)]
pub struct Session(Checkout<Manager>);

impl Control {
    /// Takes a connection out of the pool for good.
    ///
    /// # Errors
    /// No connection could be had.
    pub async fn session(&self) -> Result<Session, CheckoutError<tokio_postgres::Error>> {
        let mut checkout = self.pool.checkout().await?;
        checkout.discard_on_drop(CloseReason::ClientAbort);
        Ok(Session(checkout))
    }
}

impl Session {
    /// Gives it back for others to use. The caller has left nothing in it: no lock, no setting, no transaction.
    pub fn reuse(mut self) {
        self.0.keep_on_drop();
    }
}

impl Deref for Session {
    type Target = tokio_postgres::Client;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

//! Cancel requests that are aimed at one server.
//!
//! PostgreSQL signals the process that the key names, whatever it runs by then. So a server goes to its next client only
//! after the end of file of every cancel connection that was aimed at it: by then the signal was sent, and an idle server
//! ignores it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::{CancelToken, ConnectError};

/// The way to cancel what one server runs, and the requests under way.
#[derive(Debug)]
pub struct Cancels {
    token: CancelToken,
    in_flight: AtomicUsize,
    quiet: Notify,
}

/// One cancel request; counted from the decision to send it until it is over, however it ends.
#[derive(Debug)]
pub struct Aim(Arc<Cancels>);

impl Cancels {
    /// For a server with this token.
    pub fn new(token: CancelToken) -> Arc<Self> {
        Arc::new(Self {
            token,
            in_flight: AtomicUsize::new(0),
            quiet: Notify::new(),
        })
    }

    /// Decides to cancel. The caller holds what keeps the server with the client whose query is meant.
    pub fn aim(self: &Arc<Self>) -> Aim {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Aim(self.clone())
    }

    /// Requests that are not over yet.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Waits until no request is under way. Each has its own limit; the caller adds one over all.
    pub async fn quiet(&self) {
        loop {
            let over = self.quiet.notified();
            if self.in_flight() == 0 {
                return;
            }
            over.await;
        }
    }
}

impl Aim {
    /// Sends the request and waits until the server has closed the connection.
    ///
    /// # Errors
    /// The connection for it could not be made.
    pub async fn send(self) -> Result<(), ConnectError> {
        self.0.token.send().await
    }
}

impl Drop for Aim {
    fn drop(&mut self) {
        if self.0.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.quiet.notify_waiters();
        }
    }
}

//! Cancel requests that are aimed at one server.
//!
//! PostgreSQL signals the process that the key names, whatever it runs by then. So a server goes to its next client only
//! after the end of file of every cancel connection that was aimed at it: by then the signal was sent, and an idle server
//! ignores it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::{CancelToken, ConnectError};

/// The way to cancel what one server runs, and the requests under way.
#[derive(Debug)]
pub struct Cancels {
    /// The id of the server that this is the way to; 0 if it is in no list.
    server: AtomicU64,
    token: CancelToken,
    in_flight: AtomicUsize,
    /// A request may still reach the server although nobody waits for it any more.
    tainted: AtomicBool,
    quiet: Notify,
}

/// One cancel request; counted from the decision to send it until it is over, however it ends.
#[derive(Debug)]
pub struct Aim {
    cancels: Arc<Cancels>,
    /// Bytes may have been sent, and the end of the connection was not seen.
    open: bool,
}

impl Cancels {
    /// For a server with this token.
    pub fn new(token: CancelToken) -> Arc<Self> {
        Arc::new(Self {
            server: AtomicU64::new(0),
            token,
            in_flight: AtomicUsize::new(0),
            tainted: AtomicBool::new(false),
            quiet: Notify::new(),
        })
    }

    /// The server has this id.
    pub(super) fn belong_to(&self, server: u64) {
        self.server.store(server, Ordering::Relaxed);
    }

    /// The id of the server, as in its pool's [`Roster`](super::Roster); 0 if it is in none.
    pub fn server(&self) -> u64 {
        self.server.load(Ordering::Relaxed)
    }

    /// Decides to cancel. The caller holds what keeps the server with the client whose query is meant.
    pub fn aim(self: &Arc<Self>) -> Aim {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        Aim {
            cancels: self.clone(),
            open: false,
        }
    }

    /// Requests that are not over yet.
    #[inline]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Whether a request may still arrive: the server must not go to anybody else then.
    #[inline]
    pub fn tainted(&self) -> bool {
        self.tainted.load(Ordering::SeqCst)
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
    pub async fn send(mut self) -> Result<(), ConnectError> {
        // Until the end is seen; a future that is dropped here leaves it so.
        self.open = true;
        let sent = self.cancels.token.send().await;
        self.open = sent.is_err();
        sent
    }
}

impl Drop for Aim {
    fn drop(&mut self) {
        if self.open {
            self.cancels.tainted.store(true, Ordering::SeqCst);
        }
        if self.cancels.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.cancels.quiet.notify_waiters();
        }
    }
}

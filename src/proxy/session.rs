//! One client's session after its login: wait for a request, take a server, relay, give it back.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;
use super::control::Registered;
use super::demand::{Demand, DemandError, Local, demand};
use super::parting::LeaseEnd;
use super::refuse::Refusal;
use super::relay::Parting;
use super::traffic::Traffic;
use crate::backend::{Lease, ServerError, ServerManager};
use crate::clients::{ClientGuard, ClientState};
use crate::cluster::{Base, CheckoutFailure, PoolHandle};
use crate::error::{Class, ClientError};
use crate::pgwire::Severity;
use crate::pool::{CheckoutError, Pool};
use crate::tls::Stream;

/// One client's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client: Stream,
    pub(super) context: Arc<Shared>,
    pub(super) pool: Arc<PoolHandle>,
    /// The parameters that the client's queries run with.
    pub(super) base: Arc<Base>,
    pub(super) registration: ClientGuard,
    pub(super) registered: Registered,
    pub(super) traffic: Traffic,
    /// The server is this client's until it leaves.
    pub(super) session_pooling: bool,
    /// A batch that could not be served is being skipped up to its Sync.
    pub(super) refusal: Refusal,
    /// When the last server was had.
    pub(super) leased: Instant,
    /// When bytes last came; read once per read, shared by all that is timed from it.
    pub(super) now: Instant,
}

/// What a session waits for between leases.
enum Woken {
    Demand(Demand),
    Gone,
    Violation(DemandError),
    Stopping,
}

/// How a wait for a connection ended.
enum Waited<T> {
    Had(T),
    Failed(CheckoutFailure),
    Cancelled,
    Gone,
    Stopping,
}

impl Session {
    /// Serves the client until it leaves, the connection breaks, or the process stops.
    pub(super) async fn run(mut self, held: Option<Lease>) {
        if let Some(lease) = held
            && !self.serve(lease).await
        {
            return;
        }
        loop {
            if self.flush().await.is_err() {
                return;
            }
            match self.next_demand().await {
                Woken::Demand(Demand::Server) => {
                    let Some(lease) = self.lease().await else {
                        continue;
                    };
                    let Ok(lease) = lease else { return };
                    if !self.serve(lease).await {
                        return;
                    }
                }
                Woken::Demand(Demand::Local(local, length)) => self.answer(local, length),
                Woken::Demand(Demand::Goodbye) | Woken::Gone => return,
                Woken::Demand(Demand::More) => {}
                Woken::Violation(error) => {
                    return self.end(Class::Protocol, &error.to_string()).await;
                }
                Woken::Stopping => return self.end_stopping().await,
            }
        }
    }

    /// Relays on this server until the two part. False when the session is over.
    async fn serve(&mut self, mut lease: Lease) -> bool {
        self.traffic.on_server_changed(self.leased);
        self.registration.set_state(ClientState::Active);
        self.registered.control.runs_on(lease.server().cancels());
        lease.server().mark_busy();
        let parting = self.relay(lease.server()).await;
        self.registered.control.runs_nowhere();
        match self.part(&parting, lease) {
            LeaseEnd::Next => {
                self.registration.set_state(ClientState::Idle);
                return true;
            }
            LeaseEnd::Over => {}
        }
        self.say_goodbye(parting).await;
        false
    }

    async fn say_goodbye(&mut self, parting: Parting) {
        match parting {
            Parting::Settled | Parting::Goodbye | Parting::ClientGone => {}
            Parting::ServerFatal => drop(self.flush().await),
            Parting::Violation(error) => self.end(Class::Protocol, &error.to_string()).await,
            Parting::Stopping => self.end_stopping().await,
            Parting::ServerJunk(error) => {
                self.end(
                    Class::ServerLost,
                    &format!("the server's reply could not be understood: {error}"),
                )
                .await;
            }
            Parting::ServerGone(cause) => {
                let text = "server closed the connection unexpectedly";
                let text =
                    cause.map_or_else(|| text.to_owned(), |error| format!("{text}: {error}"));
                self.end(Class::ServerLost, &text).await;
            }
        }
    }

    /// Waits until the client asks for something.
    async fn next_demand(&mut self) -> Woken {
        poll_fn(|cx| self.poll_demand(cx)).await
    }

    fn poll_demand(&mut self, cx: &mut Context<'_>) -> Poll<Woken> {
        self.registered.control.register(cx.waker());
        loop {
            let control = &self.registered.control;
            if control.stopping_now() || control.stopping() && self.traffic.from_client.is_empty() {
                return Poll::Ready(Woken::Stopping);
            }
            match self.skip_refused() {
                Ok(true) => return Poll::Ready(Woken::Demand(Demand::More)),
                Ok(false) if self.refusal.is_active() => {}
                Ok(false) => match demand(&self.traffic.from_client) {
                    Ok(Demand::More) => {}
                    Ok(found) => return Poll::Ready(Woken::Demand(found)),
                    Err(error) => return Poll::Ready(Woken::Violation(error)),
                },
                Err(error) => return Poll::Ready(Woken::Violation(error)),
            }
            match self.traffic.from_client.poll_fill(cx, &mut self.client) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Woken::Gone),
                Poll::Ready(Ok(read)) => {
                    self.context.metrics.bytes_received_from_client(read);
                    self.now = Instant::now();
                }
            }
        }
    }

    /// A message that needs no server.
    fn answer(&mut self, local: Local, length: usize) {
        match local {
            Local::Sync => {
                // Its length is the client's own claim: the rest may still be to come.
                self.refusal.discard(&mut self.traffic.from_client, length);
                self.traffic.own.ready_for_query(b'I');
            }
            Local::Ignored => self.refusal.discard(&mut self.traffic.from_client, length),
        }
    }

    /// A server for the request that waits. `None` when the client was told why there is none and the session goes on;
    /// an error when it is over.
    async fn lease(&mut self) -> Option<Result<Lease, ()>> {
        if let Some(checkout) = self.pool.pool.try_checkout(self.now) {
            let lease = Lease::new(checkout);
            // Nothing was waited for: the clock need not be read again.
            return self.leased(lease, self.now).await;
        }
        self.registration.set_state(ClientState::Waiting);
        // One that came while nothing was asked was for a request that had ended.
        self.registered.control.take_cancel();
        let waited = self
            .wait_for(|pool| async move { pool.enter().await })
            .await;
        let waited = match waited {
            // Most find what another client gave back a moment ago.
            Waited::Had(entered) => match entered.finish_now() {
                Ok((checkout, now)) => {
                    self.registration.set_state(ClientState::Idle);
                    return self.leased(Lease::new(checkout), now).await;
                }
                Err(entered) => Box::pin(self.wait_for(|_| entered.finish())).await,
            },
            Waited::Failed(error) => Waited::Failed(error),
            Waited::Cancelled => Waited::Cancelled,
            Waited::Gone => Waited::Gone,
            Waited::Stopping => Waited::Stopping,
        };
        self.registration.set_state(ClientState::Idle);
        match waited {
            Waited::Had(checkout) => self.leased(Lease::new(checkout), Instant::now()).await,
            other => Box::pin(self.without_lease(other)).await,
        }
    }

    /// A server was had at this moment.
    async fn leased(&mut self, mut lease: Lease, now: Instant) -> Option<Result<Lease, ()>> {
        if lease.server().applied() == self.base.id() {
            self.leased = now;
            return Some(Ok(lease));
        }
        Box::pin(self.align(lease)).await
    }

    /// A wait for a server ended without one.
    async fn without_lease<T>(&mut self, waited: Waited<T>) -> Option<Result<Lease, ()>> {
        match waited {
            Waited::Failed(error) if error.class() == Class::Shutdown => {
                self.end_stopping().await;
                Some(Err(()))
            }
            Waited::Failed(error) => {
                self.refuse(error.class(), error.sqlstate(), &error.client_message())
            }
            Waited::Cancelled => self.refuse(
                Class::PoolTimeout,
                "57014",
                "canceling statement due to user request",
            ),
            Waited::Stopping => {
                self.end_stopping().await;
                Some(Err(()))
            }
            Waited::Gone | Waited::Had(_) => Some(Err(())),
        }
    }

    /// Waits at the pool, while watching for the client to leave or to cancel.
    async fn wait_for<T, F>(&mut self, step: impl FnOnce(Pool<ServerManager>) -> F) -> Waited<T>
    where
        F: Future<Output = Result<T, CheckoutError<ServerError>>>,
    {
        let mut step = pin!(step(self.pool.pool.clone()));
        poll_fn(|cx| {
            self.registered.control.register(cx.waker());
            if let Poll::Ready(result) = step.as_mut().poll(cx) {
                return Poll::Ready(match result {
                    Ok(had) => Waited::Had(had),
                    Err(error) => Waited::Failed(error.into()),
                });
            }
            if self.registered.control.take_cancel() {
                return Poll::Ready(Waited::Cancelled);
            }
            if self.registered.control.stopping() && self.pool.pool.status().closed {
                return Poll::Ready(Waited::Stopping);
            }
            match self.traffic.from_client.poll_fill(cx, &mut self.client) {
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Waited::Gone),
                Poll::Ready(Ok(read)) => {
                    self.context.metrics.bytes_received_from_client(read);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// Gives the server this client's parameters.
    async fn align(&mut self, mut lease: Lease) -> Option<Result<Lease, ()>> {
        match self
            .pool
            .align(&self.base, &mut lease, self.context.settings.reset_timeout)
            .await
        {
            Ok(()) => {
                self.leased = Instant::now();
                Some(Ok(lease))
            }
            Err(error) => {
                let error = CheckoutFailure::from(error);
                match &error {
                    CheckoutFailure::Base(error) if error.is_refusal() => {
                        lease.server().mark_idle();
                        lease.give_back();
                    }
                    _ => lease.broken(),
                }
                self.refuse(error.class(), error.sqlstate(), &error.client_message())
            }
        }
    }

    /// Tells the client why its request was not served and skips the request.
    fn refuse(&mut self, class: Class, sqlstate: &str, message: &str) -> Option<Result<Lease, ()>> {
        self.context.metrics.error(class, sqlstate);
        tracing::warn!(
            pool = self.pool.name(),
            class = class.label(),
            sqlstate,
            message,
            "request refused"
        );
        self.traffic
            .own
            .error(Severity::Error, sqlstate, message, None);
        self.refusal.start();
        None
    }

    /// Ends the session with a FATAL error.
    async fn end(&mut self, class: Class, message: &str) {
        self.context.metrics.error(class, class.sqlstate());
        tracing::warn!(
            pool = self.pool.name(),
            class = class.label(),
            message,
            "session ended"
        );
        self.last_words(class.sqlstate(), message).await;
    }

    async fn end_stopping(&mut self) {
        let metrics = &self.context.metrics;
        metrics.error(Class::Shutdown, Class::Shutdown.sqlstate());
        self.last_words(
            Class::Shutdown.sqlstate(),
            "terminating connection due to administrator command",
        )
        .await;
    }

    /// Sends what is left and a FATAL error, unless the client stands in the middle of a message.
    async fn last_words(&mut self, sqlstate: &str, message: &str) {
        if self.flush().await.is_err()
            || self.traffic.server_body > 0 && self.traffic.hidden.is_none()
        {
            return;
        }
        self.traffic
            .own
            .error(Severity::Fatal, sqlstate, message, None);
        let _ = tokio::time::timeout(GOODBYE, self.flush()).await;
    }

    /// Sends what is marked for the client. Waits as long as the client takes: that is its own back-pressure, and no
    /// server is held meanwhile.
    async fn flush(&mut self) -> std::io::Result<()> {
        if self.traffic.own.is_empty() && self.traffic.to_client == 0 {
            return Ok(());
        }
        let stopped = self.registered.control.stopping();
        let pass = poll_fn(|cx| self.poll_pass(cx));
        if stopped {
            return tokio::time::timeout(GOODBYE, pass)
                .await
                .unwrap_or(Err(std::io::ErrorKind::TimedOut.into()));
        }
        pass.await
    }
}

/// How long a client that is being sent away may take to read why.
const GOODBYE: Duration = Duration::from_secs(2);

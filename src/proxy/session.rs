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
use super::limits::Overdue;
use super::parting::LeaseEnd;
use super::refuse::Refusal;
use super::relay::Parting;
use super::traffic::Traffic;
use crate::backend::{Lease, ServerError, ServerManager};
use crate::clients::{ClientGuard, ClientState};
use crate::cluster::{Base, CheckoutFailure, PoolHandle};
use crate::error::{Class, ClientError};
use crate::metrics::Limit;
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
    /// When bytes last came from the client: a request that waited here is timed from then, not from when it was sent on.
    pub(super) asked: Instant,
    /// Which of these moments the table of clients has.
    pub(super) asked_shown: Option<Instant>,
}

/// What a session waits for between leases.
enum Woken {
    Demand(Demand),
    Gone,
    Violation(DemandError),
    Overdue(Overdue),
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
                Woken::Violation(error) => return self.end_violation(&error).await,
                Woken::Overdue(overdue) => return self.end_overdue(overdue).await,
                Woken::Stopping => return self.end_stopping().await,
            }
        }
    }

    /// Relays on this server until the two part. False when the session is over.
    async fn serve(&mut self, mut lease: Lease) -> bool {
        self.traffic.on_server_changed(self.leased, &lease);
        if !self.traffic.from_client.is_empty() {
            self.under_way(ClientState::Active);
        }
        let control = &self.registered.control;
        control.runs_on(lease.server().cancels(), self.leased);
        lease.server().asked(self.leased);
        // From here on a request goes to the server. One that came before, while the server was made ready, has found none.
        if self.registered.control.take_cancel() && !self.traffic.from_client.is_empty() {
            self.registered.control.runs_nowhere();
            self.part(&Parting::Settled, lease);
            self.registration.set_state(ClientState::Idle);
            self.refuse_cancelled();
            return true;
        }
        lease.server().mark_busy();
        let parting = self.relay(lease.server()).await;
        self.registered.control.runs_nowhere();
        self.registration.set_statements(self.traffic.names.len());
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
            Parting::Violation(error) => self.end_violation(&error).await,
            Parting::Overdue(overdue) => self.end_overdue(overdue).await,
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
            if control.killed()
                || control.stopping_now()
                || control.stopping() && self.traffic.from_client.is_empty()
            {
                return Poll::Ready(Woken::Stopping);
            }
            if let Some(overdue) = self.overdue() {
                return Poll::Ready(Woken::Overdue(overdue));
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
            let begun = !self.traffic.from_client.is_empty();
            if !self.registered.control.reads(|| begun) {
                return Poll::Pending;
            }
            match self.traffic.from_client.poll_fill(cx, &mut self.client) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Woken::Gone),
                Poll::Ready(Ok(read)) => {
                    self.count_received(read);
                    self.now = Instant::now();
                    self.asked = self.now;
                }
            }
        }
    }

    /// The client's request waits or runs. When it came is stored first: who looks between the two must not take an old moment for
    /// its beginning.
    #[inline]
    pub(super) fn under_way(&mut self, state: ClientState) {
        if self.asked_shown != Some(self.asked) {
            self.asked_shown = Some(self.asked);
            self.registration.asked(self.asked.into_std());
        }
        self.registration.set_state(state);
    }

    /// So many bytes came from the client.
    pub(super) fn count_received(&self, read: usize) {
        self.context.metrics.bytes_received_from_client(read);
        self.pool.metrics.bytes_received_from_client(read);
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
        // One that came while nothing was asked was for a request that had ended.
        self.registered.control.take_cancel();
        if let Some(checkout) = self.pool.pool.try_checkout(self.now) {
            let lease = Lease::new(checkout);
            // Nothing was waited for: the clock need not be read again.
            return self.leased(lease, self.now).await;
        }
        self.under_way(ClientState::Waiting);
        let entered = match self
            .wait_for(|pool| async move { pool.enter().await })
            .await
        {
            Waited::Had(entered) => entered,
            other => return Box::pin(self.without_lease(other)).await,
        };
        // Most find what another client gave back a moment ago.
        match entered.finish_now() {
            Ok((checkout, now)) => {
                self.registration.set_state(ClientState::Idle);
                self.leased(Lease::new(checkout), now).await
            }
            Err(entered) => match Box::pin(self.wait_for(|_| entered.finish())).await {
                Waited::Had(checkout) => {
                    self.registration.set_state(ClientState::Idle);
                    self.leased(Lease::new(checkout), Instant::now()).await
                }
                other => Box::pin(self.without_lease(other)).await,
            },
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
        self.registration.set_state(ClientState::Idle);
        match waited {
            Waited::Failed(error) if error.class() == Class::Shutdown => {
                self.end_stopping().await;
                Some(Err(()))
            }
            Waited::Failed(error) => {
                if error.no_room() {
                    self.context.metrics.limit_rejected(Limit::Servers);
                }
                self.refuse(error.class(), error.sqlstate(), &error.client_message())
            }
            Waited::Cancelled => self.refuse_cancelled(),
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
            let control = &self.registered.control;
            // A pause has no end any more once the process stops.
            let in_vain = || {
                let status = self.pool.pool.status();
                status.closed || status.paused
            };
            if control.killed() || control.stopping() && in_vain() {
                return Poll::Ready(Waited::Stopping);
            }
            match self.traffic.from_client.poll_fill(cx, &mut self.client) {
                // It said goodbye before it left: PostgreSQL would have carried out what it asked before that.
                Poll::Ready(Ok(0) | Err(_)) if self.traffic.ends_with_goodbye() => Poll::Pending,
                Poll::Ready(Ok(0) | Err(_)) => Poll::Ready(Waited::Gone),
                Poll::Ready(Ok(read)) => {
                    self.count_received(read);
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

    fn refuse_cancelled(&mut self) -> Option<Result<Lease, ()>> {
        let text = "canceling statement due to user request";
        self.refuse(Class::Cancelled, Class::Cancelled.sqlstate(), text)
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
        self.end_as(class, class.sqlstate(), message, None).await;
    }

    async fn end_violation(&mut self, error: &DemandError) {
        let text = error.to_string();
        let DemandError::TooLong { limit, .. } = error else {
            return self.end(Class::Protocol, &text).await;
        };
        self.context.metrics.limit_rejected(Limit::MessageSize);
        let hint = format!("poolwatch takes at most {limit} bytes (limits.message_size).");
        // program_limit_exceeded
        self.end_as(Class::Limit, "54000", &text, Some(&hint)).await;
    }

    /// Ends the session with this FATAL error.
    pub(super) async fn end_as(
        &mut self,
        class: Class,
        sqlstate: &str,
        message: &str,
        hint: Option<&str>,
    ) {
        self.context.metrics.error(class, sqlstate);
        tracing::warn!(
            pool = self.pool.name(),
            class = class.label(),
            message,
            "session ended"
        );
        self.last_words(sqlstate, message, hint).await;
    }

    async fn end_stopping(&mut self) {
        let metrics = &self.context.metrics;
        metrics.error(Class::Shutdown, Class::Shutdown.sqlstate());
        self.last_words(
            Class::Shutdown.sqlstate(),
            "terminating connection due to administrator command",
            None,
        )
        .await;
    }

    /// Sends what is left and a FATAL error, unless the client stands in the middle of a message.
    async fn last_words(&mut self, sqlstate: &str, message: &str, hint: Option<&str>) {
        if self.flush().await.is_err()
            || self.traffic.server_body > 0 && self.traffic.hidden.is_none()
        {
            return;
        }
        self.traffic
            .own
            .error(Severity::Fatal, sqlstate, message, hint);
        let _ = tokio::time::timeout(GOODBYE, self.flush()).await;
    }

    /// Sends what is marked for the client. Waits as long as the client takes: that is its own back-pressure, and no
    /// server is held meanwhile.
    async fn flush(&mut self) -> std::io::Result<()> {
        if self.traffic.own.is_empty() && self.traffic.to_client == 0 {
            return Ok(());
        }
        let passed = poll_fn(|cx| {
            if let Poll::Ready(passed) = self.poll_pass(cx) {
                return Poll::Ready(Some(passed));
            }
            self.registered.control.register(cx.waker());
            match self.registered.control.stopping() {
                true => Poll::Ready(None),
                false if self.is_overdue() => {
                    Poll::Ready(Some(Err(std::io::ErrorKind::TimedOut.into())))
                }
                false => Poll::Pending,
            }
        });
        if let Some(passed) = passed.await {
            return passed;
        }
        // What it does not read now it had the time to: the stop does not wait for it.
        tokio::time::timeout(GOODBYE, poll_fn(|cx| self.poll_pass(cx)))
            .await
            .unwrap_or(Err(std::io::ErrorKind::TimedOut.into()))
    }
}

/// How long a client that is being sent away may take to read why.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);

//! One pool with what belongs to it: its name, its metrics, and the parameter sets of its clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::base::{Base, BaseError, requested};
use super::bases::{Bases, Requested};
use crate::backend::{Lease, Roster, Server, ServerError, ServerManager, Statements, Target};
use crate::error::{Class, ClientError, chain};
use crate::metrics::{Limit, PoolMetrics, ProxyMetrics};
use crate::pgwire::{ServerMessage, StartupParameters};
use crate::pool::{CheckoutError, Pool};

/// A pool of servers for one user in one database.
#[derive(Debug)]
pub struct PoolHandle {
    name: String,
    /// The pool.
    pub pool: Pool<ServerManager>,
    /// Its metrics, resolved.
    pub metrics: Arc<PoolMetrics>,
    /// Where limits are counted.
    proxy: Arc<ProxyMetrics>,
    /// The prepared statements that its clients share.
    pub statements: Statements,
    target: Target,
    /// The servers it has.
    pub roster: Roster,
    /// How often the credential had changed when somebody last asked for this pool.
    changes: AtomicU64,
    /// A login came through: the database is there, and the figures are kept.
    proven: AtomicBool,
    holds: Mutex<Holds>,
    bases: Bases,
}

/// What keeps a pool from giving servers.
#[derive(Debug, Default)]
struct Holds {
    /// How many commands.
    commands: usize,
    /// And an operator.
    ordered: bool,
}

/// Why there is no server for a request.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutFailure {
    /// The pool gave none.
    #[error(transparent)]
    Checkout(#[from] CheckoutError<ServerError>),
    /// The client's parameters could not be set.
    #[error(transparent)]
    Base(#[from] BaseError),
}

impl CheckoutFailure {
    /// What PostgreSQL itself said, if it is its refusal.
    pub fn server_error(&self) -> Option<&ServerMessage> {
        match self {
            CheckoutFailure::Checkout(
                CheckoutError::Connect(error) | CheckoutError::Ping(error),
            ) => error.server_error(),
            CheckoutFailure::Base(error) => error.server_error(),
            CheckoutFailure::Checkout(_) => None,
        }
    }

    /// Whether the limit over all pools left no room in time.
    pub fn no_room(&self) -> bool {
        matches!(
            self,
            CheckoutFailure::Checkout(CheckoutError::NoRoom { .. })
        )
    }
}

impl ClientError for CheckoutFailure {
    fn class(&self) -> Class {
        match self {
            CheckoutFailure::Checkout(
                CheckoutError::Timeout { .. } | CheckoutError::NoRoom { .. },
            ) => Class::PoolTimeout,
            CheckoutFailure::Checkout(CheckoutError::Paused { .. }) => Class::Paused,
            CheckoutFailure::Checkout(CheckoutError::Closed) => Class::Shutdown,
            CheckoutFailure::Checkout(_) => Class::Connect,
            CheckoutFailure::Base(BaseError::Options(_)) => Class::Rejected,
            CheckoutFailure::Base(_) => Class::ServerLost,
        }
    }

    fn sqlstate(&self) -> &str {
        match self {
            CheckoutFailure::Base(BaseError::Options(_)) => "42601",
            _ => self
                .server_error()
                .map_or_else(|| self.class().sqlstate(), |error| error.code.as_str()),
        }
    }

    fn client_message(&self) -> String {
        self.server_error()
            .map_or_else(|| chain(self), |error| error.message.clone())
    }
}

impl PoolHandle {
    pub(super) fn new(
        name: String,
        pool: Pool<ServerManager>,
        metrics: Arc<PoolMetrics>,
        proxy: Arc<ProxyMetrics>,
        target: Target,
        roster: Roster,
    ) -> Self {
        Self {
            changes: AtomicU64::new(target.credentials.changes()),
            name,
            pool,
            metrics,
            proxy,
            statements: Statements::default(),
            target,
            roster,
            proven: AtomicBool::new(false),
            holds: Mutex::default(),
            bases: Bases::default(),
        }
    }

    /// Invalidates the pool if the credential has changed: the role may be another of the same name, and servers of the
    /// one that was dropped run nothing any more.
    pub(super) fn renew(&self) {
        let changes = self.target.credentials.changes();
        if self.changes.swap(changes, Ordering::Relaxed) != changes {
            self.pool.invalidate();
        }
    }

    /// `user@host:port/database`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Grants nothing until as many [`release`](Self::release)s. Those who ask wait, in their order.
    pub(super) fn hold(&self) {
        let mut holds = self.holds.lock();
        holds.commands += 1;
        self.pool.pause();
    }

    pub(super) fn release(&self) {
        let mut holds = self.holds.lock();
        holds.commands -= 1;
        if holds.commands == 0 && !holds.ordered {
            self.pool.resume();
        }
    }

    /// Holds it for an operator, or not any more.
    pub(super) fn order_paused(&self, paused: bool) {
        let mut holds = self.holds.lock();
        let was = std::mem::replace(&mut holds.ordered, paused);
        if paused && !was {
            self.pool.pause();
        } else if was && !paused && holds.commands == 0 {
            self.pool.resume();
        }
    }

    pub(super) fn prove(&self) {
        self.proven.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Relaxed)
    }

    /// Where its servers are.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// A server, waited for if need be.
    ///
    /// # Errors
    /// See [`CheckoutFailure`].
    pub async fn checkout(&self) -> Result<Lease, CheckoutFailure> {
        let checkout = self.pool.checkout().await.inspect_err(|error| {
            if matches!(error, CheckoutError::NoRoom { .. }) {
                self.proxy.limit_rejected(Limit::Servers);
            }
        });
        Ok(Lease::new(checkout?))
    }

    /// The parameter set of a client that logs in. The first client that asks for a set has it tried on a server.
    ///
    /// # Errors
    /// No server could be had, or PostgreSQL refuses a parameter.
    pub async fn base(
        &self,
        parameters: &StartupParameters,
        limit: Duration,
    ) -> Result<Arc<Base>, CheckoutFailure> {
        let wanted = requested(parameters)?;
        if let Some(base) = self.bases.known(&wanted, self.pool.generation()) {
            return Ok(base);
        }
        let mut lease = self.checkout().await?;
        let base = self.establish(wanted, &mut lease, limit).await;
        if base.as_ref().is_ok() || base.as_ref().is_err_and(BaseError::is_refusal) {
            lease.server().mark_idle();
            lease.give_back();
        }
        Ok(base?)
    }

    /// Notes what a client's server reports, now that it parts from it: its parameters from now on, if they changed.
    pub fn changed(&self, base: &Arc<Base>, server: &mut Server) -> Option<Arc<Base>> {
        let changed = self.bases.changed(base, server.parameters());
        server.set_applied(changed.as_ref().unwrap_or(base).id());
        changed
    }

    /// Gives a server a client's parameters.
    ///
    /// # Errors
    /// See [`BaseError`]. After a refusal by PostgreSQL the server is as it was; else it must not be used.
    pub async fn align(
        &self,
        base: &Base,
        lease: &mut Lease,
        limit: Duration,
    ) -> Result<(), BaseError> {
        self.bases.look(lease, Some(base));
        base.align(lease.server(), limit).await
    }

    async fn establish(
        &self,
        wanted: Requested,
        lease: &mut Lease,
        limit: Duration,
    ) -> Result<Arc<Base>, BaseError> {
        // The checkout may have found that the pool's servers are gone.
        let generation = self.pool.generation();
        self.bases.known(&wanted, generation);
        self.bases.look(lease, None);
        let defaults = self.bases.defaults(lease.server_ref().initial_parameters());
        let base = Base::establish(lease.server(), &defaults, &wanted, limit).await?;
        let base = Arc::new(base);
        self.bases.remember(wanted, &base, generation);
        Ok(base)
    }
}

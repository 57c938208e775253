//! The figures of one pool: what happened, counted as it happens, and what is the case, asked for at the scrape.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus::Histogram;

use super::count::{Count, Level};
use super::families as f;
use super::family::Family;
use super::labels::{Phase, PinReason, StatementMessage, server_port};
use super::scrape::{Scrape, new_histogram};
use crate::pool::{CloseReason, Observer, Outcome, PoolEvent, PrePing, Status};

/// What names a pool in labels. Bounded by the number of pools; none of it may be a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolLabels {
    /// `user@host:port/database`, or `control`.
    pub name: String,
    /// The database.
    pub namespace: String,
    /// The PostgreSQL host, or the directory of its Unix socket.
    pub host: String,
    /// Its port.
    pub port: u16,
}

/// The figures of one pool. Every handle is resolved; recording is an atomic addition or a histogram's observation.
pub struct PoolMetrics {
    labels: PoolLabels,
    checkouts: [Count; Outcome::ALL.len()],
    opened: Count,
    closed: [Count; CloseReason::ALL.len()],
    pre_pings: [Count; PrePing::ALL.len()],
    invalidations: Count,
    bugs: Count,
    transactions: Count,
    /// Nanoseconds.
    transaction_time: Count,
    client_received: Count,
    client_sent: Count,
    logins: Count,
    statements: [Count; StatementMessage::COUNT],
    pins: [Count; PinReason::COUNT],
    pinned: [Level; PinReason::COUNT],
    create_time: Histogram,
    wait_time: Histogram,
    use_time: Histogram,
    operation_ok: Histogram,
    operation_failed: Histogram,
    phase_wait: Histogram,
    phase_connect: Histogram,
    phases: [Histogram; Phase::COUNT],
    returned_rows: Histogram,
    idle_in_transaction: Histogram,
    suspected_leaks: AtomicUsize,
    /// Locked by a scrape and by [`watch`](Self::watch) only, never by what records.
    status: Mutex<Option<StatusSource>>,
}

/// The counts of one pool at one moment. Each is read by itself, so under load they may be a query apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolTotals {
    /// Transactions that ended.
    pub transactions: u64,
    /// The time they took, each from its first statement's start in poolwatch, the wait for a server included.
    pub transaction_time: Duration,
    /// Statements that ended.
    pub queries: u64,
    /// The time they took, each from its start in poolwatch, the wait for a server included.
    pub query_time: Duration,
    /// The time from asking for a server to having it.
    pub wait_time: Duration,
    /// Checkouts that got a server.
    pub assignments: u64,
    /// Bytes from clients.
    pub received: u64,
    /// Bytes to clients.
    pub sent: u64,
    /// Clients that logged in.
    pub logins: u64,
    /// Messages about statements with a name, in the order of [`StatementMessage::ALL`].
    pub statements: [u64; StatementMessage::COUNT],
}

/// A histogram's sum of seconds, each of which was a duration.
fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

type StatusSource = Box<dyn Fn() -> Status + Send + Sync>;

impl PoolMetrics {
    pub(super) fn new(labels: PoolLabels) -> Self {
        let phase = || new_histogram(&f::QUERY_PHASE);
        Self {
            labels,
            checkouts: Default::default(),
            opened: Count::default(),
            closed: Default::default(),
            pre_pings: Default::default(),
            invalidations: Count::default(),
            bugs: Count::default(),
            transactions: Count::default(),
            transaction_time: Count::default(),
            client_received: Count::default(),
            client_sent: Count::default(),
            logins: Count::default(),
            statements: Default::default(),
            pins: Default::default(),
            pinned: Default::default(),
            create_time: new_histogram(&f::CONNECTION_CREATE_TIME),
            wait_time: new_histogram(&f::CONNECTION_WAIT_TIME),
            use_time: new_histogram(&f::CONNECTION_USE_TIME),
            operation_ok: new_histogram(&f::OPERATION_DURATION),
            operation_failed: new_histogram(&f::OPERATION_DURATION),
            phase_wait: phase(),
            phase_connect: phase(),
            phases: Phase::ALL.map(|_| phase()),
            returned_rows: new_histogram(&f::RETURNED_ROWS),
            idle_in_transaction: new_histogram(&f::IDLE_IN_TRANSACTION),
            suspected_leaks: AtomicUsize::new(0),
            status: Mutex::new(None),
        }
    }

    /// The labels given at the start.
    pub fn labels(&self) -> &PoolLabels {
        &self.labels
    }

    /// Where a scrape asks for the pool's state. Until this is called, the pool's gauges are not exported.
    ///
    /// The closure may own the pool: [`Metrics::forget_pool`](super::Metrics::forget_pool) drops it, which ends the
    /// circle of pool, observer and closure. It must not block.
    pub fn watch(&self, status: impl Fn() -> Status + Send + Sync + 'static) {
        let previous = self.status.lock().replace(Box::new(status));
        drop(previous); // after the lock: it may be the last owner of a pool
    }

    pub(super) fn unwatch(&self) {
        let previous = self.status.lock().take();
        drop(previous);
    }

    /// A query ended: `seconds` from its start in poolwatch, and whether it ended without an error.
    pub fn query_finished(&self, seconds: f64, ok: bool) {
        match ok {
            true => self.operation_ok.observe(seconds),
            false => self.operation_failed.observe(seconds),
        }
    }

    /// A transaction ended: a ReadyForQuery "idle" that ends at least one executed statement. It took so long from the first
    /// one's start in poolwatch.
    pub fn transaction_finished(&self, took: Duration) {
        self.transactions.inc();
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.transaction_time.add(nanoseconds);
    }

    /// `n` bytes came from a client of this pool.
    pub fn bytes_received_from_client(&self, n: usize) {
        self.client_received.add(n as u64);
    }

    /// `n` bytes went to a client of this pool.
    pub fn bytes_sent_to_client(&self, n: usize) {
        self.client_sent.add(n as u64);
    }

    /// A client has logged in.
    pub fn logged_in(&self) {
        self.logins.inc();
    }

    /// A message about a prepared statement with a name.
    pub fn statement(&self, message: StatementMessage) {
        self.statements[message as usize].inc();
    }

    /// What was counted so far, as far as it is shown as numbers without buckets.
    pub fn totals(&self) -> PoolTotals {
        let seconds = |histogram: &Histogram| duration(histogram.get_sample_sum());
        let checkouts = |outcome: Outcome| self.checkouts[outcome as usize].get();
        PoolTotals {
            transactions: self.transactions.get(),
            transaction_time: Duration::from_nanos(self.transaction_time.get()),
            queries: self.operation_ok.get_sample_count()
                + self.operation_failed.get_sample_count(),
            query_time: seconds(&self.operation_ok) + seconds(&self.operation_failed),
            wait_time: seconds(&self.wait_time),
            assignments: checkouts(Outcome::Direct) + checkouts(Outcome::Waited),
            received: self.client_received.get(),
            sent: self.client_sent.get(),
            logins: self.logins.get(),
            statements: StatementMessage::ALL
                .map(|message| self.statements[message as usize].get()),
        }
    }

    /// How long a phase of a query took.
    pub fn phase(&self, phase: Phase, took: Duration) {
        self.phases[phase as usize].observe(took.as_secs_f64());
    }

    /// A query without an error returned or changed so many rows.
    pub fn returned_rows(&self, rows: u64) {
        self.returned_rows.observe(rows as f64);
    }

    /// A client asked for something more in its transaction, so long after the last answer.
    pub fn idle_in_transaction(&self, idle: Duration) {
        self.idle_in_transaction.observe(idle.as_secs_f64());
    }

    /// So many of the pool's servers are held and not used.
    pub fn set_suspected_leaks(&self, count: usize) {
        self.suspected_leaks.store(count, Ordering::Relaxed);
    }

    /// A session was pinned. It counts as pinned for this reason until the guard is dropped.
    pub fn pinned(self: &Arc<Self>, reason: PinReason) -> PinGuard {
        self.pins[reason as usize].inc();
        self.pinned[reason as usize].inc();
        PinGuard {
            pool: Arc::clone(self),
            reason,
        }
    }

    /// Reads counts of ends before counts of beginnings (closed before opened, returns before checkouts), so that
    /// under load a difference of the two is never negative.
    pub(super) fn collect(&self, out: &mut Scrape) {
        let name = self.labels.name.as_str();
        for reason in CloseReason::ALL {
            let count = self.closed[reason as usize].get();
            out.counter(&f::POOL_CLOSED, &[name, reason.label()], count);
        }
        out.histogram(&f::CONNECTION_USE_TIME, &[name], &self.use_time);
        self.collect_status(out);
        out.counter(&f::POOL_OPENED, &[name], self.opened.get());
        out.histogram(&f::CONNECTION_CREATE_TIME, &[name], &self.create_time);
        for outcome in Outcome::ALL {
            let count = self.checkouts[outcome as usize].get();
            out.counter(&f::POOL_CHECKOUTS, &[name, outcome.label()], count);
            if outcome == Outcome::Timeout {
                out.counter(&f::CONNECTION_TIMEOUTS, &[name], count);
            }
        }
        out.histogram(&f::CONNECTION_WAIT_TIME, &[name], &self.wait_time);
        for outcome in PrePing::ALL {
            let count = self.pre_pings[outcome as usize].get();
            out.counter(&f::POOL_PRE_PINGS, &[name, outcome.label()], count);
        }
        out.counter(&f::POOL_INVALIDATIONS, &[name], self.invalidations.get());
        out.counter(&f::POOL_BUGS, &[name], self.bugs.get());
        out.counter(&f::TRANSACTIONS, &[name], self.transactions.get());
        let transaction_time = Duration::from_nanos(self.transaction_time.get());
        out.seconds(
            &f::TRANSACTION_SECONDS,
            &[name],
            transaction_time.as_secs_f64(),
        );
        for (direction, count) in [
            ("received", &self.client_received),
            ("sent", &self.client_sent),
        ] {
            out.counter(&f::CLIENT_BYTES, &[name, direction], count.get());
        }
        out.counter(&f::POOL_LOGINS, &[name], self.logins.get());
        for message in StatementMessage::ALL {
            let count = self.statements[message as usize].get();
            out.counter(&f::PREPARED_STATEMENTS, &[name, message.label()], count);
        }
        for reason in PinReason::ALL {
            let labels = [name, reason.label()];
            let alive = self.pinned[reason as usize].get();
            out.gauge(&f::PINNED_SESSIONS, &labels, alive as f64);
            out.counter(&f::PINS, &labels, self.pins[reason as usize].get());
        }
        self.collect_queries(out);
    }

    fn collect_queries(&self, out: &mut Scrape) {
        let PoolLabels {
            name,
            namespace,
            host,
            port,
        } = &self.labels;
        let port = server_port(*port);
        // `_OTHER` is what the conventions say for an error that is given no finer name.
        for (error_type, histogram) in
            [("", &self.operation_ok), ("_OTHER", &self.operation_failed)]
        {
            let labels = [
                name,
                "postgresql",
                namespace,
                host,
                port.as_str(),
                error_type,
            ];
            out.histogram(&f::OPERATION_DURATION, &labels, histogram);
        }
        out.histogram(&f::QUERY_PHASE, &[name, "wait"], &self.phase_wait);
        out.histogram(&f::QUERY_PHASE, &[name, "connect"], &self.phase_connect);
        for phase in Phase::ALL {
            let histogram = &self.phases[phase as usize];
            out.histogram(&f::QUERY_PHASE, &[name, phase.label()], histogram);
        }
        out.histogram(&f::RETURNED_ROWS, &[name], &self.returned_rows);
        out.histogram(&f::IDLE_IN_TRANSACTION, &[name], &self.idle_in_transaction);
        let leaks = self.suspected_leaks.load(Ordering::Relaxed);
        out.gauge(&f::SUSPECTED_LEAKS, &[name], leaks as f64);
    }

    fn collect_status(&self, out: &mut Scrape) {
        let Some(status) = self.status.lock().as_ref().map(|status| status()) else {
            return;
        };
        let name = self.labels.name.as_str();
        for (state, count) in [("idle", status.idle), ("used", status.in_use)] {
            out.gauge(&f::CONNECTION_COUNT, &[name, state], count.into());
        }
        let max = match status.max_overflow {
            ..0 => f64::INFINITY,
            overflow => f64::from(status.size) + f64::from(overflow),
        };
        let gauges: [(&Family, f64); 12] = [
            (&f::CONNECTION_MAX, max),
            (&f::CONNECTION_IDLE_MAX, status.size.into()),
            (&f::CONNECTION_IDLE_MIN, 0.0),
            (&f::CONNECTION_PENDING_REQUESTS, status.waiting.into()),
            (&f::POOL_SIZE, status.size.into()),
            (&f::POOL_MAX_OVERFLOW, status.max_overflow.into()),
            (&f::POOL_OVERFLOW_CONNECTIONS, status.overflow().into()),
            (&f::POOL_OLDEST_WAIT, status.oldest_wait.as_secs_f64()),
            (&f::POOL_OLDEST_USE, status.oldest_use.as_secs_f64()),
            (&f::POOL_CONNECTING, status.connecting.into()),
            (&f::POOL_PINGING, status.pinging.into()),
            (&f::POOL_PAUSED, f64::from(u8::from(status.paused))),
        ];
        for (family, value) in gauges {
            out.gauge(family, &[name], value);
        }
    }
}

impl Observer for PoolMetrics {
    fn on_event(&self, event: PoolEvent) {
        match event {
            // How many wait now is the pool's to say, at the scrape.
            PoolEvent::WaitStarted => {}
            PoolEvent::WaitEnded { waited } => self.phase_wait.observe(waited.as_secs_f64()),
            PoolEvent::CheckedOut { outcome, took } => {
                self.checkouts[outcome as usize].inc();
                self.wait_time.observe(took.as_secs_f64());
            }
            PoolEvent::Returned { held } => self.use_time.observe(held.as_secs_f64()),
            PoolEvent::Connected { took, ok } => {
                self.phase_connect.observe(took.as_secs_f64());
                if ok {
                    self.opened.inc();
                    self.create_time.observe(took.as_secs_f64());
                }
            }
            PoolEvent::Closed { reason } => self.closed[reason as usize].inc(),
            PoolEvent::PrePing { outcome } => self.pre_pings[outcome as usize].inc(),
            PoolEvent::Invalidated => self.invalidations.inc(),
            PoolEvent::Bug { what } => {
                self.bugs.inc();
                tracing::error!(pool = %self.labels.name, what, "the pool met a state that cannot be");
            }
        }
    }
}

impl std::fmt::Debug for PoolMetrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolMetrics")
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

/// One session pinned for one reason. Counted in `poolwatch_pinned_sessions` while alive, however the session ends.
#[derive(Debug)]
#[must_use = "the session counts as pinned only while the guard lives"]
pub struct PinGuard {
    pool: Arc<PoolMetrics>,
    reason: PinReason,
}

impl PinGuard {
    /// Why the session is pinned.
    pub fn reason(&self) -> PinReason {
        self.reason
    }
}

impl Drop for PinGuard {
    fn drop(&mut self) {
        self.pool.pinned[self.reason as usize].dec();
    }
}

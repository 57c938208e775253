//! The figures of one pool, read from a scrape: what several topics compare with the truth.

use std::time::Duration;

use crate::support::{Database, Scrape, Sidecar, eventually};

/// The longest a figure may take to settle on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);
const POOL: &str = "db_client_connection_pool_name";

/// The figures of the pool that the tests' queries use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Figures {
    pub(crate) idle: f64,
    pub(crate) used: f64,
    pub(crate) pending: f64,
    pub(crate) direct: f64,
    pub(crate) waited: f64,
    pub(crate) returns: f64,
    pub(crate) opened: f64,
    pub(crate) closed: f64,
    pub(crate) transactions: f64,
    /// Queries that succeeded.
    pub(crate) succeeded: f64,
    /// Queries that failed.
    pub(crate) failed: f64,
}

impl Figures {
    /// Reads them. There are two pools, poolwatch's own named `control`, and one that the test uses.
    #[track_caller]
    pub(crate) fn of(scrape: &Scrape) -> Self {
        let pool = pool_name(scrape);
        let one = |name: &str, labels: &[(&str, &str)]| {
            let mut labels = labels.to_vec();
            labels.push((POOL, &pool));
            scrape.sum(name, &labels)
        };
        let live = |state| {
            one(
                "db_client_connection_count",
                &[("db_client_connection_state", state)],
            )
        };
        let ended = |outcome| one("poolwatch_pool_checkouts_total", &[("outcome", outcome)]);
        let queries = |error| {
            one(
                "db_client_operation_duration_seconds_count",
                &[("error_type", error)],
            )
        };
        Self {
            idle: live("idle"),
            used: live("used"),
            pending: one("db_client_connection_pending_requests", &[]),
            direct: ended("direct"),
            waited: ended("waited"),
            returns: one("db_client_connection_use_time_seconds_count", &[]),
            opened: one("poolwatch_pool_connections_opened_total", &[]),
            closed: one("poolwatch_pool_connections_closed_total", &[]),
            transactions: one("poolwatch_transactions_total", &[]),
            succeeded: queries(""),
            failed: queries("_OTHER"),
        }
    }

    /// Reads them now.
    pub(crate) async fn now(sidecar: &Sidecar) -> Self {
        Self::of(&sidecar.scrape().await)
    }

    /// Successful checkouts.
    pub(crate) fn checkouts(&self) -> f64 {
        self.direct + self.waited
    }

    /// What must hold of any one scrape while nothing moves.
    fn consistent(&self, held: f64) -> Result<(), String> {
        let holds = self.used == held
            && self.checkouts() == self.returns + held
            && self.opened - self.closed == self.idle + self.used
            && self.pending == 0.0;
        holds
            .then_some(())
            .ok_or_else(|| format!("not consistent with {held} held: {self:?}"))
    }

    /// Waits until the figures say that so many connections are held and agree with each other and with what
    /// PostgreSQL counts, and returns them.
    pub(crate) async fn settled(sidecar: &Sidecar, database: &Database, held: u32) -> Self {
        eventually(LIMIT, || async {
            let scrape = sidecar.scrape().await;
            let figures = Self::of(&scrape);
            figures.consistent(f64::from(held))?;
            // poolwatch's own pool has sessions in the same database.
            let all = scrape.sum("db_client_connection_count", &[]);
            let sessions = database.sessions().await;
            if all == sessions as f64 {
                Ok(figures)
            } else {
                Err(format!(
                    "{all} live, PostgreSQL has {sessions}: {figures:?}"
                ))
            }
        })
        .await
    }
}

/// The name of the pool that is not poolwatch's own.
#[track_caller]
fn pool_name(scrape: &Scrape) -> String {
    let mut pools = scrape.by("poolwatch_pool_size", POOL);
    pools.remove("control").expect("the control pool");
    assert!(pools.len() <= 1, "several pools: {pools:?}");
    // A pool that was never asked for has no series yet, and no figures: all are 0.
    pools.into_keys().next().unwrap_or_default()
}

/// How clients are counted, by state.
pub(crate) fn clients(scrape: &Scrape, state: &str) -> f64 {
    scrape.value("poolwatch_clients", &[("state", state)])
}

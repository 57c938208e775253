//! How long clients may idle, sit in a transaction, and run.
//!
//! No query starts a timer. One task looks at all sessions from time to time: what a session does and how far it has come
//! is one number that it stores anyway, and where that is what it was at an earlier look, it has lasted since. So nobody
//! is ever ended early, and at most two looks late. The look only tells; the session, which alone knows what it does by
//! then, looks again and acts.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::control::Control;
use super::relay::Parting;
use super::session::Session;
use super::{Proxy, Shared};
use crate::backend::Server;
use crate::clients::{Activity, ClientState};
use crate::error::{Class, chain};
use crate::metrics::Limit;

/// The limits on clients; `None` is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Asking nothing, outside a transaction.
    pub idle_client: Option<Duration>,
    /// Asking nothing, within a transaction.
    pub idle_in_transaction: Option<Duration>,
    /// A transaction.
    pub transaction: Option<Duration>,
    /// A request.
    pub query: Option<Duration>,
    /// The length of one message, its header included, in bytes.
    pub message: usize,
}

/// What has lasted too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    IdleClient = 1,
    IdleInTransaction,
    Transaction,
    Query,
}

impl Overdue {
    const ALL: [Overdue; 4] = [
        Overdue::IdleClient,
        Overdue::IdleInTransaction,
        Overdue::Transaction,
        Overdue::Query,
    ];

    /// The number that stays the same for as long as this lasts; `None` where the session does something else.
    fn number(self, activity: Activity) -> Option<u32> {
        use ClientState::{Active, Idle, IdleInTransaction};
        match (self, activity.state) {
            (Overdue::IdleClient, Idle) => Some(activity.step),
            (Overdue::IdleInTransaction, IdleInTransaction) => Some(activity.step),
            (Overdue::Query, Active) => Some(activity.step),
            (Overdue::Transaction, Active | IdleInTransaction) => Some(activity.transaction),
            _ => None,
        }
    }

    fn limit(self, limits: &Limits) -> Option<Duration> {
        match self {
            Overdue::IdleClient => limits.idle_client,
            Overdue::IdleInTransaction => limits.idle_in_transaction,
            Overdue::Transaction => limits.transaction,
            Overdue::Query => limits.query,
        }
    }

    fn counted(self) -> Limit {
        match self {
            Overdue::IdleClient => Limit::IdleClient,
            Overdue::IdleInTransaction => Limit::IdleInTransaction,
            Overdue::Transaction => Limit::TransactionTime,
            Overdue::Query => Limit::QueryTime,
        }
    }

    /// The SQLSTATE that PostgreSQL has for its own limit of this kind.
    fn sqlstate(self) -> &'static str {
        match self {
            Overdue::IdleClient => "57P05",        // idle_session_timeout
            Overdue::IdleInTransaction => "25P03", // idle_in_transaction_session_timeout
            Overdue::Transaction => "25P04",       // transaction_timeout
            Overdue::Query => "57014",             // query_canceled
        }
    }

    fn message(self) -> &'static str {
        match self {
            Overdue::IdleClient => "terminating connection due to idle-session timeout",
            Overdue::IdleInTransaction => {
                "terminating connection due to idle-in-transaction timeout"
            }
            Overdue::Transaction => "terminating connection due to transaction timeout",
            Overdue::Query => "canceling statement due to query timeout",
        }
    }

    fn hint(self, limits: &Limits) -> String {
        let setting = self.counted().label();
        let limit = self.limit(limits).unwrap_or_default();
        format!("This is poolwatch's own limit of {limit:?}: limits.{setting}.")
    }
}

/// A word that says what has lasted too long, and which occurrence of it; never zero.
pub(super) fn pack(overdue: Overdue, number: u32) -> u64 {
    (overdue as u64) << 32 | u64::from(number)
}

fn unpack(word: u64) -> Option<(Overdue, u32)> {
    let overdue = Overdue::ALL
        .into_iter()
        .find(|overdue| *overdue as u64 == word >> 32)?;
    Some((overdue, word as u32))
}

/// Since when something has lasted, as far as the looks can tell, and whether its session was told.
#[derive(Debug, Clone, Copy)]
struct Lasting {
    number: Option<u32>,
    since: Instant,
    told: bool,
}

/// What the looks at one session have seen, by [`Overdue`].
type Seen = [Lasting; Overdue::ALL.len()];

/// The looks at all sessions.
#[derive(Debug)]
struct Looks {
    limits: Limits,
    seen: HashMap<u64, Seen>,
}

impl Looks {
    /// How long to wait between two looks: a quarter of the shortest limit, or a second. `None` where nothing is limited.
    fn pause(&self) -> Option<Duration> {
        let limits = Overdue::ALL
            .iter()
            .filter_map(|kind| kind.limit(&self.limits));
        let quarter = limits.min()? / 4;
        Some(quarter.clamp(Duration::from_millis(10), Duration::from_secs(1)))
    }

    /// One look at one session: what it has to be told.
    fn look(&mut self, id: u64, activity: Activity, now: Instant) -> Option<(Overdue, u32)> {
        let nothing = Lasting {
            number: None,
            since: now,
            told: false,
        };
        let seen = self.seen.entry(id).or_insert([nothing; 4]);
        let mut found = None;
        for (kind, lasting) in Overdue::ALL.into_iter().zip(seen) {
            let number = kind.number(activity);
            if lasting.number != number {
                *lasting = Lasting { number, ..nothing };
                continue;
            }
            let over = |limit| now.saturating_duration_since(lasting.since) >= limit;
            if let Some(number) = number
                && kind.limit(&self.limits).is_some_and(over)
                && !std::mem::replace(&mut lasting.told, true)
            {
                found.get_or_insert((kind, number));
            }
        }
        found
    }

    fn look_at_all(&mut self, shared: &Shared) {
        let now = Instant::now();
        let controls = shared.controls.all();
        let mut there = std::collections::HashSet::with_capacity(controls.len());
        for control in controls {
            let Some(client) = control.client() else {
                continue;
            };
            there.insert(client.id());
            if let Some((kind, number)) = self.look(client.id(), client.activity(), now) {
                control.tell_overdue(pack(kind, number));
            }
        }
        self.seen.retain(|id, _| there.contains(id));
    }
}

impl Proxy {
    /// Watches over the limits until the process stops; over at once where there are none.
    pub async fn enforce_limits(self) {
        let mut looks = Looks {
            limits: self.0.settings.limits,
            seen: HashMap::new(),
        };
        let Some(pause) = looks.pause() else { return };
        let stopping = self.0.tasks.stopping();
        let looking = async {
            loop {
                tokio::time::sleep(pause).await;
                looks.look_at_all(&self.0);
            }
        };
        tokio::select! {
            () = stopping => {}
            () = looking => {}
        }
    }
}

impl Control {
    /// Takes notice of what the looks have told, if that still lasts.
    fn take_overdue(&self, activity: Activity) -> Option<Overdue> {
        let (overdue, number) = unpack(self.take_overdue_word())?;
        (overdue.number(activity) == Some(number)).then_some(overdue)
    }
}

impl Session {
    /// What has lasted too long, while this session has no server.
    #[inline]
    pub(super) fn overdue(&self) -> Option<Overdue> {
        let control = &self.registered.control;
        if !control.is_overdue() {
            return None;
        }
        control.take_overdue(self.registration.activity())
    }

    /// Whether an idle client has not even read its answer for too long: then it cannot be told why its session ends.
    pub(super) fn is_overdue(&self) -> bool {
        let overdue = self.overdue();
        if let Some(overdue) = overdue {
            self.context.metrics.limit_rejected(overdue.counted());
            tracing::warn!(
                pool = self.pool.name(),
                limit = overdue.counted().label(),
                "session ended: the client does not read"
            );
        }
        overdue.is_some()
    }

    /// Acts on what has lasted too long, while this session has a server: its query is cancelled, or the two part.
    #[inline]
    pub(super) fn heed_limits(&mut self, server: &Server) -> Option<Parting> {
        match self.overdue()? {
            Overdue::Query => {
                self.cancel_overdue(server);
                None
            }
            other => Some(Parting::Overdue(other)),
        }
    }

    fn cancel_overdue(&mut self, server: &Server) {
        self.context.metrics.limit_rejected(Limit::QueryTime);
        self.traffic.overdue = Some(Overdue::Query.hint(&self.context.settings.limits));
        tracing::info!(
            pool = self.pool.name(),
            "query cancelled: limits.query_time"
        );
        // Aimed here, where the server is surely this client's.
        let aim = server.cancels().aim();
        self.context.tasks.spawn("query limit", async move {
            if let Err(error) = aim.send().await {
                tracing::warn!(
                    error = chain(&error),
                    "cancel request could not be passed on"
                );
            }
        });
    }

    /// Ends the session for what has lasted too long.
    pub(super) async fn end_overdue(&mut self, overdue: Overdue) {
        self.context.metrics.limit_rejected(overdue.counted());
        let hint = overdue.hint(&self.context.settings.limits);
        let (sqlstate, message) = (overdue.sqlstate(), overdue.message());
        let ending = self.end_as(Class::Limit, sqlstate, message, Some(&hint));
        // A client that does not read is not waited for: that is what it may have been ended for.
        let _ = tokio::time::timeout(super::session::GOODBYE, ending).await;
    }
}

/// What a query that was cancelled for its time is told in place of PostgreSQL's "due to user request".
pub(super) fn query_error(own: &mut crate::pgwire::Replies, hint: &str) {
    let overdue = Overdue::Query;
    own.error(
        crate::pgwire::Severity::Error,
        overdue.sqlstate(),
        overdue.message(),
        Some(hint),
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn looks() -> Looks {
        let limits = Limits {
            idle_client: Some(8 * SECOND),
            idle_in_transaction: Some(4 * SECOND),
            transaction: Some(20 * SECOND),
            query: Some(6 * SECOND),
            message: usize::MAX,
        };
        Looks {
            limits,
            seen: HashMap::new(),
        }
    }

    fn doing(state: ClientState, step: u32, transaction: u32) -> Activity {
        Activity {
            state,
            step,
            transaction,
        }
    }

    #[test]
    fn the_pause_is_a_quarter_of_the_shortest_limit() {
        let mut looks = looks();
        assert_eq!(looks.pause(), Some(SECOND));
        looks.limits.query = Some(SECOND);
        assert_eq!(looks.pause(), Some(SECOND / 4));
        looks.limits.query = Some(Duration::from_millis(1));
        assert_eq!(looks.pause(), Some(Duration::from_millis(10)));
        looks.limits = Limits {
            idle_client: None,
            idle_in_transaction: None,
            transaction: None,
            query: None,
            message: 1,
        };
        assert_eq!(looks.pause(), None);
    }

    #[test]
    fn what_lasts_is_told_once_and_never_early() {
        let (mut looks, start) = (looks(), Instant::now());
        let idle = doing(ClientState::Idle, 3, 1);
        let told: Vec<_> = (0..=12)
            .map(|second| looks.look(1, idle, start + second * SECOND))
            .collect();
        assert_eq!(told[8], Some((Overdue::IdleClient, 3)));
        assert_eq!(told.iter().flatten().count(), 1);
    }

    #[test]
    fn what_is_there_again_begins_anew() {
        let (mut looks, start) = (looks(), Instant::now());
        // A query of five seconds and another: none is too long, but their transaction is.
        let mut told = Vec::new();
        for second in 0..=20 {
            let activity = doing(ClientState::Active, second / 5, 7);
            told.extend(looks.look(1, activity, start + second * SECOND));
        }
        assert_eq!(told, [(Overdue::Transaction, 7)]);
    }

    #[test]
    fn each_state_has_its_own_limit() {
        for (state, expected) in [
            (ClientState::Idle, Some(Overdue::IdleClient)),
            (
                ClientState::IdleInTransaction,
                Some(Overdue::IdleInTransaction),
            ),
            (ClientState::Active, Some(Overdue::Query)),
            (ClientState::Waiting, None),
            (ClientState::Login, None),
        ] {
            let (mut looks, start) = (looks(), Instant::now());
            let activity = doing(state, 1, 1);
            let told = (0..15).find_map(|second| looks.look(1, activity, start + second * SECOND));
            assert_eq!(told.map(|(kind, _)| kind), expected, "{state:?}");
        }
    }

    #[test]
    fn a_word_is_what_was_packed() {
        for kind in Overdue::ALL {
            assert_eq!(unpack(pack(kind, 5)), Some((kind, 5)));
        }
        assert_eq!(unpack(0), None);
    }
}

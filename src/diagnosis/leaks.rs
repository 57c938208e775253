//! Leaks: a client has a server, and has run nothing on it for long.
//!
//! Mostly an application took a connection and an error path forgot to give it back, or it waits for something else in the
//! middle of a transaction. A session that is pinned holds its server likewise, and counts when it stays idle as long.
//! Nothing reads a clock for this in the path of a query: what a session does has a number that moves with each
//! request, so what is unchanged from one look to the next has lasted since.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::sql::Fingerprint;

/// A client that has a server, at the moment of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The client's number.
    pub client: u64,
    /// The pool that its server is of.
    pub pool: String,
    /// The user that it logged in as.
    pub user: String,
    /// What it called itself; empty if it did not.
    pub application: String,
    /// For how long it has had the server.
    pub held: Duration,
    /// Whether a statement runs.
    pub running: bool,
    /// Moves with each request.
    pub step: u32,
    /// Why it keeps the server between transactions, if it does.
    pub pinned_by: Option<String>,
    /// The statement that came last.
    pub last: Option<Fingerprint>,
}

/// A server that is held and not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leak {
    /// Who holds it.
    pub holder: Holder,
    /// For how long no statement has run on it, at least.
    pub idle: Duration,
}

/// The looks so far.
#[derive(Debug, Default)]
pub struct Leaks {
    seen: HashMap<u64, Seen>,
}

#[derive(Debug)]
struct Seen {
    step: u32,
    since: Instant,
    told: bool,
}

impl Leaks {
    /// Looks at all who have a server. Returns those who have been idle for `threshold` or longer, the longest first, each with
    /// whether this is the first look that says so.
    pub fn look(
        &mut self,
        holders: Vec<Holder>,
        threshold: Duration,
        now: Instant,
    ) -> Vec<(Leak, bool)> {
        let mut before = std::mem::take(&mut self.seen);
        let mut leaks = Vec::new();
        for holder in holders.into_iter().filter(|holder| !holder.running) {
            let known = before
                .remove(&holder.client)
                .filter(|seen| seen.step == holder.step);
            let mut seen = known.unwrap_or(Seen {
                step: holder.step,
                since: now,
                told: false,
            });
            let idle = now.saturating_duration_since(seen.since).min(holder.held);
            let client = holder.client;
            if idle >= threshold {
                leaks.push((Leak { holder, idle }, !seen.told));
                seen.told = true;
            }
            self.seen.insert(client, seen);
        }
        leaks.sort_by_key(|(leak, _)| std::cmp::Reverse(leak.idle));
        leaks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THRESHOLD: Duration = Duration::from_secs(60);

    fn holder(client: u64, step: u32, running: bool) -> Holder {
        Holder {
            client,
            pool: "app@db:5432/shop".to_owned(),
            user: "app".to_owned(),
            application: String::new(),
            held: Duration::from_secs(3_600),
            running,
            step,
            pinned_by: None,
            last: None,
        }
    }

    fn clients(leaks: &[(Leak, bool)]) -> Vec<(u64, bool)> {
        leaks
            .iter()
            .map(|(leak, new)| (leak.holder.client, *new))
            .collect()
    }

    #[test]
    fn who_is_idle_for_long_is_told_of_once() {
        let (mut leaks, begin) = (Leaks::default(), Instant::now());
        let mut at = |seconds, holders| {
            clients(&leaks.look(holders, THRESHOLD, begin + Duration::from_secs(seconds)))
        };
        let (idle, busy) = (holder(1, 5, false), holder(2, 9, true));
        assert_eq!(at(0, vec![idle.clone(), busy.clone()]), []);
        assert_eq!(at(59, vec![idle.clone(), busy.clone()]), []);
        assert_eq!(at(60, vec![idle.clone(), busy.clone()]), [(1, true)]);
        assert_eq!(at(61, vec![idle, busy]), [(1, false)]);
    }

    #[test]
    fn what_runs_or_ran_since_begins_anew() {
        let (mut leaks, begin) = (Leaks::default(), Instant::now());
        let mut at = |seconds, holder| {
            clients(&leaks.look(
                vec![holder],
                THRESHOLD,
                begin + Duration::from_secs(seconds),
            ))
        };
        assert_eq!(at(0, holder(1, 5, false)), []);
        assert_eq!(
            at(50, holder(1, 6, false)),
            [],
            "it has asked for something"
        );
        assert_eq!(at(100, holder(1, 6, false)), []);
        assert_eq!(at(105, holder(1, 6, true)), [], "a statement runs");
        assert_eq!(at(130, holder(1, 6, false)), []);
        assert_eq!(at(190, holder(1, 6, false)), [(1, true)]);
    }

    #[test]
    fn a_server_is_not_idle_for_longer_than_it_is_held() {
        let (mut leaks, begin) = (Leaks::default(), Instant::now());
        leaks.look(vec![holder(1, 5, false)], THRESHOLD, begin);
        let mut fresh = holder(1, 5, false);
        fresh.held = Duration::from_secs(3);
        let later = begin + Duration::from_secs(100);
        assert_eq!(leaks.look(vec![fresh], THRESHOLD, later), []);
    }

    #[test]
    fn who_left_is_forgotten() {
        let (mut leaks, begin) = (Leaks::default(), Instant::now());
        leaks.look(vec![holder(1, 5, false)], THRESHOLD, begin);
        leaks.look(Vec::new(), THRESHOLD, begin);
        assert!(leaks.seen.is_empty());
    }
}

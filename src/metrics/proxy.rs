//! The figures of the client side, over all pools.

use super::count::Count;
use super::families as f;
use super::labels::{AuthFailure, Limit, LoginOutcome};
use super::scrape::Scrape;
use super::sqlstate;
use crate::error::Class;

/// The label `class` of errors that PostgreSQL sent and that were passed on; the others are [`Class`]es.
const QUERY: &str = "query";

/// One count for each SQLSTATE class.
type BySqlstate = [Count; sqlstate::COUNT];

/// The figures of the client side. All counts are there from the start; recording is an atomic addition.
#[derive(Debug)]
pub struct ProxyMetrics {
    client_received: Count,
    client_sent: Count,
    server_received: Count,
    server_sent: Count,
    logins: [Count; LoginOutcome::COUNT],
    auth_failures: [Count; AuthFailure::COUNT],
    limits: [Count; Limit::COUNT],
    own_errors: [BySqlstate; Class::ALL.len()],
    query_errors: BySqlstate,
}

impl ProxyMetrics {
    pub(super) fn new() -> Self {
        Self {
            client_received: Count::default(),
            client_sent: Count::default(),
            server_received: Count::default(),
            server_sent: Count::default(),
            logins: Default::default(),
            auth_failures: Default::default(),
            limits: Default::default(),
            own_errors: Class::ALL.map(|_| zeros()),
            query_errors: zeros(),
        }
    }

    /// `n` bytes came from a client.
    pub fn bytes_received_from_client(&self, n: usize) {
        self.client_received.add(n as u64);
    }

    /// `n` bytes went to a client.
    pub fn bytes_sent_to_client(&self, n: usize) {
        self.client_sent.add(n as u64);
    }

    /// `n` bytes came from a server.
    pub fn bytes_received_from_server(&self, n: usize) {
        self.server_received.add(n as u64);
    }

    /// `n` bytes went to a server.
    pub fn bytes_sent_to_server(&self, n: usize) {
        self.server_sent.add(n as u64);
    }

    /// A login ended.
    pub fn login(&self, outcome: LoginOutcome) {
        self.logins[outcome as usize].inc();
    }

    /// A client did not prove who it is.
    pub fn authentication_failed(&self, reason: AuthFailure) {
        self.auth_failures[reason as usize].inc();
    }

    /// A client was told an error of ours.
    pub fn error(&self, class: Class, sqlstate: &str) {
        self.own_errors[class as usize][sqlstate::index(sqlstate)].inc();
    }

    /// An error that PostgreSQL sent was passed on to a client. `sqlstate` may be any text.
    pub fn query_error(&self, sqlstate: &str) {
        self.query_errors[sqlstate::index(sqlstate)].inc();
    }

    /// A limit of ours turned something away.
    pub fn limit_rejected(&self, limit: Limit) {
        self.limits[limit as usize].inc();
    }

    pub(super) fn collect(&self, out: &mut Scrape) {
        for (side, direction, count) in [
            ("client", "received", &self.client_received),
            ("client", "sent", &self.client_sent),
            ("server", "received", &self.server_received),
            ("server", "sent", &self.server_sent),
        ] {
            out.counter(&f::BYTES, &[side, direction], count.get());
        }
        for outcome in LoginOutcome::ALL {
            let count = self.logins[outcome as usize].get();
            out.counter(&f::LOGINS, &[outcome.label()], count);
        }
        for reason in AuthFailure::ALL {
            let count = self.auth_failures[reason as usize].get();
            out.counter(&f::AUTHENTICATION_FAILURES, &[reason.label()], count);
        }
        for limit in Limit::ALL {
            let count = self.limits[limit as usize].get();
            out.counter(&f::LIMIT_REJECTIONS, &[limit.label()], count);
        }
        self.collect_errors(out);
    }

    /// Every SQLSTATE class of queries is exported from the start. Of our own errors, those with their class's usual
    /// SQLSTATE are; the hundreds of other pairs, which hardly ever occur, appear with their first error.
    fn collect_errors(&self, out: &mut Scrape) {
        for (index, count) in self.query_errors.iter().enumerate() {
            out.counter(&f::ERRORS, &[QUERY, sqlstate::label(index)], count.get());
        }
        for class in Class::ALL {
            let usual = sqlstate::index(class.sqlstate());
            for (index, count) in self.own_errors[class as usize].iter().enumerate() {
                if index == usual || count.get() > 0 {
                    let labels = [class.label(), sqlstate::label(index)];
                    out.counter(&f::ERRORS, &labels, count.get());
                }
            }
        }
    }
}

/// `Default` exists for arrays of up to 32 only.
fn zeros() -> BySqlstate {
    std::array::from_fn(|_| Count::default())
}

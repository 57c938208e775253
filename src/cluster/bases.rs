//! The parameter sets of one pool's clients: made once each, renewed when PostgreSQL's defaults turn out to have changed.
//!
//! Most logins of an application ask for the same, so what the first was told is remembered for the others. It is true as
//! long as new servers begin as that one did. After `ALTER ROLE … SET`, a restart or a failover they do not: whatever was
//! remembered before the pool was invalidated, or before a server was opened that reports other values, is forgotten.
//! Clients that are logged in keep what they were told, as on a direct connection.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::base::{Base, Values};
use crate::backend::{Lease, Parameters};

/// Distinct parameter sets that are remembered. An application has a handful; beyond this they are worked out again.
const SETS: usize = 1_000;

/// What a client asked for: names and values in its order.
pub(super) type Requested = Vec<(String, String)>;

/// The sets of one pool.
#[derive(Debug, Default)]
pub(super) struct Bases(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    /// The pool's generation that the rest was learned in.
    generation: u64,
    /// What a server reports that was opened just now; the newest one counts.
    defaults: Option<Arc<Parameters>>,
    by_request: HashMap<Requested, Arc<Base>>,
    /// Sets that clients came to by setting parameters, by the login they had and the values.
    by_values: HashMap<(u64, Values), Arc<Base>>,
}

impl Table {
    fn renew(&mut self, generation: u64) {
        if self.generation != generation {
            *self = Table {
                generation,
                ..Table::default()
            };
        }
    }
}

impl Bases {
    /// The set for this request, if one is known that is not out of date.
    pub(super) fn known(&self, requested: &Requested, generation: u64) -> Option<Arc<Base>> {
        let mut table = self.0.lock();
        table.renew(generation);
        table.by_request.get(requested).cloned()
    }

    /// Remembers a set, unless what it was made of is out of date by now.
    pub(super) fn remember(&self, requested: Requested, base: &Arc<Base>, generation: u64) {
        let mut table = self.0.lock();
        if table.generation != generation {
            return;
        }
        if table.by_request.len() >= SETS {
            table.by_request.clear();
        }
        table.by_request.insert(requested, base.clone());
    }

    /// The set of a client that had `base` and whose server reports these values now. Clients that set the same share one,
    /// so that a server which goes from one to the other need not be compared.
    pub(super) fn changed(&self, base: &Arc<Base>, now: &Parameters) -> Option<Arc<Base>> {
        let mut table = self.0.lock();
        let changed = base.changed(now, |login, values| {
            table.by_values.get(&(login, values.clone())).cloned()
        })?;
        let login = changed.login();
        if !Arc::ptr_eq(login, &changed) {
            if table.by_values.len() >= SETS {
                table.by_values.clear();
            }
            let key = (login.id(), changed.tracked().clone());
            table.by_values.insert(key, changed.clone());
        }
        Some(changed)
    }

    /// What a server reports at its start now, as far as is known; else what this one did.
    pub(super) fn defaults(&self, initial: &Parameters) -> Arc<Parameters> {
        let mut table = self.0.lock();
        table
            .defaults
            .get_or_insert_with(|| Arc::new(initial.clone()))
            .clone()
    }

    /// Takes notice of a server that goes to a client with this set: of a new one, whether it begins as was thought; of
    /// any, whether it is what the set says of it. A standby that was promoted, say, is not.
    pub(super) fn look(&self, lease: &Lease, base: Option<&Base>) {
        let server = lease.server_ref();
        if lease.fresh() {
            let mut table = self.0.lock();
            let initial = server.initial_parameters();
            if table.defaults.as_deref() != Some(initial) {
                table.defaults = Some(Arc::new(initial.clone()));
                table.by_request.clear();
            }
        }
        if base.is_some_and(|base| !base.describes(server)) {
            self.0.lock().by_request.clear();
        }
    }
}

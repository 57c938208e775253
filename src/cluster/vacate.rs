//! Keeping a database free of our own servers for a moment, for a command that PostgreSQL runs only then.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::{Cluster, PoolHandle};
use crate::tasks::Tasks;

/// At most so long: PostgreSQL itself waits five seconds for others to leave, and no longer.
const LIMIT: Duration = Duration::from_secs(5);

/// Between two looks for servers that came back meanwhile.
const PAUSE: Duration = Duration::from_millis(20);

/// A database that is kept free; dropping this ends it, and so does time.
#[derive(Debug)]
pub struct Vacated(Arc<AtomicBool>);

impl Drop for Vacated {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Cluster {
    /// Closes the idle servers of this database in all pools and opens no more, until what is returned is dropped or five
    /// seconds have passed. Clients that ask meanwhile wait; servers in use are closed when they come back.
    #[must_use = "the servers are back when it is dropped"]
    pub fn vacate(&self, database: &str, tasks: &Tasks) -> Vacated {
        let over = Arc::new(AtomicBool::new(false));
        let mut vacating = Vacating {
            cluster: self.clone(),
            database: database.to_owned(),
            pools: Vec::new(),
        };
        // The first time before the command is sent.
        vacating.look();
        let until = over.clone();
        tasks.spawn("vacated database", async move {
            let deadline = Instant::now() + LIMIT;
            while !until.load(Ordering::Relaxed) && Instant::now() < deadline {
                tokio::time::sleep(PAUSE).await;
                vacating.look();
            }
        });
        Vacated(over)
    }
}

/// The pools that hold back; dropped, they go on.
#[derive(Debug)]
struct Vacating {
    cluster: Cluster,
    database: String,
    pools: Vec<Arc<PoolHandle>>,
}

impl Vacating {
    /// Pauses pools that were not there before, and closes what is idle by now.
    fn look(&mut self) {
        for pool in self.cluster.pools() {
            let known = self.pools.iter().any(|held| Arc::ptr_eq(held, &pool));
            if pool.target().database == self.database && !known {
                pool.hold();
                self.pools.push(pool);
            }
        }
        for pool in &self.pools {
            pool.pool.close_idle();
        }
        self.cluster.close_own_idle(&self.database);
    }
}

impl Drop for Vacating {
    fn drop(&mut self) {
        for pool in &self.pools {
            pool.release();
        }
    }
}

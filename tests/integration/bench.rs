//! A pool of one connection in front of a database of the test's own, and clients on both sides of it.

use std::net::SocketAddr;
use std::time::Duration;

use crate::support::raw::{Raw, close, ends, prepare, seen, tags, use_of};
use crate::support::{Database, Postgres, Sidecar, eventually};

const LIMIT: Duration = Duration::from_secs(30);
/// Settings of a pool that has one connection at most.
pub(crate) const ONE: [(&str, &str); 2] = [
    ("POOLWATCH_POOL__SIZE", "1"),
    ("POOLWATCH_POOL__MAX_OVERFLOW", "0"),
];

/// A database, and a pool of one connection in front of it.
pub(crate) struct Bench {
    pub(crate) database: Database,
    /// Equal to the other one, for the side of a comparison without the pool.
    pub(crate) twin: Database,
    pub(crate) sidecar: Sidecar,
    direct: SocketAddr,
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        let server = Postgres::shared().await;
        let database = server.database().await;
        let mut environment = ONE.to_vec();
        environment.extend_from_slice(settings);
        let sidecar = Sidecar::start_with(&database, &database.url, &[], &environment).await;
        Self {
            twin: server.database().await,
            database,
            sidecar,
            direct: SocketAddr::from(([127, 0, 0, 1], server.port())),
        }
    }

    /// In front of something that is not PostgreSQL.
    pub(crate) fn of(database: Database, sidecar: Sidecar, direct: SocketAddr) -> Self {
        Self {
            twin: database.clone(),
            database,
            sidecar,
            direct,
        }
    }

    /// A client straight to PostgreSQL.
    pub(crate) async fn direct(&self) -> Raw {
        Raw::login(self.direct, &self.database.name).await
    }

    pub(crate) fn direct_address(&self) -> SocketAddr {
        self.direct
    }

    /// A client through the pool.
    pub(crate) async fn pooled(&self) -> Raw {
        Raw::login(self.sidecar.proxy_addr(), &self.database.name).await
    }

    pub(crate) async fn pooled_with(&self, parameters: &[(&str, &str)]) -> Raw {
        Raw::login_with(self.sidecar.proxy_addr(), &self.database.name, parameters).await
    }

    /// Servers in clients' hands, as the API says.
    pub(crate) async fn in_use(&self) -> u64 {
        let (status, body) = self.sidecar.get("/api/v1/pools").await;
        assert_eq!(status, 200, "{body}");
        let value: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        let pools = value["pools"].as_array().expect("pools");
        let sum = |key: &str| -> u64 { pools.iter().filter_map(|pool| pool[key].as_u64()).sum() };
        sum("in_use") + sum("permits_in_use") + sum("connecting")
    }

    /// Waits until every server was given back.
    pub(crate) async fn settled(&self) {
        eventually(LIMIT, || async {
            match self.in_use().await {
                0 => Ok(()),
                count => Err(format!("{count} in use")),
            }
        })
        .await;
    }

    pub(crate) async fn pinned(&self) -> f64 {
        self.sidecar
            .scrape()
            .await
            .sum("poolwatch_pinned_sessions", &[])
    }

    /// Runs the same batches on a direct connection and through the pool, where another client uses statements of its own
    /// before each batch. Every answer must be the same.
    pub(crate) async fn same_as_direct(&self, batches: &[Vec<u8>]) {
        let mut direct = Raw::login(self.direct, &self.twin.name).await;
        let (mut one, mut other) = (self.pooled().await, self.pooled().await);
        let mut in_transaction = false;
        for (at, batch) in batches.iter().enumerate() {
            if !in_transaction {
                intrude(&mut other, at).await;
            }
            let (mut expected, mut answer) = (direct.ask(batch).await, one.ask(batch).await);
            for _ in 1..ends(batch) {
                expected.extend(direct.until('Z').await);
                answer.extend(one.until('Z').await);
            }
            assert_eq!(seen(&answer), seen(&expected), "batch {at}");
            in_transaction = answer.last().expect("ReadyForQuery").body != b"I";
        }
        assert_eq!(self.pinned().await, 0.0, "nothing of this keeps a server");
    }
}

/// Gives a name that others use another meaning, and uses it.
async fn intrude(client: &mut Raw, number: usize) {
    let name = ["a", "b", "c"][number % 3];
    let text = format!("SELECT 'other {number}'");
    let anew = [close(b'S', name), prepare(name, &text)].concat();
    assert_eq!(tags(&client.ask(&anew).await), "31Z");
    let answer = client.ask(&use_of(name, &[])).await;
    assert_eq!(answer[1].row(), [format!("other {number}")]);
}

//! Whether PostgreSQL can be reached as the settings say, host by host, and what is wrong if not: `config check --connect`.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::direct::connection;
use crate::control::{Config, Control, Limits, Session, Trouble, said};
use crate::dsn::{Dsn, HostPort};
use crate::pool::Unobserved;

/// One row. `numbackends` is shown to everybody, where `pg_stat_activity` hides what others are.
const LOOK: &str = "\
SELECT pg_catalog.pg_is_in_recovery(),
       (SELECT sum(numbackends) FROM pg_catalog.pg_stat_database)::int,
       (SELECT version FROM pg_catalog.pg_stat_ssl WHERE pid = pg_catalog.pg_backend_pid())";

/// What a host answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Answer {
    /// `server_version`.
    pub version: String,
    /// A standby: it takes no writes.
    pub in_recovery: bool,
    /// `max_connections`.
    pub max_connections: u32,
    /// Of these, connections that are kept from applications.
    pub reserved: u32,
    /// Connections that are open now, ours among them.
    pub connections: i32,
    /// The TLS protocol of our connection, as PostgreSQL names it; none without TLS.
    pub tls: Option<String>,
}

/// A host, and what came of connecting to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Tried {
    /// The host as the URL has it.
    pub host: String,
    /// The database that was asked for.
    pub database: String,
    /// As whom.
    pub user: String,
    /// What it said of itself.
    pub answer: Option<Answer>,
    /// What is wrong, in a sentence.
    pub problem: Option<String>,
}

/// Tries each host of the URL by itself, in order. The first that answers is the one that the pool would use.
pub(super) async fn try_hosts(dsn: &Dsn, limit: Duration) -> Vec<Tried> {
    let mut tried = Vec::with_capacity(dsn.hosts.len());
    let mut used = false;
    for host in &dsn.hosts {
        let mut one = try_host(dsn, host, limit).await;
        if let Some(answer) = &one.answer {
            if answer.in_recovery && !used {
                one.problem = Some(format!(
                    "{} is in recovery (a standby): it takes no writes, name its primary first",
                    one.host
                ));
            }
            used = true;
        }
        tried.push(one);
    }
    tried
}

async fn try_host(dsn: &Dsn, host: &HostPort, limit: Duration) -> Tried {
    let mut one = dsn.clone();
    one.hosts = vec![host.clone()];
    let mut tried = Tried {
        host: host.to_string(),
        database: String::new(),
        user: String::new(),
        answer: None,
        problem: None,
    };
    match connection(&one, limit) {
        Ok(config) => {
            tried.database.clone_from(&config.database);
            tried.user.clone_from(&config.user);
            match ask(config).await {
                Ok(answer) => tried.answer = Some(answer),
                Err(problem) => tried.problem = Some(problem),
            }
        }
        Err(error) => tried.problem = Some(crate::error::chain(&error)),
    }
    tried
}

async fn ask(config: Config) -> Result<Answer, String> {
    let control = Control::new(config, Arc::new(Unobserved)).map_err(|error| error.to_string())?;
    let config = control.config();
    let session = control
        .session()
        .await
        .map_err(|error| Trouble::of(&error, config).to_string())?;
    let limit = config.connect_timeout;
    match tokio::time::timeout(limit, look(&session)).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!(
            "{} was reached and answers a question about itself with an error: {}",
            control.host(),
            said(&error)
        )),
        Err(_) => Err(format!(
            "{} was reached and has not answered a question about itself within {limit:?}",
            control.host()
        )),
    }
}

async fn look(session: &Session) -> Result<Answer, tokio_postgres::Error> {
    let limits = Limits::ask(session).await?;
    let row = session.query_one(LOOK, &[]).await?;
    Ok(Answer {
        version: limits.version,
        in_recovery: row.try_get(0)?,
        max_connections: limits.max_connections,
        reserved: limits.reserved,
        connections: row.try_get(1)?,
        tls: row.try_get(2)?,
    })
}

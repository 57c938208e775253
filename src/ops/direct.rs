//! Straight to PostgreSQL, for commands that hold one session: how to connect, and waiting for a server that starts.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::app::operating_system_user;
use crate::control::{Config, Control, Session, Trouble};
use crate::dsn::Dsn;
use crate::pool::Unobserved;
use crate::tls::{ClientTls, TlsError, TlsFiles};

/// Between two attempts to connect to a server that is not there yet.
const RETRY: Duration = Duration::from_millis(250);

/// How to connect to the URL's hosts, within `limit` or the URL's own limit where that is shorter.
pub(super) fn connection(dsn: &Dsn, limit: Duration) -> Result<Config, TlsError> {
    let user = dsn.user.clone().unwrap_or_else(operating_system_user);
    Ok(Config {
        hosts: dsn.hosts.clone(),
        database: dsn.database.clone().unwrap_or_else(|| user.clone()),
        user,
        password: dsn.password.clone(),
        tls: ClientTls::new(dsn.ssl_mode, &TlsFiles::from(dsn))?,
        connect_timeout: dsn.connect_timeout.map_or(limit, |own| own.min(limit)),
    })
}

/// A session of its own, waited for as `pg_isready` would.
pub(super) async fn reach(
    config: Config,
    wait: Duration,
    told: &mut dyn Write,
) -> anyhow::Result<Session> {
    let control = Control::new(config, Arc::new(Unobserved))?;
    let began = Instant::now();
    let mut first = true;
    loop {
        let trouble = match control.session().await {
            Ok(session) => return Ok(session),
            Err(error) => Trouble::of(&error, control.config()),
        };
        let waited = began.elapsed();
        if !trouble.may_pass() || waited >= wait {
            return Err(trouble.into());
        }
        if first {
            writeln!(told, "waiting for PostgreSQL, {wait:?} at most: {trouble}")?;
            first = false;
        }
        tokio::time::sleep(RETRY.min(wait - waited)).await;
    }
}

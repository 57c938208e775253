//! Where a server connection goes, and as whom.

use std::time::Duration;

use crate::dsn::HostPort;
use crate::secret::Secret;
use crate::tls::{ClientTls, Keepalive};

/// Everything needed to open a server connection.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where PostgreSQL listens.
    pub host: HostPort,
    /// The role to log in as.
    pub user: String,
    /// Its password, if one may be asked for.
    pub password: Option<Secret>,
    /// The database.
    pub database: String,
    /// How to encrypt; without meaning on a Unix socket, as in libpq.
    pub tls: ClientTls,
    /// Limit for the whole of it: resolving, connecting, TLS, login, until the first ReadyForQuery.
    pub connect_timeout: Duration,
    /// When the kernel asks whether a silent server is still there.
    pub keepalive: Keepalive,
    /// Further startup parameters, in order (`application_name`, `client_encoding`, `options` …).
    pub startup: Vec<(String, String)>,
}

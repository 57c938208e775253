//! Where servers are and how to log in there; and the key to one that runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::credentials::Credentials;
use super::error::{ConnectError, Phase};
use super::transport::Route;
use crate::dsn::HostPort;
use crate::pgwire::{CancelKey, MINOR};
use crate::tls::ClientTls;

/// Everything that opening a connection takes.
#[derive(Debug, Clone)]
pub struct Target {
    /// The hosts, tried in order.
    pub hosts: Vec<HostPort>,
    /// The user to log in as.
    pub user: String,
    /// What it is logged in with.
    pub credentials: Credentials,
    /// The database.
    pub database: String,
    /// How TLS is asked for.
    pub tls: ClientTls,
    /// For the whole of it: name, connection, TLS, login.
    pub connect_timeout: Duration,
    /// Further parameters of the startup packet.
    pub startup: Vec<(String, String)>,
    /// Which protocol to ask for.
    pub protocol: Protocol,
}

/// What is known of the protocol that the hosts speak. Clones share it: what one login finds out, the next one knows.
#[derive(Debug, Clone, Default)]
pub struct Protocol {
    /// Somebody refused 3.2 and took 3.0. PostgreSQL itself answers with what it speaks; old poolers hang up.
    only_3_0: Arc<AtomicBool>,
}

impl Protocol {
    /// The minor version to ask for first.
    pub(super) fn minor(&self) -> u16 {
        match self.only_3_0.load(Ordering::Relaxed) {
            true => 0,
            false => MINOR,
        }
    }

    pub(super) fn settle_for_3_0(&self) {
        self.only_3_0.store(true, Ordering::Relaxed);
    }
}

impl Target {
    /// The first host, for labels and logs.
    pub fn host(&self) -> &HostPort {
        &self.hosts[0]
    }
}

/// The longest that one cancel request may take: it is of use only soon.
pub(super) const CANCEL_LIMIT: Duration = Duration::from_secs(10);

/// The key to cancel what one server runs, and the way to the very address it runs at.
#[derive(Debug, Clone)]
pub struct CancelToken {
    pub(super) route: Route,
    pub(super) limit: Duration,
    pub(super) key: CancelKey,
}

impl CancelToken {
    /// Asks the host to cancel, and waits until it has closed the connection: then the signal was sent.
    ///
    /// # Errors
    /// The connection could not be made within the connect timeout. A server that closes without a word is no error.
    pub async fn send(&self) -> Result<(), ConnectError> {
        let sent = tokio::time::timeout(self.limit, Box::pin(self.send_unbounded())).await;
        sent.unwrap_or(Err(ConnectError::Timeout {
            phase: Phase::Cancel,
            limit: self.limit,
        }))
    }

    async fn send_unbounded(&self) -> Result<(), ConnectError> {
        let mut stream = self.route.open(&mut Phase::Connect).await?;
        let secret = &self.key.secret;
        let length = u32::try_from(12 + secret.len()).unwrap_or(u32::MAX);
        let mut request = Vec::with_capacity(16);
        request.extend_from_slice(&length.to_be_bytes());
        request.extend_from_slice(&(1234_u32 << 16 | 5678).to_be_bytes());
        request.extend_from_slice(&self.key.process_id.to_be_bytes());
        request.extend_from_slice(secret);
        let io = |source| ConnectError::Io {
            phase: Phase::Cancel,
            source,
        };
        stream.write_all(&request).await.map_err(io)?;
        stream.flush().await.map_err(io)?;
        // Whatever comes, only the end of it matters.
        let mut rest = [0; 64];
        while matches!(stream.read(&mut rest).await, Ok(1..)) {}
        Ok(())
    }
}

//! Cancelling a query: a connection of its own, one message, no answer.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::{self, Link};
use super::error::ConnectError;
use crate::dsn::HostPort;
use crate::pgwire::frontend;
use crate::tls::{ClientTls, Encryption, Keepalive};

/// The way to one particular backend: the very address that the connection went to, since a name may have several.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) host: HostPort,
    pub(super) peer: Peer,
    pub(super) tls: ClientTls,
    /// Whether the connection to be cancelled is encrypted; the request is then too.
    pub(super) encryption: Encryption,
    pub(super) keepalive: Keepalive,
}

/// An address that was connected to.
#[derive(Debug, Clone)]
pub(super) enum Peer {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why a cancel request did not reach the server.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The server gave no key at the login, so nothing can be cancelled.
    #[error("the server gave no cancel key")]
    NoKey,
    /// No connection for the request.
    #[error("could not connect to cancel")]
    Connect(#[from] ConnectError),
    /// The request could not be sent.
    #[error("could not send the cancel request")]
    Send(#[source] io::Error),
    /// The limit ran out.
    #[error("the cancel request was not taken within {after:?}")]
    Timeout {
        /// The limit.
        after: Duration,
    },
}

/// What it takes to cancel what a server is doing. Outlives the connection; cancelling then does nothing.
#[derive(Clone)]
pub struct CancelToken {
    route: Arc<Route>,
    process_id: i32,
    key: Box<[u8]>,
}

impl CancelToken {
    pub(super) fn new(route: Arc<Route>, process_id: i32, key: Box<[u8]>) -> Self {
        Self {
            route,
            process_id,
            key,
        }
    }

    /// Sends the request over a connection of its own, encrypted as the one it is about, and waits for the server to close
    /// it: then the signal is on its way. Whether a query was cancelled shows only in that query's answer.
    pub async fn send(self, limit: Duration) -> Result<(), CancelError> {
        if self.key.is_empty() {
            return Err(CancelError::NoKey);
        }
        match tokio::time::timeout(limit, Box::pin(self.deliver())).await {
            Ok(delivered) => delivered,
            Err(_) => Err(CancelError::Timeout { after: limit }),
        }
    }

    async fn deliver(&self) -> Result<(), CancelError> {
        let route = &*self.route;
        let link = Link {
            host: &route.host,
            tls: &route.tls,
            keepalive: route.keepalive,
        };
        let mut phase = super::error::Phase::Connect;
        let socket = connect::open_peer(&link, &route.peer).await?;
        let mut stream = connect::encrypt(&link, socket, route.encryption, &mut phase).await?;
        let request = frontend::cancel_request(self.process_id, &self.key);
        let sent = async {
            stream.write_all(&request).await?;
            stream.flush().await
        };
        sent.await.map_err(CancelError::Send)?;
        // Nothing is ever answered; an error here (a reset, TLS cut short) is an end as good as any.
        let mut rest = [0; 64];
        while matches!(stream.read(&mut rest).await, Ok(read) if read > 0) {}
        Ok(())
    }
}

impl std::fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelToken")
            .field("host", &self.route.host)
            .field("process_id", &self.process_id)
            .finish_non_exhaustive()
    }
}

//! The pool's view of server connections.

use super::error::ServerError;
use super::server::{Server, TxStatus};
use super::target::Target;

/// The query of a ping: no statement at all, so it needs no snapshot and counts nowhere.
const PING: &str = ";";

/// Opens, pings and judges the servers of one pool.
#[derive(Debug, Clone)]
pub struct ServerManager {
    target: Target,
}

impl ServerManager {
    /// A manager for servers of this target.
    pub fn new(target: Target) -> Self {
        Self { target }
    }

    /// Where the servers are.
    pub fn target(&self) -> &Target {
        &self.target
    }
}

impl bb8::ManageConnection for ServerManager {
    type Connection = Server;
    type Error = ServerError;

    async fn connect(&self) -> Result<Server, ServerError> {
        // Boxed: the login's state is large, and is needed for a moment only.
        Ok(Box::pin(Server::connect(&self.target)).await?)
    }

    async fn is_valid(&self, server: &mut Server) -> Result<(), ServerError> {
        match server.simple_query(PING).await {
            Ok(reply) if reply.empty => Ok(()),
            Ok(_) => Err(ServerError::OddPing),
            Err(error) => Err(error.into()),
        }
    }

    /// Without waiting: is anything outstanding, is a transaction open, has the server hung up?
    fn has_broken(&self, server: &mut Server) -> bool {
        server.is_busy() || server.status() != TxStatus::Idle || server.look().is_err()
    }
}

//! Servers as a bb8 pool keeps them.

use super::error::ServerError;
use super::server::Server;
use super::target::Target;

/// Opens and checks servers for a pool.
#[derive(Debug, Clone)]
pub struct ServerManager {
    target: Target,
}

impl ServerManager {
    /// Servers at this target.
    pub fn new(target: Target) -> Self {
        Self { target }
    }
}

impl bb8::ManageConnection for ServerManager {
    type Connection = Server;
    type Error = ServerError;

    async fn connect(&self) -> Result<Server, ServerError> {
        Ok(Server::connect(&self.target).await?)
    }

    /// The ping: an empty statement, which PostgreSQL answers without a snapshot, a plan or a line in its log.
    async fn is_valid(&self, server: &mut Server) -> Result<(), ServerError> {
        Ok(server.simple_query(";").await?)
    }

    fn has_broken(&self, server: &mut Server) -> bool {
        !server.is_reusable() || server.look().is_err() || server.has_unread()
    }
}

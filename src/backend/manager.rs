//! Servers as a bb8 pool keeps them.

use super::error::ServerError;
use super::roster::Roster;
use super::server::Server;
use super::target::Target;

/// Opens and checks servers for a pool.
#[derive(Debug, Clone)]
pub struct ServerManager {
    target: Target,
    roster: Roster,
}

impl ServerManager {
    /// Servers at this target.
    pub fn new(target: Target) -> Self {
        Self::listing(target, Roster::default())
    }

    /// Servers at this target, which are in this list while they live.
    pub fn listing(target: Target, roster: Roster) -> Self {
        Self { target, roster }
    }
}

impl bb8::ManageConnection for ServerManager {
    type Connection = Server;
    type Error = ServerError;

    async fn connect(&self) -> Result<Server, ServerError> {
        let round = self.roster.round();
        let mut server = Server::connect(&self.target).await?;
        server.list_in(&self.roster, round);
        Ok(server)
    }

    /// The ping: an empty statement, which PostgreSQL answers without a snapshot, a plan or a line in its log.
    async fn is_valid(&self, server: &mut Server) -> Result<(), ServerError> {
        Ok(server.simple_query(";").await?)
    }

    fn has_broken(&self, server: &mut Server) -> bool {
        !server.is_reusable() || server.look().is_err() || server.has_unread()
    }
}

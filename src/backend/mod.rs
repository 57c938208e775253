//! The server side: raw connections to PostgreSQL.
//!
//! [`Server`] is one connection, [`connect`](Server::connect) opens it, [`ServerManager`] lets a pool keep it, [`Lease`]
//! is what a session holds while it uses it, [`Cancels`] is how what it runs is cancelled.

mod authenticate;
mod cancels;
mod connect;
mod copies;
mod credentials;
mod error;
mod lease;
mod manager;
mod parameters;
mod query;
mod reset;
mod roster;
mod server;
mod statement;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod transport;

pub use cancels::{Aim, Cancels};
pub use copies::{Copies, Place};
pub use credentials::{Credential, Credentials};
pub use error::{ConnectError, HangUp, Phase, QueryError, ServerError};
pub use lease::{Lease, OpenTransaction, Remains, RestoreError};
pub use manager::ServerManager;
pub use parameters::Parameters;
pub use reset::Reset;
pub use roster::{Ids, Roster, ServerSnapshot};
pub use server::{Carried, Server, TxStatus};
pub use statement::{Statement, Statements, Variant};
pub use target::{CancelToken, Protocol, Target};

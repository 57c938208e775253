//! A raw connection to PostgreSQL: open it, log in, know its state, ask it small things, cancel, end it.
//!
//! Raw, because the bytes of clients pass through it as they came; what is decoded here is only what poolwatch itself
//! needs to know. A [`Server`] is the connection type of the pool, [`ServerManager`] its bb8 manager.
//!
//! - `target`: where to and as whom · `connect`: from nothing to ReadyForQuery · `auth`: the login
//! - `server`: the connection and its state · `look`: is it still there · `query`: small questions of our own
//! - `wire`: messages in and out · `parameters`: what the server reported · `cancel` · `manager` · `error`

mod auth;
mod cancel;
mod connect;
mod error;
mod look;
mod manager;
mod parameters;
mod query;
mod server;
mod target;
#[cfg(test)]
mod tests;
mod wire;

pub use cancel::{CancelError, CancelToken};
pub use error::{ConnectError, HangUp, Phase, ProtocolError, QueryError, ServerError};
pub use manager::ServerManager;
pub use parameters::Parameters;
pub use query::SimpleReply;
pub use server::{Server, TxStatus};
pub use target::Target;

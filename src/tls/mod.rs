//! Encryption on both sides: towards PostgreSQL with libpq's `sslmode` semantics, towards clients with a certificate of
//! the operator's or one made at start; and [`Stream`], the one socket type of the wire path.

mod certificate;
mod client;
mod error;
mod server;
mod stream;
mod verify;

pub use client::{ClientTls, Encryption};
pub use error::TlsError;
pub use server::ServerTls;
pub use stream::{Keepalive, Stream};

//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, both sides of it, without a socket: messages in, messages out.
//!
//! - [`Verifier`]: what is stored of a password, in PostgreSQL's form;
//! - [`ServerExchange`]: we check a client;
//! - [`ClientExchange`]: we log in to PostgreSQL, with a password or with the keys that a client's own proof revealed.
//!
//! Sources: RFC 5802, RFC 7677, RFC 5929 (`tls-server-end-point`), and PostgreSQL's `auth-scram.c` for everything that the
//! RFCs leave open.

mod attributes;
mod client;
mod keys;
mod server;
#[cfg(test)]
mod tests;
mod verifier;

pub use client::{ClientExchange, ClientProof, Expected, ServerFault};
pub use server::{Challenge, ClientFault, Proved, ServerExchange};
pub use verifier::{ITERATIONS, MalformedVerifier, ScramKeys, Verifier};

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism with channel binding.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// The GS2 header with the only channel binding that PostgreSQL knows.
const BOUND_HEADER: &str = "p=tls-server-end-point,,";

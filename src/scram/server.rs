//! We check a client: each step takes the state before it, so that none can be left out or done twice.

use std::sync::Arc;

use super::attributes::{are_extensions, decode_32, encode, is_nonce, nonce, take};
use super::keys::{hmac, xor};
use super::verifier::{ScramKeys, Verifier};
use super::{BOUND_HEADER, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use crate::secret::Key;

/// What is wrong with a client's login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientFault {
    /// It answered with a mechanism that was not offered.
    #[error("client selected an invalid SASL authentication mechanism")]
    Mechanism,
    /// A message that is none.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// A part of SCRAM that PostgreSQL does not do either.
    #[error("{0}")]
    Unsupported(&'static str),
    /// The client can bind the channel and was told that we cannot: somebody in between took the offer away.
    #[error(
        "SCRAM channel binding negotiation error: the client supports channel binding but thinks the server does not"
    )]
    Downgrade,
    /// The client saw another certificate than ours.
    #[error("SCRAM channel binding check failed")]
    Binding,
    /// The proof is wrong, or there is nothing to prove.
    #[error("the proof is wrong")]
    Proof,
}

/// Before the client's first message.
#[derive(Debug)]
pub struct ServerExchange {
    verifier: Verifier,
    end_point: Option<Arc<[u8]>>,
}

/// After it: waiting for the proof.
#[derive(Debug)]
pub struct Challenge {
    verifier: Verifier,
    /// What `c=` must say.
    binding: String,
    nonce: String,
    client_first_bare: String,
    server_first: String,
}

/// A client that has proved its password.
#[derive(Debug)]
pub struct Proved {
    /// The last message: our own proof that we know the verifier.
    pub message: String,
    /// What the proof revealed.
    pub keys: ScramKeys,
}

impl ServerExchange {
    /// Over TLS, with our certificate's `tls-server-end-point` where it has one: then the channel can be bound.
    pub fn new(verifier: Verifier, end_point: Option<Arc<[u8]>>) -> Self {
        Self {
            verifier,
            end_point,
        }
    }

    /// What is offered, best first.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        match self.end_point {
            Some(_) => &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256],
            None => &[SCRAM_SHA_256],
        }
    }

    /// Reads the client's first message; gives ours.
    ///
    /// # Errors
    /// See [`ClientFault`].
    pub fn begin(
        self,
        mechanism: &[u8],
        message: &[u8],
    ) -> Result<(Challenge, String), ClientFault> {
        self.begin_with(mechanism, message, &nonce())
    }

    pub(super) fn begin_with(
        self,
        mechanism: &[u8],
        message: &[u8],
        our_nonce: &str,
    ) -> Result<(Challenge, String), ClientFault> {
        let offered = self.mechanisms().iter();
        let bound = match offered.copied().find(|name| name.as_bytes() == mechanism) {
            Some(SCRAM_SHA_256_PLUS) => self.end_point.as_deref(),
            Some(_) => None,
            None => return Err(ClientFault::Mechanism),
        };
        let message =
            std::str::from_utf8(message).map_err(|_| ClientFault::Malformed("not UTF-8"))?;
        let header = gs2_header(message, bound.is_some(), self.end_point.is_some())?;
        let bare = &message[header.len()..];
        let client_nonce = client_nonce(bare)?;
        let nonce = format!("{client_nonce}{our_nonce}");
        let server_first = format!("r={nonce},{}", self.verifier.salt_and_iterations());
        let binding = [header.as_bytes(), bound.unwrap_or_default()].concat();
        let challenge = Challenge {
            binding: encode(&binding),
            nonce,
            client_first_bare: bare.to_owned(),
            server_first: server_first.clone(),
            verifier: self.verifier,
        };
        Ok((challenge, server_first))
    }
}

/// The GS2 header with both its commas, its flag checked against what was offered and chosen.
fn gs2_header(message: &str, bound: bool, offered: bool) -> Result<&str, ClientFault> {
    let (flag, rest) = message
        .split_once(',')
        .ok_or(ClientFault::Malformed("no channel binding flag"))?;
    match flag {
        "n" | "y" if bound => {
            return Err(ClientFault::Malformed(
                "SCRAM-SHA-256-PLUS was selected, but the message has no channel binding",
            ));
        }
        "y" if offered => return Err(ClientFault::Downgrade),
        "n" | "y" => {}
        _ => {
            if !flag.starts_with("p=") {
                return Err(ClientFault::Malformed("unknown channel binding flag"));
            }
            if !bound {
                return Err(ClientFault::Malformed(
                    "SCRAM-SHA-256 was selected without channel binding, but the message has it",
                ));
            }
            if flag != BOUND_HEADER.trim_end_matches(',') {
                return Err(ClientFault::Malformed("unsupported channel binding type"));
            }
        }
    }
    if rest.starts_with("a=") {
        return Err(ClientFault::Unsupported(
            "client uses authorization identity, but it is not supported",
        ));
    }
    if !rest.starts_with(',') {
        return Err(ClientFault::Malformed("no end of the GS2 header"));
    }
    Ok(&message[..flag.len() + 2])
}

fn client_nonce(mut bare: &str) -> Result<&str, ClientFault> {
    if bare.starts_with("m=") {
        return Err(ClientFault::Unsupported(
            "client requires an unsupported SCRAM extension",
        ));
    }
    // The name of the startup packet is what counts, as for PostgreSQL.
    take(&mut bare, 'n').ok_or(ClientFault::Malformed("no user name"))?;
    let nonce = take(&mut bare, 'r').ok_or(ClientFault::Malformed("no nonce"))?;
    if !is_nonce(nonce) || !are_extensions(bare) {
        return Err(ClientFault::Malformed("nonce or extensions"));
    }
    Ok(nonce)
}

impl Challenge {
    /// Reads the client's proof; gives ours, and what it revealed.
    ///
    /// # Errors
    /// See [`ClientFault`].
    pub fn finish(self, message: &[u8]) -> Result<Proved, ClientFault> {
        let message =
            std::str::from_utf8(message).map_err(|_| ClientFault::Malformed("not UTF-8"))?;
        let (without_proof, proof) = message
            .rsplit_once(",p=")
            .ok_or(ClientFault::Malformed("no proof"))?;
        let mut rest = without_proof;
        let binding = take(&mut rest, 'c').ok_or(ClientFault::Malformed("no channel binding"))?;
        if binding != self.binding {
            return Err(ClientFault::Binding);
        }
        let nonce = take(&mut rest, 'r').ok_or(ClientFault::Malformed("no nonce"))?;
        if nonce != self.nonce || !are_extensions(rest) {
            return Err(ClientFault::Malformed("another nonce, or extensions"));
        }
        let proof = decode_32(proof).ok_or(ClientFault::Malformed("the proof's length"))?;
        let signed = format!(
            "{},{},{without_proof}",
            self.client_first_bare, self.server_first
        );
        let verifier = self.verifier;
        let signature = hmac(verifier.stored_key.expose(), &[signed.as_bytes()]);
        let ours = hmac(verifier.server_key.expose(), &[signed.as_bytes()]);
        let client_key = Key::new(xor(&proof, &signature));
        let keys = verifier.accept(client_key).ok_or(ClientFault::Proof)?;
        Ok(Proved {
            message: format!("v={}", encode(&ours)),
            keys,
        })
    }
}

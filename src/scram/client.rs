//! We log in to PostgreSQL.

use super::attributes::{decode, decode_32, encode, nonce, take};
use super::keys::{client_key, hmac, salted_password, server_key, stored_key, xor};
use super::verifier::ScramKeys;
use super::{BOUND_HEADER, SCRAM_SHA_256, SCRAM_SHA_256_PLUS};
use crate::secret::{Key, Secret};

/// The server names the iterations, and each costs time: this is about 24 times PostgreSQL's default.
const MAX_ITERATIONS: u32 = 100_000;

/// Why a server's messages are not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerFault {
    /// A message that is none, or not an answer to ours.
    #[error("malformed SCRAM message of the server: {0}")]
    Malformed(&'static str),
    /// More work than is done for anybody.
    #[error("the server asks for {0} iterations, more than {MAX_ITERATIONS}")]
    Iterations(u32),
    /// We have keys, and they belong to another verifier than the server's.
    #[error(
        "the server's SCRAM verifier of this user has another salt or iteration count than the one that poolwatch has"
    )]
    OtherVerifier,
    /// The server could not prove that it knows the password.
    #[error("the server's signature is wrong")]
    Signature,
    /// It said `e=`.
    #[error("the server refused the proof")]
    Refused,
}

/// What we prove who we are with.
#[derive(Debug, Clone)]
pub enum ClientProof {
    /// The password.
    Password(Secret),
    /// A client's own keys.
    Keys(ScramKeys),
}

/// Before the server's first message.
#[derive(Debug)]
pub struct ClientExchange {
    proof: ClientProof,
    header: &'static str,
    bound: Vec<u8>,
    mechanism: &'static str,
    bare: String,
    nonce: String,
}

/// After our proof was sent: what the server must answer.
#[derive(Debug)]
pub struct Expected([u8; 32]);

impl ClientExchange {
    /// Chooses the strongest mechanism that both sides can do. Where nothing can be bound (no TLS, or a signature without a
    /// defined binding) we say so. Where only the server does not offer it we say that we could have, so that someone in
    /// between who took the offer away is found out (RFC 5802 §6). `None` where the server offers nothing of ours.
    pub fn new(proof: ClientProof, mechanisms: &[u8], end_point: Option<Vec<u8>>) -> Option<Self> {
        let offers = |wanted: &str| {
            mechanisms
                .split(|byte| *byte == 0)
                .any(|name| name == wanted.as_bytes())
        };
        let (mechanism, header, bound) = match end_point {
            Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
                (SCRAM_SHA_256_PLUS, BOUND_HEADER, end_point)
            }
            Some(_) if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, "y,,", Vec::new()),
            None if offers(SCRAM_SHA_256) => (SCRAM_SHA_256, "n,,", Vec::new()),
            _ => return None,
        };
        let nonce = nonce();
        Some(Self {
            proof,
            header,
            bound,
            mechanism,
            // PostgreSQL takes the name from the startup packet.
            bare: format!("n=,r={nonce}"),
            nonce,
        })
    }

    /// Which one was chosen.
    pub fn mechanism(&self) -> &'static str {
        self.mechanism
    }

    /// Our first message.
    pub fn message(&self) -> String {
        format!("{}{}", self.header, self.bare)
    }

    /// Reads the server's first message; gives our proof.
    ///
    /// # Errors
    /// See [`ServerFault`].
    pub fn prove(self, message: &[u8]) -> Result<(Expected, String), ServerFault> {
        let message =
            std::str::from_utf8(message).map_err(|_| ServerFault::Malformed("not UTF-8"))?;
        let mut rest = message;
        let nonce = take(&mut rest, 'r').ok_or(ServerFault::Malformed("no nonce"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(ServerFault::Malformed("another nonce"));
        }
        let salt = take(&mut rest, 's').and_then(decode);
        let salt = salt.ok_or(ServerFault::Malformed("no salt"))?;
        let iterations = take(&mut rest, 'i').and_then(|count| count.parse().ok());
        let iterations: u32 = iterations
            .filter(|count| *count > 0)
            .ok_or(ServerFault::Malformed("no iteration count"))?;
        let (client_key, server_key) = self.keys(&salt, iterations)?;
        let binding = [self.header.as_bytes(), &self.bound].concat();
        let without_proof = format!("c={},r={nonce}", encode(&binding));
        let signed = format!("{},{message},{without_proof}", self.bare);
        let stored_key = stored_key(&client_key);
        let signature = hmac(stored_key.expose(), &[signed.as_bytes()]);
        let proof = encode(&xor(client_key.expose(), &signature));
        let expected = Expected(hmac(server_key.expose(), &[signed.as_bytes()]));
        Ok((expected, format!("{without_proof},p={proof}")))
    }

    fn keys(&self, salt: &[u8], iterations: u32) -> Result<(Key, Key), ServerFault> {
        match &self.proof {
            ClientProof::Password(_) if iterations > MAX_ITERATIONS => {
                Err(ServerFault::Iterations(iterations))
            }
            ClientProof::Password(password) => {
                let salted = salted_password(password.expose(), salt, iterations);
                Ok((client_key(&salted), server_key(&salted)))
            }
            ClientProof::Keys(keys) => {
                let ours = &keys.verifier;
                if *ours.salt != *salt || ours.iterations != iterations {
                    return Err(ServerFault::OtherVerifier);
                }
                Ok((keys.client_key.clone(), ours.server_key.clone()))
            }
        }
    }
}

impl Expected {
    /// Reads the server's last message.
    ///
    /// # Errors
    /// See [`ServerFault`].
    pub fn check(self, message: &[u8]) -> Result<(), ServerFault> {
        let mut message =
            std::str::from_utf8(message).map_err(|_| ServerFault::Malformed("not UTF-8"))?;
        if message.starts_with("e=") {
            return Err(ServerFault::Refused);
        }
        let signature = take(&mut message, 'v').and_then(decode_32);
        let signature = signature.ok_or(ServerFault::Malformed("no signature"))?;
        if Key::new(signature) == Key::new(self.0) {
            Ok(())
        } else {
            Err(ServerFault::Signature)
        }
    }
}

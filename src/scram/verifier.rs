//! What is stored of a password: `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.

use super::attributes::{decode, decode_32, encode};
use super::keys::{client_key, hmac, salted_password, server_key, stored_key};
use crate::secret::{Key, Secret};

/// PostgreSQL's default, and the least that RFC 7677 allows.
pub const ITERATIONS: u32 = 4096;
/// PostgreSQL's length of a salt.
const SALT: usize = 16;
const PREFIX: &str = "SCRAM-SHA-256$";

/// With this a password can be checked, but nobody logged in to PostgreSQL: that takes the ClientKey.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: u32,
    pub(super) salt: Box<[u8]>,
    pub(super) stored_key: Key,
    pub(super) server_key: Key,
    /// Made up for a user that does not exist: nothing proves it, whatever is sent.
    pub(super) mock: bool,
}

/// A verifier that is none: not the form above, or numbers out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed SCRAM verifier: expected SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey")]
pub struct MalformedVerifier;

/// A verifier with the key that proves it: enough to log in to a PostgreSQL server that has the very same verifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// What the server must have.
    pub verifier: Verifier,
    /// What the client's proof revealed.
    pub client_key: Key,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verifier [hidden]")
    }
}

impl Verifier {
    /// Whether a stored secret means to be a verifier.
    pub fn is_meant(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Reads PostgreSQL's form.
    ///
    /// # Errors
    /// [`MalformedVerifier`].
    pub fn parse(text: &str) -> Result<Self, MalformedVerifier> {
        Self::read(text).ok_or(MalformedVerifier)
    }

    fn read(text: &str) -> Option<Self> {
        let (how, keys) = text.strip_prefix(PREFIX)?.split_once('$')?;
        let (iterations, salt) = how.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let iterations = iterations.parse().ok().filter(|count| *count > 0)?;
        Some(Self {
            iterations,
            salt: decode(salt)?.into(),
            stored_key: Key::new(decode_32(stored_key)?),
            server_key: Key::new(decode_32(server_key)?),
            mock: false,
        })
    }

    /// PostgreSQL's form, as a statement that sets a password takes it. Who has it can impersonate the server.
    pub fn to_stored(&self) -> Secret {
        Secret::new(format!(
            "{PREFIX}{}:{}${}:{}",
            self.iterations,
            encode(&self.salt),
            encode(self.stored_key.expose()),
            encode(self.server_key.expose()),
        ))
    }

    /// Makes one of a password, with a salt of its own.
    pub fn of_password(password: &str) -> Self {
        Self::of_salted(password, &rand::random::<[u8; SALT]>(), ITERATIONS)
    }

    pub(super) fn of_salted(password: &str, salt: &[u8], iterations: u32) -> Self {
        let salted = salted_password(password, salt, iterations);
        Self {
            iterations,
            salt: salt.into(),
            stored_key: stored_key(&client_key(&salted)),
            server_key: server_key(&salted),
            mock: false,
        }
    }

    /// One for a user that does not exist: the salt is the same each time it is asked for, and cannot be told from a real
    /// one without `secret` (RFC 5802 leaves this open; PostgreSQL, `mock_scram_secret`).
    pub fn mock(user: &str, secret: &Key) -> Self {
        let salt = hmac(secret.expose(), &[user.as_bytes()]);
        Self {
            iterations: ITERATIONS,
            salt: salt[..SALT].into(),
            stored_key: Key::new([0; 32]),
            server_key: Key::new([0; 32]),
            mock: true,
        }
    }

    /// Checks a password that was sent as it is. Costs the same whether it is right, wrong, or the user is made up.
    pub fn check(&self, password: &str) -> Option<ScramKeys> {
        let salted = salted_password(password, &self.salt, self.iterations);
        self.accept(client_key(&salted))
    }

    /// The keys, if this is the ClientKey that the verifier was made of.
    pub(super) fn accept(&self, client_key: Key) -> Option<ScramKeys> {
        let right = stored_key(&client_key) == self.stored_key;
        (right & !self.mock).then(|| ScramKeys {
            verifier: self.clone(),
            client_key,
        })
    }

    /// The first message of a server with this verifier, after the nonce.
    pub(super) fn salt_and_iterations(&self) -> String {
        format!("s={},i={}", encode(&self.salt), self.iterations)
    }
}

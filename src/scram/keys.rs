//! From a password to keys (RFC 5802 §3).

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use crate::secret::Key;

/// HMAC-SHA-256 of several parts in a row.
pub(super) fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut mac = keyed(key);
    for part in parts {
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

/// `Hi`: PBKDF2 with one block. The one step that is meant to be slow.
pub(super) fn salted_password(password: &str, salt: &[u8], iterations: u32) -> Key {
    #[cfg(test)]
    work::done(iterations);
    let mac = keyed(prepare(password).as_bytes());
    let round = |parts: &[&[u8]]| -> [u8; 32] {
        let mut mac = mac.clone();
        for part in parts {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    };
    let mut last = round(&[salt, &1_u32.to_be_bytes()]);
    let mut sum = last;
    for _ in 1..iterations {
        last = round(&[&last]);
        for (sum, last) in sum.iter_mut().zip(last) {
            *sum ^= last;
        }
    }
    Key::new(sum)
}

/// SASLprep, and the password as it is where that does not allow it, as PostgreSQL does on both sides.
fn prepare(password: &str) -> Cow<'_, str> {
    stringprep::saslprep(password).unwrap_or(Cow::Borrowed(password))
}

pub(super) fn client_key(salted: &Key) -> Key {
    Key::new(hmac(salted.expose(), &[b"Client Key"]))
}

pub(super) fn server_key(salted: &Key) -> Key {
    Key::new(hmac(salted.expose(), &[b"Server Key"]))
}

pub(super) fn stored_key(client_key: &Key) -> Key {
    Key::new(Sha256::digest(client_key.expose()).into())
}

pub(super) fn xor(a: &[u8; 32], b: &[u8; 32]) -> [u8; 32] {
    std::array::from_fn(|at| a[at] ^ b[at])
}

/// How much PBKDF2 a test's thread has computed: what an unknown user costs is compared by this, not by a clock.
#[cfg(test)]
pub(super) mod work {
    use std::cell::Cell;

    thread_local!(static DONE: Cell<u64> = const { Cell::new(0) });

    pub(super) fn done(iterations: u32) {
        DONE.set(DONE.get() + u64::from(iterations));
    }

    /// The iterations that `f` cost.
    pub(crate) fn of<T>(f: impl FnOnce() -> T) -> (T, u64) {
        let before = DONE.get();
        let result = f();
        (result, DONE.get() - before)
    }
}

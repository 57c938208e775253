//! PostgreSQL's md5 passwords: `md5` and 32 digits, the hash of password and user. Who has one can log in with it, so
//! it is a secret as the password is.

use std::fmt::Write;

use ::md5::{Digest, Md5};

use crate::secret::Secret;

const PREFIX: &str = "md5";
const DIGITS: usize = 32;

/// Whether a stored secret has this form (PostgreSQL, `get_password_type`).
pub fn is_stored(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS
            && digits
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// What PostgreSQL would store of this password.
pub fn stored(password: &str, user: &str) -> Secret {
    Secret::from(hashed(&[password.as_bytes(), user.as_bytes()]))
}

/// The answer to AuthenticationMD5Password of who has the stored form.
pub fn salted(stored: &Secret, salt: [u8; 4]) -> String {
    let digits = stored.expose().strip_prefix(PREFIX).unwrap_or_default();
    hashed(&[digits.as_bytes(), &salt])
}

fn hashed(parts: &[&[u8]]) -> String {
    let mut hash = Md5::new();
    for part in parts {
        hash.update(part);
    }
    let mut text = PREFIX.to_owned();
    for byte in hash.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_drivers_answer() {
        let ours = stored("hunter2", "ann");
        assert!(is_stored(ours.expose()));
        assert_eq!(
            salted(&ours, [1, 2, 3, 4]),
            postgres_protocol::authentication::md5_hash(b"ann", b"hunter2", [1, 2, 3, 4])
        );
    }

    #[test]
    fn only_32_digits_are_the_stored_form() {
        assert!(!is_stored("md5"));
        assert!(!is_stored("md5 is a bad password"));
        assert!(!is_stored(&format!("md5{}", "g".repeat(32))));
        assert!(!is_stored(&format!("md5{}", "a".repeat(33))));
        assert!(is_stored(&format!("md5{}", "a".repeat(32))));
    }
}

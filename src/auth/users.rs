//! What is known of users.

use std::collections::HashMap;

use super::userlist::{Entry, UserlistError, parse};
use crate::md5;
use crate::scram::{MalformedVerifier, Verifier};
use crate::secret::Secret;

/// What is stored of one user's password.
#[derive(Debug, Clone)]
pub enum Stored {
    /// Nothing: no password will do.
    Nothing,
    /// The password itself.
    Plain {
        /// It.
        password: Secret,
        /// A verifier made of it, so that checking costs what it costs for everybody else.
        verifier: Verifier,
    },
    /// PostgreSQL's md5 form.
    Md5(Secret),
    /// A SCRAM verifier.
    Scram(Verifier),
}

/// A stored secret that cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StoredError {
    /// It begins as a SCRAM verifier does and is none. Taken for a password it would let nobody in, without a word why.
    #[error(transparent)]
    Verifier(#[from] MalformedVerifier),
}

/// Two passwords are the same whatever salt their verifiers have.
impl PartialEq for Stored {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Stored::Nothing, Stored::Nothing) => true,
            (
                Stored::Plain { password, .. },
                Stored::Plain {
                    password: other, ..
                },
            ) => password == other,
            (Stored::Md5(hash), Stored::Md5(other)) => hash == other,
            (Stored::Scram(verifier), Stored::Scram(other)) => verifier == other,
            _ => false,
        }
    }
}

impl Stored {
    /// Reads a secret in any form that PostgreSQL or PgBouncer stores.
    ///
    /// # Errors
    /// See [`StoredError`].
    pub fn read(secret: &str) -> Result<Self, StoredError> {
        if secret.is_empty() {
            return Ok(Stored::Nothing);
        }
        if md5::is_stored(secret) {
            return Ok(Stored::Md5(Secret::from(secret)));
        }
        if Verifier::is_meant(secret) {
            return Ok(Stored::Scram(Verifier::parse(secret)?));
        }
        Ok(Stored::password(Secret::from(secret)))
    }

    /// A password in clear.
    pub fn password(password: Secret) -> Self {
        let verifier = Verifier::of_password(password.expose());
        Stored::Plain { password, verifier }
    }

    /// What SCRAM, or a password sent in clear, is checked with.
    pub(super) fn verifier(&self) -> Option<&Verifier> {
        match self {
            Stored::Plain { verifier, .. } | Stored::Scram(verifier) => Some(verifier),
            Stored::Nothing | Stored::Md5(_) => None,
        }
    }
}

/// The users that are known without asking PostgreSQL.
#[derive(Debug, Default)]
pub struct Users(HashMap<String, Stored>);

impl Users {
    /// These; of several for one name the last counts.
    pub fn new(entries: impl IntoIterator<Item = (String, Stored)>) -> Self {
        Self(entries.into_iter().collect())
    }

    /// Those of a file in PgBouncer's format. A password that was in `previous` keeps its verifier, which is dear to make.
    ///
    /// # Errors
    /// The first mistake in the file.
    pub fn of_userlist(text: &str, previous: &Users) -> Result<Self, UserlistError> {
        // Of several entries for one user the last counts.
        let entries = parse(text)?;
        let last: HashMap<_, _> = entries.iter().map(|entry| (&entry.user, entry)).collect();
        let stored = |entry: &Entry| match previous.get(&entry.user) {
            Some(known @ Stored::Plain { password, .. }) if *password == entry.secret => {
                Ok((entry.user.clone(), known.clone()))
            }
            _ => match Stored::read(entry.secret.expose()) {
                Ok(stored) => Ok((entry.user.clone(), stored)),
                Err(source) => Err(UserlistError::Secret {
                    line: entry.line,
                    source,
                }),
            },
        };
        let users: Result<HashMap<_, _>, _> = last.into_values().map(stored).collect();
        Ok(Self(users?))
    }

    pub(super) fn get(&self, user: &str) -> Option<&Stored> {
        self.0.get(user)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &Stored)> {
        self.0.iter().map(|(user, stored)| (user.as_str(), stored))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_entry_counts_and_a_known_password_keeps_its_verifier() {
        let read = |text: &str, previous: &Users| Users::of_userlist(text, previous).unwrap();
        let first = read(
            "\"ann\" \"one\"\n\"ann\" \"two\"\n\"bob\" \"\"",
            &Users::default(),
        );
        assert_eq!(first.len(), 2);
        assert_eq!(first.get("ann"), Stored::read("two").ok().as_ref());
        let verifier = |users: &Users, user| users.get(user).and_then(Stored::verifier).cloned();
        let same = read("\"ann\" \"two\"", &first);
        assert_eq!(verifier(&same, "ann"), verifier(&first, "ann"));
        let other = read("\"ann\" \"three\"", &first);
        assert_ne!(verifier(&other, "ann"), verifier(&first, "ann"));
    }

    #[test]
    fn a_malformed_verifier_is_named_by_its_line_and_not_shown() {
        let text = "\"a\" \"b\"\n\"ann\" \"SCRAM-SHA-256$4096:abc\"";
        let error = Users::of_userlist(text, &Users::default()).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(
            text.starts_with("line 2: ") && !text.contains("abc"),
            "{text}"
        );
    }

    #[test]
    fn the_form_of_a_secret_is_found_out() {
        let verifier = postgres_protocol::password::scram_sha_256(b"pw");
        let md5 = postgres_protocol::password::md5(b"pw", "ann");
        assert!(matches!(Stored::read(""), Ok(Stored::Nothing)));
        assert!(matches!(Stored::read("pw"), Ok(Stored::Plain { .. })));
        assert!(matches!(Stored::read("md5"), Ok(Stored::Plain { .. })));
        assert!(matches!(Stored::read(&md5), Ok(Stored::Md5(_))));
        assert!(matches!(Stored::read(&verifier), Ok(Stored::Scram(_))));
        assert!(Stored::read("SCRAM-SHA-256$nonsense").is_err());
        assert_eq!(Stored::read("pw"), Stored::read("pw"), "whatever the salt");
        assert_ne!(Stored::read("pw"), Stored::read(&verifier));
        assert_ne!(Stored::read("pw"), Stored::read("pv"));
        assert!(!format!("{:?}", Stored::read("hunter2")).contains("hunter2"));
    }
}

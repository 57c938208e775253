//! The users that have come in, each with the credential that its servers are opened with.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::users::Stored;
use crate::backend::{Credential, Credentials};
use crate::scram::ScramKeys;
use crate::secret::Secret;

/// Who has come in. There are as many entries as users that proved who they are.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    known: Mutex<HashMap<String, Account>>,
    /// The upstream URL's user and password: known whatever else is stored.
    upstream: Option<(String, Secret)>,
}

#[derive(Debug)]
struct Account {
    /// What proved the user.
    stored: Stored,
    credentials: Credentials,
}

impl Accounts {
    pub(super) fn new(upstream: Option<(String, Secret)>) -> Self {
        Self {
            known: Mutex::default(),
            upstream,
        }
    }

    /// A user proved who it is against `stored`; `keys` are what that revealed.
    pub(super) fn proved(
        &self,
        user: &str,
        stored: &Stored,
        keys: Option<ScramKeys>,
    ) -> Credentials {
        let mut known = self.known.lock();
        let account = known.entry(user.to_owned()).or_insert_with(|| Account {
            stored: Stored::Nothing,
            credentials: Credentials::default(),
        });
        if let Some(credential) = self.credential(user, stored, keys) {
            account.credentials.set(credential);
        } else if account.stored != *stored {
            account.credentials.set(Credential::None);
        }
        account.stored = stored.clone();
        account.credentials.clone()
    }

    /// What is stored of a user was read anew; `None` where the user is gone. What no longer fits opens no more servers.
    pub(super) fn read(&self, user: &str, stored: Option<&Stored>) {
        if let Some(account) = self.known.lock().get_mut(user) {
            self.replace(user, account, stored);
        }
    }

    /// As [`Accounts::read`], for every user there is.
    pub(super) fn read_all<'a>(&self, stored: impl Fn(&str) -> Option<&'a Stored>) {
        for (user, account) in self.known.lock().iter_mut() {
            self.replace(user, account, stored(user));
        }
    }

    fn replace(&self, user: &str, account: &mut Account, stored: Option<&Stored>) {
        if stored == Some(&account.stored) {
            return;
        }
        let stored = stored.cloned().unwrap_or(Stored::Nothing);
        let credential = self.credential(user, &stored, None).unwrap_or_default();
        account.credentials.set(credential);
        account.stored = stored;
    }

    /// `None` where nothing is known that a server could be opened with.
    fn credential(
        &self,
        user: &str,
        stored: &Stored,
        keys: Option<ScramKeys>,
    ) -> Option<Credential> {
        let of_upstream = || {
            let (name, password) = self.upstream.as_ref()?;
            (name == user).then(|| Credential::Password(password.clone()))
        };
        match stored {
            Stored::Plain { password, .. } => Some(Credential::Password(password.clone())),
            Stored::Md5(hash) => of_upstream().or(Some(Credential::Md5(hash.clone()))),
            Stored::Scram(_) | Stored::Nothing => of_upstream().or(keys.map(Credential::Scram)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scram::Verifier;

    fn scram(password: &str) -> (Stored, ScramKeys) {
        let verifier = Verifier::of_password(password);
        let keys = verifier.check(password).unwrap();
        (Stored::Scram(verifier), keys)
    }

    #[test]
    fn keys_are_kept_until_the_verifier_changes() {
        let accounts = Accounts::default();
        let (stored, keys) = scram("one");
        let credentials = accounts.proved("ann", &stored, Some(keys.clone()));
        assert_eq!(credentials.get(), Credential::Scram(keys.clone()));
        accounts.read("ann", Some(&stored));
        assert_eq!(credentials.get(), Credential::Scram(keys), "the same");
        let (other, other_keys) = scram("one");
        accounts.read("ann", Some(&other));
        assert_eq!(credentials.get(), Credential::None, "another salt");
        // Pools of before see what a login of now reveals.
        accounts.proved("ann", &other, Some(other_keys.clone()));
        assert_eq!(credentials.get(), Credential::Scram(other_keys));
        accounts.read_all(|_| None);
        assert_eq!(credentials.get(), Credential::None, "the user is gone");
    }

    #[test]
    fn a_login_without_a_proof_takes_no_keys_away() {
        let accounts = Accounts::default();
        let (stored, keys) = scram("one");
        let credentials = accounts.proved("ann", &stored, Some(keys.clone()));
        // By certificate, say.
        accounts.proved("ann", &stored, None);
        assert_eq!(credentials.get(), Credential::Scram(keys));
    }

    #[test]
    fn a_new_password_counts_at_once() {
        let accounts = Accounts::default();
        let plain = |text: &str| Stored::password(Secret::from(text));
        let credentials = accounts.proved("ann", &plain("one"), None);
        accounts.read_all(|_| None);
        assert_eq!(credentials.get(), Credential::None);
        let two = plain("two");
        accounts.read("ann", Some(&two));
        assert_eq!(credentials.get(), Credential::Password(Secret::from("two")));
    }

    #[test]
    fn the_upstreams_user_needs_no_keys() {
        let upstream = ("app".to_owned(), Secret::from("secret"));
        let accounts = Accounts::new(Some(upstream));
        let (stored, keys) = scram("one");
        let password = Credential::Password(Secret::from("secret"));
        assert_eq!(accounts.proved("app", &stored, None).get(), password);
        let other = accounts.proved("ann", &stored, Some(keys.clone()));
        assert_eq!(other.get(), Credential::Scram(keys));
    }
}

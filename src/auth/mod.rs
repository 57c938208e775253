//! Who may come in.
//!
//! [`Admission`] knows the users and how they prove who they are; it speaks no protocol. A login asks it to
//! [`begin`](Admission::begin), is given what the client has to do, and hands the answer back.
//!
//! - `users`: what is stored of a user; `userlist`: PgBouncer's file of them; `query`: asking PostgreSQL for them;
//! - `accounts`: what the servers of those who came in are opened with;
//! - `pace`: how fast failed logins may be tried again;
//! - `proof`: the methods.
//!
//! What a client is told does not depend on whether its user exists, nor does the work that is done for it.

mod accounts;
mod error;
mod pace;
mod proof;
mod query;
#[cfg(test)]
mod tests;
mod userlist;
mod users;

pub use error::{AuthError, Failure};
pub use pace::Source;
pub use proof::{Md5Login, PasswordLogin, ScramChallenge, ScramLogin, Step};
pub use query::{Lookup, LookupError};
pub use userlist::UserlistError;
pub use users::{Stored, StoredError, Users};

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::accounts::Accounts;
use self::pace::Pace;
use crate::backend::Credentials;
use crate::pgwire::StartupParameters;
use crate::scram::ScramKeys;
use crate::secret::{Key, Secret};

/// A few milliseconds each, on threads beside those that carry queries.
const CHECKS: usize = 2;

/// How clients prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// They need not.
    Trust,
    /// By what is stored of them: SCRAM, or md5 for those of whom only an md5 hash is.
    Auto,
    /// By SCRAM-SHA-256, bound to the channel where it is encrypted.
    Scram,
    /// By a password sent as it is, over TLS.
    Password,
    /// By a certificate whose common name is the user's.
    Cert,
}

/// What admission is made of.
#[derive(Debug)]
pub struct Config {
    /// How clients prove who they are.
    pub method: Method,
    /// The users that are known.
    pub users: Users,
    /// Where the others are asked for.
    pub lookup: Option<Lookup>,
    /// The upstream URL's user and password.
    pub upstream: Option<(String, Secret)>,
    /// The longest that a login waits after failed ones.
    pub longest_wait: Duration,
}

/// Who came in, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The PostgreSQL user.
    pub user: String,
    /// The database.
    pub database: String,
}

/// What is known of a client's connection.
#[derive(Debug, Clone)]
pub struct Channel {
    /// Where it comes from.
    pub source: Source,
    /// Whether it is encrypted.
    pub encrypted: bool,
    /// What SCRAM is bound to, where it can be.
    pub end_point: Option<Arc<[u8]>>,
    /// The common name of the certificate that the client showed and that was verified.
    pub common_name: Option<String>,
}

/// Decides on logins. Clones share it.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    method: Method,
    users: Mutex<Arc<Users>>,
    lookup: Option<Lookup>,
    accounts: Accounts,
    pace: Pace,
    /// Passwords in clear that are checked at once: each is work that anybody can ask for.
    checks: Semaphore,
    /// What verifiers for unknown users are made of: their salts must look alike each time, and be nobody's to tell.
    mock: Key,
}

impl Admission {
    /// With these users and rules.
    pub fn new(config: Config) -> Self {
        Self(Arc::new(Inner {
            method: config.method,
            users: Mutex::new(Arc::new(config.users)),
            lookup: config.lookup,
            accounts: Accounts::new(config.upstream),
            pace: Pace::new(config.longest_wait),
            checks: Semaphore::new(CHECKS),
            mock: Key::new(rand::random()),
        }))
    }

    /// Whether clients come in without a proof.
    pub fn trusts(&self) -> bool {
        self.0.method == Method::Trust
    }

    /// Who a client says it is.
    ///
    /// # Errors
    /// It does not say.
    pub fn identify(&self, parameters: &StartupParameters) -> Result<Identity, AuthError> {
        let user = parameters
            .value("user")
            .filter(|user| !user.is_empty())
            .ok_or(AuthError::NoUser)?;
        // PostgreSQL's default: the database that is named like the user.
        let database = parameters
            .value("database")
            .filter(|name| !name.is_empty())
            .unwrap_or(user);
        Ok(Identity {
            user: user.to_owned(),
            database: database.to_owned(),
        })
    }

    /// Reads a file of users, in PgBouncer's format, in place of the users that are known. Sessions stay; who is no longer known, or by another secret, opens no more servers
    /// until it has come in again.
    ///
    /// # Errors
    /// The first mistake in the file; the users stay as they were then.
    pub fn read_userlist(&self, text: &str) -> Result<(), UserlistError> {
        let before = self.0.users.lock().clone();
        // Making verifiers takes time, which no login is to wait for.
        let read = Arc::new(Users::of_userlist(text, &before)?);
        tracing::info!(users = read.len(), "users read");
        let mut known = self.0.users.lock();
        *known = read;
        if self.0.lookup.is_none() {
            self.0.accounts.read_all(|user| known.get(user));
        } else {
            // Who is not among them may be one that PostgreSQL knows: its next login will tell.
            for (user, stored) in known.iter() {
                self.0.accounts.read(user, Some(stored));
            }
        }
        Ok(())
    }

    /// From now on a login waits so long at most after failed ones; zero is not at all.
    pub fn set_longest_wait(&self, longest: Duration) {
        self.0.pace.set_longest(longest);
    }

    /// What is stored of a user: the known ones first.
    async fn find(&self, user: &str) -> Result<Option<Stored>, AuthError> {
        if let Some(stored) = self.0.users.lock().get(user) {
            return Ok(Some(stored.clone()));
        }
        let Some(lookup) = &self.0.lookup else {
            return Ok(None);
        };
        let stored = lookup.find(user).await?;
        self.0.accounts.read(user, stored.as_ref());
        Ok(stored)
    }

    /// A client proved who it is. A secret that was replaced meanwhile proves nothing.
    fn proved(
        &self,
        user: &str,
        source: Source,
        stored: &Stored,
        keys: Option<ScramKeys>,
    ) -> Result<Credentials, AuthError> {
        let users = self.0.users.lock();
        let replaced = match users.get(user) {
            Some(now) => now != stored,
            // PostgreSQL knows it, then; where it is not asked, the user is gone.
            None => self.0.lookup.is_none(),
        };
        if replaced {
            return Err(AuthError::failed(user, Failure::WrongPassword));
        }
        self.0.pace.succeeded(source, user);
        Ok(self.0.accounts.proved(user, stored, keys))
    }

    /// A client proved that it is somebody else.
    fn failed(&self, user: &str, source: Source, failure: Failure) -> AuthError {
        self.0.pace.failed(source, user);
        AuthError::failed(user, failure)
    }
}

//! Who may come in.
//!
//! This version trusts whoever reaches its listeners, which are therefore on loopback and Unix sockets only, and serves
//! one user: the upstream URL's own, in any of its databases.

use crate::error::{Class, ClientError};
use crate::pgwire::StartupParameters;

/// Who came in, and what for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The PostgreSQL user.
    pub user: String,
    /// The database.
    pub database: String,
}

/// Decides on logins.
#[derive(Debug, Clone)]
pub struct Admission {
    user: String,
}

/// Why a login is refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The startup packet names no user.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// Only the upstream's own user is served.
    #[error("poolwatch has no credentials for user \"{0}\"")]
    UnknownUser(String),
}

impl ClientError for AuthError {
    fn class(&self) -> Class {
        Class::Authentication
    }

    fn client_hint(&self) -> Option<String> {
        match self {
            AuthError::NoUser => None,
            AuthError::UnknownUser(_) => {
                Some("Log in as the user of poolwatch's upstream URL.".to_owned())
            }
        }
    }
}

impl Admission {
    /// Serves this user.
    pub fn new(user: String) -> Self {
        Self { user }
    }

    /// Admits or refuses.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn admit(&self, parameters: &StartupParameters) -> Result<Identity, AuthError> {
        let user = parameters
            .value("user")
            .filter(|user| !user.is_empty())
            .ok_or(AuthError::NoUser)?;
        if user != self.user {
            return Err(AuthError::UnknownUser(user.to_owned()));
        }
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
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(pairs: &[(&str, &str)]) -> StartupParameters {
        StartupParameters(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn the_upstreams_user_comes_in_to_any_database() {
        let admission = Admission::new("app".to_owned());
        let identity = admission
            .admit(&parameters(&[("user", "app"), ("database", "other")]))
            .unwrap();
        assert_eq!(identity.database, "other");
        assert_eq!(
            admission
                .admit(&parameters(&[("user", "app")]))
                .unwrap()
                .database,
            "app"
        );
    }

    #[test]
    fn another_user_is_told_which_one_is_served() {
        let error = Admission::new("app".to_owned())
            .admit(&parameters(&[("user", "root")]))
            .unwrap_err();
        assert_eq!(error.sqlstate(), "28000");
        assert!(error.client_hint().is_some());
    }
}

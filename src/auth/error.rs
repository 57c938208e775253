//! Why a login is refused: what is counted, and what the client is told, which is less.

use super::query::LookupError;
pub use crate::metrics::AuthFailure as Failure;

use crate::error::{Class, ClientError};
use crate::scram::ClientFault;

/// Why a login is refused.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The startup packet names no user.
    #[error("no PostgreSQL user name specified in startup packet")]
    NoUser,
    /// Everybody is trusted, but nobody can be served as this user.
    #[error("poolwatch has no credentials for user \"{0}\"")]
    NotServed(String),
    /// The password is wrong, or there is no such user, or it has none: the client is not told which.
    #[error("password authentication failed for user \"{user}\"")]
    Failed {
        /// Whom it said it is.
        user: String,
        /// What is counted, and not told.
        failure: Failure,
    },
    /// The certificate is another's.
    #[error("certificate authentication failed for user \"{user}\"")]
    Certificate {
        /// Whom it said it is.
        user: String,
    },
    /// A certificate is asked for.
    #[error("connection requires a valid client certificate")]
    NoCertificate,
    /// The password would pass the network as it is.
    #[error("passwords are asked for over TLS only: connect with sslmode=require")]
    TlsRequired,
    /// The client does not speak SCRAM as it is.
    #[error("{0}")]
    Fault(ClientFault),
    /// A message that is no answer.
    #[error("{0}")]
    Malformed(&'static str),
    /// Too many logins as this user wait already.
    #[error("too many logins after failed ones for user \"{0}\", try again later")]
    TooManyWaiting(String),
    /// PostgreSQL could not be asked for the user.
    #[error("could not look up the user in PostgreSQL")]
    Lookup(#[from] LookupError),
}

impl AuthError {
    pub(super) fn failed(user: &str, failure: Failure) -> Self {
        AuthError::Failed {
            user: user.to_owned(),
            failure,
        }
    }

    /// What it is counted as.
    pub fn failure(&self) -> Failure {
        match self {
            AuthError::NotServed(_) => Failure::UnknownUser,
            AuthError::Failed { failure, .. } => *failure,
            AuthError::Certificate { .. } | AuthError::NoCertificate => Failure::Certificate,
            AuthError::TlsRequired => Failure::TlsRequired,
            AuthError::Fault(ClientFault::Downgrade | ClientFault::Binding) => {
                Failure::ChannelBinding
            }
            AuthError::NoUser | AuthError::Fault(_) | AuthError::Malformed(_) => Failure::Malformed,
            AuthError::TooManyWaiting(_) => Failure::TooManyFailures,
            AuthError::Lookup(_) => Failure::Lookup,
        }
    }
}

impl ClientError for AuthError {
    fn class(&self) -> Class {
        match self {
            AuthError::Fault(ClientFault::Malformed(_) | ClientFault::Mechanism)
            | AuthError::Malformed(_) => Class::Protocol,
            AuthError::Fault(ClientFault::Unsupported(_)) => Class::Unsupported,
            AuthError::TooManyWaiting(_) => Class::Limit,
            AuthError::Lookup(_) => Class::Connect,
            _ => Class::Authentication,
        }
    }

    fn sqlstate(&self) -> &str {
        match self {
            // invalid_password, as PostgreSQL says it.
            AuthError::Failed { .. } => "28P01",
            _ => self.class().sqlstate(),
        }
    }

    /// Why PostgreSQL could not be asked is for the log.
    fn client_message(&self) -> String {
        self.to_string()
    }

    fn client_hint(&self) -> Option<String> {
        match self {
            AuthError::NotServed(_) => {
                Some("Log in as the user of poolwatch's upstream URL.".to_owned())
            }
            AuthError::Fault(ClientFault::Downgrade) => Some(
                "This server does support channel binding: somebody between may have taken the offer away."
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

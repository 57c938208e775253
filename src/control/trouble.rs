//! Why PostgreSQL cannot be reached, in a sentence that says what to look at.

use std::io;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use super::Config;
use crate::dsn::Host;
use crate::error::chain;
use crate::pool::CheckoutError;

/// Why no connection was made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Trouble {
    /// The name has no address.
    #[error("the name {0} has no address: is it spelled right, and is its DNS answering?")]
    Name(String),
    /// Nobody listens.
    #[error("nothing listens at {0}: is PostgreSQL running there?")]
    Refused(String),
    /// No answer.
    #[error(
        "no connection to {host} within {limit:?}: is the address right, or does a firewall swallow it?"
    )]
    TimedOut {
        /// Where.
        host: String,
        /// How long was waited.
        limit: Duration,
    },
    /// It starts, stops or recovers.
    #[error("PostgreSQL at {host} takes no connections now: {said}")]
    NotYet {
        /// Where.
        host: String,
        /// Its own words.
        said: String,
    },
    /// The connection ended in the middle of the login.
    #[error("{host} closed the connection during the login: {cause}")]
    Cut {
        /// Where.
        host: String,
        /// What the system said.
        cause: String,
    },
    /// TLS.
    #[error("TLS with {host} failed: {cause}")]
    Tls {
        /// Where.
        host: String,
        /// What failed.
        cause: String,
    },
    /// There is no password, or it is wrong, or `pg_hba.conf` says no.
    #[error("{host} refuses the login of user \"{user}\": {said}")]
    Login {
        /// Where.
        host: String,
        /// Whose.
        user: String,
        /// PostgreSQL's own words.
        said: String,
    },
    /// The database does not exist.
    #[error("there is no database \"{database}\" at {host}")]
    NoDatabase {
        /// Where.
        host: String,
        /// Which.
        database: String,
    },
    /// `max_connections` or a limit of the role or the database.
    #[error("{host} has no connection left: {said}")]
    Full {
        /// Where.
        host: String,
        /// PostgreSQL's own words.
        said: String,
    },
    /// Something else.
    #[error("connecting to {host} failed: {cause}")]
    Other {
        /// Where.
        host: String,
        /// What was said.
        cause: String,
    },
}

impl Trouble {
    /// What an error of the control pool means.
    pub fn of(error: &CheckoutError<tokio_postgres::Error>, config: &Config) -> Self {
        let hosts: Vec<_> = config.hosts.iter().map(ToString::to_string).collect();
        let host = hosts.join(", ");
        match error {
            CheckoutError::Connect(error) => Self::of_connect(error, host, config),
            CheckoutError::ConnectTimeout { .. } | CheckoutError::Timeout { .. } => {
                let limit = config.connect_timeout;
                Self::TimedOut { host, limit }
            }
            other => Self::Other {
                host,
                cause: chain(other),
            },
        }
    }

    /// Whether waiting may help, as `pg_isready` judges: nobody answers yet, or who answers says "not yet".
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Name(_)
            | Self::Refused(_)
            | Self::TimedOut { .. }
            | Self::NotYet { .. }
            | Self::Cut { .. } => true,
            Self::Tls { .. }
            | Self::Login { .. }
            | Self::NoDatabase { .. }
            | Self::Full { .. }
            | Self::Other { .. } => false,
        }
    }

    fn of_connect(error: &tokio_postgres::Error, host: String, config: &Config) -> Self {
        if let Some(said) = error.as_db_error() {
            return Self::of_answer(said, host, config);
        }
        let cause = chain(error);
        if let Some(io) = io_cause(error) {
            return Self::of_io(io, cause, host, config);
        }
        // tokio-postgres tells these apart by their text alone.
        if cause.contains("TLS") {
            return Self::Tls { host, cause };
        }
        if cause.contains("password") || cause.contains("authentication") {
            return Self::Login {
                host,
                user: config.user.clone(),
                said: cause,
            };
        }
        if error.is_closed() {
            return Self::Cut { host, cause };
        }
        Self::Other { host, cause }
    }

    fn of_answer(said: &tokio_postgres::error::DbError, host: String, config: &Config) -> Self {
        let code = said.code().clone();
        let said = said.message().to_owned();
        match code {
            SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => {
                Self::NotYet { host, said }
            }
            SqlState::INVALID_PASSWORD
            | SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            | SqlState::INSUFFICIENT_PRIVILEGE => Self::Login {
                host,
                user: config.user.clone(),
                said,
            },
            SqlState::INVALID_CATALOG_NAME => Self::NoDatabase {
                host,
                database: config.database.clone(),
            },
            SqlState::TOO_MANY_CONNECTIONS => Self::Full { host, said },
            _ => Self::Other {
                host,
                cause: format!("{said} (SQLSTATE {})", code.code()),
            },
        }
    }

    fn of_io(io: &io::Error, cause: String, host: String, config: &Config) -> Self {
        let names = config.hosts.iter().filter_map(|host| match &host.host {
            Host::Tcp(name) => Some(name.as_str()),
            Host::Unix(_) => None,
        });
        match io.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => Self::Refused(host),
            io::ErrorKind::TimedOut => Self::TimedOut {
                host,
                limit: config.connect_timeout,
            },
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Self::Cut { host, cause },
            // The resolver's errors have no number of the system's, and no kind of their own.
            _ if io.raw_os_error().is_none() && cause.contains("lookup") => {
                Self::Name(names.collect::<Vec<_>>().join(", "))
            }
            _ if cause.contains("TLS") => Self::Tls { host, cause },
            _ => Self::Other { host, cause },
        }
    }
}

fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref() {
            return Some(io);
        }
        cause = inner.source();
    }
    None
}

/// PostgreSQL's words with their code, detail and hint. The statement is not told: it may hold a secret.
pub fn said(error: &tokio_postgres::Error) -> String {
    let Some(answer) = error.as_db_error() else {
        return if error.is_closed() {
            "the connection was lost".to_owned()
        } else {
            chain(error)
        };
    };
    let mut text = format!("{} (SQLSTATE {})", answer.message(), answer.code().code());
    for more in [answer.detail(), answer.hint()].into_iter().flatten() {
        text.push_str("; ");
        text.push_str(more);
    }
    text
}

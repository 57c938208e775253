//! What can go wrong with a server connection: while it is opened, while it is used, while it lies idle.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::dsn::HostPort;
use crate::error::{Class, ClientError};
use crate::pgwire::fields::ServerMessage;
use crate::pgwire::frontend::EncodeError;
use crate::tls::TlsError;

/// What a connection attempt was waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The host's addresses.
    Resolve,
    /// The TCP or Unix connection.
    Connect,
    /// The answer to the request for encryption.
    TlsRequest,
    /// The TLS handshake.
    TlsHandshake,
    /// The login.
    Login,
    /// The first ReadyForQuery, after the login.
    Ready,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Phase::Resolve => "name resolution",
            Phase::Connect => "the connection",
            Phase::TlsRequest => "the answer to the TLS request",
            Phase::TlsHandshake => "the TLS handshake",
            Phase::Login => "the login",
            Phase::Ready => "the server to be ready after the login",
        })
    }
}

/// Why no server connection could be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The host's name has no address that could be found.
    #[error("could not resolve {host}")]
    Resolve {
        /// The host.
        host: HostPort,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Refused, unreachable, no such socket: the last address tried.
    #[error("could not connect to {host}")]
    Io {
        /// The host.
        host: HostPort,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The limit for the whole attempt ran out.
    #[error("no connection to {host} within {after:?}: timed out waiting for {phase}")]
    Timeout {
        /// The host.
        host: HostPort,
        /// What was waited for at that moment.
        phase: Phase,
        /// The limit.
        after: Duration,
    },
    /// Encryption is required and the server has none.
    #[error("{host} does not offer TLS, which the sslmode requires")]
    TlsRefused {
        /// The host.
        host: HostPort,
    },
    /// The TLS handshake failed.
    #[error("could not encrypt the connection to {host}")]
    Tls {
        /// The host.
        host: HostPort,
        /// Why.
        #[source]
        source: TlsError,
    },
    /// The server asks for a password and there is none.
    #[error("{host} asks for a password ({method}), and none is configured")]
    PasswordNeeded {
        /// The host.
        host: HostPort,
        /// The method it asked for.
        method: &'static str,
    },
    /// The server asks for an authentication that poolwatch does not do.
    #[error("{host} asks for an authentication that is not supported: {method}")]
    UnsupportedAuth {
        /// The host.
        host: HostPort,
        /// What it asked for.
        method: String,
    },
    /// The SCRAM exchange failed on our side: the server could not prove that it knows the password, or sent nonsense.
    #[error("SCRAM authentication with {host} failed")]
    Scram {
        /// The host.
        host: HostPort,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The server refused, in its own words.
    #[error("{0}")]
    Rejected(Box<ServerMessage>),
    /// The connection was lost before it was ready.
    #[error("the connection to {host} was lost while waiting for {phase}")]
    Lost {
        /// The host.
        host: HostPort,
        /// What was waited for.
        phase: Phase,
        /// How it ended.
        #[source]
        source: HangUp,
    },
    /// A user, database, password or parameter that cannot be sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl ClientError for ConnectError {
    fn class(&self) -> Class {
        match self {
            Self::Resolve { .. }
            | Self::Io { .. }
            | Self::Timeout { .. }
            | Self::TlsRefused { .. }
            | Self::Tls { .. } => Class::Connect,
            Self::PasswordNeeded { .. } | Self::UnsupportedAuth { .. } | Self::Scram { .. } => {
                Class::Authentication
            }
            Self::Rejected(message) if message.code.starts_with("28") => Class::Authentication,
            Self::Rejected(message) if message.code.starts_with("3D") => Class::Rejected,
            Self::Rejected(_) => Class::Connect,
            Self::Lost { .. } => Class::ServerLost,
            Self::Encode(_) => Class::Rejected,
        }
    }

    /// The server's own where it gave one. A login that fails for lack of the right set-up on our side is a connection that
    /// could not be established, not the client's wrong password.
    fn sqlstate(&self) -> &str {
        match self {
            Self::Rejected(message) if message.code.len() == 5 => &message.code,
            Self::PasswordNeeded { .. } | Self::UnsupportedAuth { .. } | Self::Scram { .. } => {
                Class::Connect.sqlstate()
            }
            _ => self.class().sqlstate(),
        }
    }

    fn client_hint(&self) -> Option<String> {
        match self {
            Self::Rejected(message) => message.hint.clone(),
            _ => None,
        }
    }
}

/// The server did not keep to the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// A length that no message can have.
    #[error("message {tag:?} declares the impossible length {length}", tag = char::from(*tag))]
    BadLength {
        /// The message's type byte.
        tag: u8,
        /// The declared length.
        length: u32,
    },
    /// A message longer than we take in at this point.
    #[error("message {tag:?} of {length} bytes is longer than the {limit} allowed here", tag = char::from(*tag))]
    TooLong {
        /// The message's type byte.
        tag: u8,
        /// The declared length.
        length: u32,
        /// The most we take.
        limit: usize,
    },
    /// A message that has no place here.
    #[error("message {tag:?} came where {expected} was expected", tag = char::from(*tag))]
    Unexpected {
        /// The message's type byte.
        tag: u8,
        /// What should have come.
        expected: &'static str,
    },
    /// A message whose content cannot be read.
    #[error("message {tag:?} is malformed", tag = char::from(*tag))]
    Malformed {
        /// The message's type byte.
        tag: u8,
    },
}

/// How a server connection ended without our doing.
#[derive(Debug, Clone, thiserror::Error)]
pub enum HangUp {
    /// End of file.
    #[error("the server closed the connection")]
    Closed,
    /// A socket error, encryption included.
    #[error("the connection to the server broke")]
    Socket(#[source] Arc<io::Error>),
    /// The server said goodbye (57P01 shutdown, 57P05 idle session timeout …).
    #[error("the server ended the connection: {0}")]
    Fatal(Box<ServerMessage>),
    /// What came is not PostgreSQL's protocol; nothing after it can be trusted.
    #[error("the server broke the protocol")]
    Protocol(#[from] ProtocolError),
}

impl From<io::Error> for HangUp {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Closed,
            _ => Self::Socket(Arc::new(error)),
        }
    }
}

impl ClientError for HangUp {
    fn class(&self) -> Class {
        Class::ServerLost
    }

    fn sqlstate(&self) -> &str {
        match self {
            Self::Fatal(message) if message.code.len() == 5 => &message.code,
            _ => self.class().sqlstate(),
        }
    }
}

/// Why a question of our own has no answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The server answered with an error; the connection is still good.
    #[error("{0}")]
    Server(Box<ServerMessage>),
    /// The connection is gone.
    #[error("the connection was lost during a query")]
    Lost(#[from] HangUp),
    /// Another request is outstanding, so an answer could not be told from its answers.
    #[error("the connection is busy with another request")]
    Busy,
    /// The answer is larger than questions of our own may have.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// The most that is kept.
        limit: usize,
    },
    /// A query that cannot be sent.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

impl ClientError for QueryError {
    fn class(&self) -> Class {
        match self {
            Self::Server(_) | Self::Lost(_) => Class::ServerLost,
            Self::Busy | Self::TooLarge { .. } | Self::Encode(_) => Class::Internal,
        }
    }

    fn sqlstate(&self) -> &str {
        match self {
            Self::Server(message) if message.code.len() == 5 => &message.code,
            Self::Lost(hang_up) => hang_up.sqlstate(),
            _ => self.class().sqlstate(),
        }
    }
}

/// An error of the pool's manager.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// No connection could be opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The ping failed.
    #[error(transparent)]
    Ping(#[from] QueryError),
    /// The ping was answered by something else than an answer to a ping.
    #[error("the server answered a ping as if it were a query")]
    OddPing,
}

impl ClientError for ServerError {
    fn class(&self) -> Class {
        match self {
            Self::Connect(error) => error.class(),
            Self::Ping(error) => error.class(),
            Self::OddPing => Class::ServerLost,
        }
    }

    fn sqlstate(&self) -> &str {
        match self {
            Self::Connect(error) => error.sqlstate(),
            Self::Ping(error) => error.sqlstate(),
            Self::OddPing => self.class().sqlstate(),
        }
    }

    fn client_hint(&self) -> Option<String> {
        match self {
            Self::Connect(error) => error.client_hint(),
            Self::Ping(_) | Self::OddPing => None,
        }
    }
}

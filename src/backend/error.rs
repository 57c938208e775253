//! What goes wrong with servers, with the text and SQLSTATE a client is given for it.

use std::io;
use std::time::Duration;

use crate::error::{Class, ClientError, chain};
use crate::pgwire::{FrameError, ServerMessage};
use crate::scram::ServerFault;

/// How far opening a connection had come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The host's name.
    Resolve,
    /// The connection.
    Connect,
    /// The answer to SSLRequest, and TLS.
    Tls,
    /// The login.
    Login,
    /// The first ReadyForQuery, after the login.
    Ready,
    /// A cancel request.
    Cancel,
}

impl std::fmt::Display for Phase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Phase::Resolve => "the host's name",
            Phase::Connect => "the connection",
            Phase::Tls => "TLS",
            Phase::Login => "the login",
            Phase::Ready => "the server's readiness after the login",
            Phase::Cancel => "the cancel request",
        })
    }
}

/// Why a connection to PostgreSQL could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name has no address.
    #[error("could not resolve {host}")]
    Resolve {
        /// The host.
        host: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The transport failed.
    #[error("{phase} failed")]
    Io {
        /// At what.
        phase: Phase,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It took too long.
    #[error("{phase} took longer than {limit:?}")]
    Timeout {
        /// What was waited for.
        phase: Phase,
        /// How long.
        limit: Duration,
    },
    /// The server ended the connection without a word.
    #[error("the server closed the connection during {0}")]
    Closed(Phase),
    /// TLS is asked for, and the server has none.
    #[error("the server does not support TLS, but sslmode asks for it")]
    NoTls,
    /// The TLS handshake failed: the certificate, the network, or a peer that speaks no TLS that we do.
    #[error("the TLS handshake failed")]
    Tls(#[source] io::Error),
    /// A user, a database, a password or a parameter holds a zero byte.
    #[error("a {0} with a zero byte cannot be sent to PostgreSQL")]
    ZeroByte(&'static str),
    /// The server wants a password, and there is none for this user.
    #[error("the server asks for a password, and poolwatch has none for user \"{user}\"")]
    NoPassword {
        /// The user.
        user: String,
    },
    /// The server wants a method that what is known of this user is not good for.
    #[error(
        "the server asks for the authentication method {method}, and poolwatch has only {has} of user \"{user}\""
    )]
    Credential {
        /// What the server asks for.
        method: &'static str,
        /// What there is.
        has: &'static str,
        /// The user.
        user: String,
    },
    /// The server wants a method that is not spoken here.
    #[error(
        "the server asks for the authentication method {0}, which is not supported (trust, password, md5, scram-sha-256 are)"
    )]
    Method(&'static str),
    /// SCRAM failed: the server could not prove that it knows the password, or answered nonsense.
    #[error("SCRAM authentication failed")]
    Scram(#[from] ServerFault),
    /// PostgreSQL refused.
    #[error("{}", .0.said())]
    Rejected(ServerMessage),
    /// The server sent something that is no answer.
    #[error("unexpected message {tag:?} during {phase}", tag = char::from(*tag))]
    Unexpected {
        /// When.
        phase: Phase,
        /// What.
        tag: u8,
    },
    /// The server sent something that is no message.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl ConnectError {
    /// What PostgreSQL itself said, if it refused.
    pub fn server_error(&self) -> Option<&ServerMessage> {
        match self {
            ConnectError::Rejected(message) => Some(message),
            _ => None,
        }
    }

    /// Whether trying another host is of no use. As in libpq, only a server that cannot take connections now (57P03: it
    /// starts, stops or recovers) is passed over for the next.
    pub(super) fn is_final(&self) -> bool {
        self.server_error()
            .is_some_and(|message| message.code != "57P03")
    }

    /// Whether an older protocol may cure it: refused as a protocol violation or as not supported, or hung up on without
    /// a word. What PostgreSQL says of users, passwords and databases has codes of its own.
    pub(super) fn may_depend_on_protocol(&self) -> bool {
        match self {
            ConnectError::Rejected(message) => {
                matches!(message.code.as_str(), "08P01" | "0A000" | "")
            }
            ConnectError::Closed(phase) | ConnectError::Io { phase, .. } => *phase == Phase::Login,
            _ => false,
        }
    }

    /// Whether encrypting, or not encrypting, may cure it: the handshake failed, or no line of `pg_hba.conf` matches
    /// (28000). A wrong password is not tried again: it would be sent once more, perhaps in clear, to fail once more.
    pub(super) fn may_depend_on_encryption(&self) -> bool {
        match self {
            ConnectError::Tls(_) | ConnectError::NoTls => true,
            ConnectError::Rejected(message) => message.code == "28000",
            _ => false,
        }
    }
}

impl ClientError for ConnectError {
    fn class(&self) -> Class {
        Class::Connect
    }

    fn sqlstate(&self) -> &str {
        match self {
            ConnectError::Rejected(message) if message.code.len() == 5 => &message.code,
            // It was there, and went away.
            ConnectError::Closed(_) => Class::ServerLost.sqlstate(),
            _ => Class::Connect.sqlstate(),
        }
    }

    fn client_message(&self) -> String {
        match self {
            ConnectError::Rejected(message) => message.said().to_owned(),
            other => format!("could not connect to PostgreSQL: {}", chain(other)),
        }
    }
}

/// What a look at an idle server found: it is gone, or about to be.
#[derive(Debug, thiserror::Error)]
pub enum HangUp {
    /// It closed the connection.
    #[error("the server closed the connection")]
    Closed,
    /// The transport failed.
    #[error("the connection broke")]
    Io(#[source] io::Error),
    /// It said that it ends.
    #[error("{}", .0.said())]
    Fatal(ServerMessage),
    /// It sent something that is no message, or one that nobody asked for.
    #[error("the server sent something unexpected")]
    Junk,
}

/// Why a statement of ours failed.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// The transport failed.
    #[error("the connection broke")]
    Io(#[from] io::Error),
    /// The server ended the connection.
    #[error("the server closed the connection")]
    Closed,
    /// PostgreSQL answered with an error; the connection is fine unless it was FATAL.
    #[error("{}", .0.said())]
    Server(ServerMessage),
    /// The answer is none to a statement of ours: the server wants the data of a COPY.
    #[error("the server sent message {tag:?}, which answers no statement of ours", tag = char::from(*.0))]
    Unexpected(u8),
    /// The statement holds a zero byte.
    #[error("a statement with a zero byte cannot be sent to PostgreSQL")]
    ZeroByte,
    /// The server sent something that is no message.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl QueryError {
    /// What PostgreSQL itself said.
    pub fn server_error(&self) -> Option<&ServerMessage> {
        match self {
            QueryError::Server(message) => Some(message),
            _ => None,
        }
    }
}

/// What the manager of servers reports to a pool.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// A connect failed.
    #[error("could not connect to PostgreSQL")]
    Connect(#[from] ConnectError),
    /// A ping failed.
    #[error("the server did not answer a ping")]
    Ping(#[from] QueryError),
}

impl ServerError {
    /// What PostgreSQL itself said.
    pub fn server_error(&self) -> Option<&ServerMessage> {
        match self {
            ServerError::Connect(error) => error.server_error(),
            ServerError::Ping(error) => error.server_error(),
        }
    }
}

//! What went wrong, seen three ways: a [`Class`] (log field and metric label), a SQLSTATE with an HTTP status, and a
//! text that may leave the process.
//!
//! Modules define their own error enums with `thiserror`. An error that may be told to a client implements
//! [`ClientError`]; a catch-all error never does, so that nothing internal leaks by accident.

/// The kind of a failure. Bounded, so it can be a metric label.
///
/// Adding a variant does not compile until its label, SQLSTATE and HTTP status are decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// No connection came free within `pool.timeout`.
    PoolTimeout,
    /// A connection to PostgreSQL could not be opened.
    Connect,
    /// A connection to PostgreSQL that was in use broke.
    ServerLost,
    /// The client or the server could not be authenticated.
    Authentication,
    /// The client named a user, a database or an option that cannot be served.
    Rejected,
    /// A limit of ours was reached (clients, pools, message size).
    Limit,
    /// The client cancelled its own request before it had a connection.
    Cancelled,
    /// The peer broke the wire protocol.
    Protocol,
    /// poolwatch is starting and cannot serve yet.
    Starting,
    /// poolwatch is stopping.
    Shutdown,
    /// The pool is paused by an operator and the wait for it ran out.
    Paused,
    /// A client asked for something that poolwatch does not do.
    Unsupported,
    /// A bug of ours.
    Internal,
}

impl Class {
    /// All classes, for tables that need a row for each.
    pub const ALL: [Class; 13] = [
        Class::PoolTimeout,
        Class::Connect,
        Class::ServerLost,
        Class::Authentication,
        Class::Rejected,
        Class::Limit,
        Class::Cancelled,
        Class::Protocol,
        Class::Starting,
        Class::Shutdown,
        Class::Paused,
        Class::Unsupported,
        Class::Internal,
    ];

    /// The value of the metric label and log field `class`.
    pub fn label(self) -> &'static str {
        match self {
            Class::PoolTimeout => "pool_timeout",
            Class::Connect => "connect",
            Class::ServerLost => "server_lost",
            Class::Authentication => "authentication",
            Class::Rejected => "rejected",
            Class::Limit => "limit",
            Class::Cancelled => "cancelled",
            Class::Protocol => "protocol",
            Class::Starting => "starting",
            Class::Shutdown => "shutdown",
            Class::Paused => "paused",
            Class::Unsupported => "unsupported",
            Class::Internal => "internal",
        }
    }

    /// The SQLSTATE a PostgreSQL client is given (PostgreSQL, `src/backend/utils/errcodes.txt`).
    pub fn sqlstate(self) -> &'static str {
        match self {
            Class::PoolTimeout | Class::Limit => "53300", // too_many_connections
            Class::Cancelled => "57014",                  // query_canceled
            Class::Connect => "08001", // sqlclient_unable_to_establish_sqlconnection
            Class::ServerLost => "08006", // connection_failure
            Class::Authentication | Class::Rejected => "28000", // invalid_authorization_specification
            Class::Protocol => "08P01",                         // protocol_violation
            Class::Starting | Class::Paused => "57P03",         // cannot_connect_now
            Class::Shutdown => "57P01",                         // admin_shutdown
            Class::Unsupported => "0A000",                      // feature_not_supported
            Class::Internal => "XX000",                         // internal_error
        }
    }

    /// The status of an HTTP answer.
    pub fn http_status(self) -> u16 {
        match self {
            Class::PoolTimeout
            | Class::Connect
            | Class::Cancelled
            | Class::ServerLost
            | Class::Starting
            | Class::Shutdown
            | Class::Paused => 503,
            Class::Limit => 429,
            Class::Authentication => 401,
            Class::Rejected => 403,
            Class::Protocol => 400,
            Class::Unsupported => 501,
            Class::Internal => 500,
        }
    }
}

/// An error whose text may be told to the client it concerns.
pub trait ClientError: std::error::Error {
    /// Which kind of failure this is.
    fn class(&self) -> Class;

    /// The SQLSTATE to send; most errors use their class's.
    fn sqlstate(&self) -> &str {
        self.class().sqlstate()
    }

    /// What the client is told: the error and its causes, in one line.
    fn client_message(&self) -> String {
        chain(self)
    }

    /// What the client can do about it, where we know.
    fn client_hint(&self) -> Option<String> {
        None
    }
}

/// An error with all its causes, joined by `: `.
pub fn chain<E: std::error::Error + ?Sized>(error: &E) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Several errors, each on a line of its own.
pub fn lines<T: std::fmt::Display>(all: &[T]) -> String {
    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
    all.join("\n")
}

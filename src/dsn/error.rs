//! What is wrong with a connection URL, in words that say what to change.

/// Why a text is not a connection URL.
///
/// No variant carries a part of the text but the scheme: where a password's `@` or `/` is not percent-encoded, any
/// other part may be a piece of the password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// There is no text.
    #[error("the connection URL is empty; write postgresql://user:password@host:5432/database")]
    Empty,
    /// Neither a scheme nor a `=`.
    #[error(
        "this is neither a URL nor key=value pairs; write postgresql://user:password@host:5432/database, \
         or host=… user=… dbname=…"
    )]
    NoScheme,
    /// SQLite, which many applications use until they are given PostgreSQL.
    #[error(
        "sqlite is a file, not a server: there is nothing to pool, so run the application without poolwatch \
         (migrations are skipped), or give it a postgresql:// URL"
    )]
    Sqlite,
    /// Some other system.
    #[error(
        "{scheme}:// is not PostgreSQL; the URL must begin with postgresql:// or another of its forms"
    )]
    Scheme {
        /// The scheme, in lower case.
        scheme: String,
    },
    /// A JDBC URL of another system.
    #[error("a jdbc: URL must begin with jdbc:postgresql:")]
    Jdbc,
    /// A `%` without two hexadecimal digits.
    #[error("the {part} has a % that two hexadecimal digits do not follow; write a plain % as %25")]
    Percent {
        /// Which part of the URL.
        part: &'static str,
    },
    /// Percent-encoded bytes that are not a text.
    #[error(
        "the {part} is not UTF-8 once its percent-encoding is undone; percent-encode its UTF-8 bytes"
    )]
    NotUtf8 {
        /// Which part of the URL.
        part: &'static str,
    },
    /// A zero byte, which the wire protocol cannot carry.
    #[error("the {part} contains a zero byte, which PostgreSQL cannot take; remove %00")]
    ZeroByte {
        /// Which part of the URL.
        part: &'static str,
    },
    /// A port that is none.
    #[error(
        "the port of host number {host} is not a number from 1 to 65535; if the user or the password contains \
         any of : / ? # @ [ ] %, write it percent-encoded (@ is %40, / is %2F)"
    )]
    Port {
        /// Which host, counted from 1.
        host: usize,
    },
    /// An opening bracket without its end.
    #[error(
        "host number {host} begins with [ but is not an IPv6 address in brackets; write [::1]:5432"
    )]
    Brackets {
        /// Which host, counted from 1.
        host: usize,
    },
    /// Several ports that do not match the hosts.
    #[error("{ports} ports are given for {hosts} hosts; give one for all, or one for each")]
    PortCount {
        /// How many hosts.
        hosts: usize,
        /// How many ports.
        ports: usize,
    },
    /// Linux's sockets without a file.
    #[error("abstract Unix sockets (@name) are not supported; give the socket's directory")]
    AbstractSocket,
    /// A TLS mode that is none.
    #[error(
        "{parameter} must be one of disable, allow, prefer, require, verify-ca, verify-full{}",
        if *.parameter == "ssl" { ", or true or false" } else { "" }
    )]
    SslMode {
        /// The parameter's name.
        parameter: &'static str,
    },
    /// A timeout that is not a number of seconds.
    #[error("{parameter} must be a number of seconds")]
    Timeout {
        /// The parameter's name.
        parameter: &'static str,
    },
    /// A quote in a key=value string that does not end.
    #[error("a quoted value does not end; close it with ', and write a ' inside as \\'")]
    Quote,
    /// A word in a key=value string that is no pair.
    #[error(
        "pair number {pair} has no = between its key and its value; a value with spaces stands in single quotes"
    )]
    Pair {
        /// Which pair, counted from 1.
        pair: usize,
    },
}

//! Where PostgreSQL is: a host, its port, and how the connection is encrypted.

use std::fmt;
use std::path::PathBuf;

/// How a host is reached.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name or an address.
    Tcp(String),
    /// The directory of a Unix socket.
    Unix(PathBuf),
}

/// A host and its port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port; with a Unix socket it is part of the file's name.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Tcp(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            Host::Tcp(host) => write!(f, "{host}:{}", self.port),
            Host::Unix(dir) => write!(f, "{}/.s.PGSQL.{}", dir.display(), self.port),
        }
    }
}

/// libpq's `sslmode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SslMode {
    /// Never encrypted.
    Disable,
    /// Encrypted only where the server will not have it otherwise.
    Allow,
    /// Encrypted where the server can.
    #[default]
    Prefer,
    /// Always encrypted; the certificate is looked at only if a root is given.
    Require,
    /// Always encrypted, the certificate's chain is verified.
    VerifyCa,
    /// Always encrypted, chain and name are verified.
    VerifyFull,
}

//! Where a database is and how to reach it: connection URLs in every dialect that applications write.
//!
//! [`Dsn::parse`] reads libpq's URLs and key=value strings, SQLAlchemy's `postgresql+driver://` and JDBC's form, and
//! makes one value of them; [`Dsn::render`] writes that value in any of those forms. Two rules hold everywhere:
//! an error never repeats a part of its input (a mistyped URL shows its password in unexpected places), and a password
//! is printed only by [`Dsn::render_exposing_password`].

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::secret::Secret;

mod conninfo;
mod error;
mod parameters;
mod render;
#[cfg(test)]
mod tests;
mod url;

pub use error::ParseError;
pub use render::{Form, Rendered};

/// PostgreSQL's port, meant wherever none is written.
pub const DEFAULT_PORT: u16 = 5432;

/// How to reach a database, as one connection URL says it.
#[derive(Clone, PartialEq, Eq)]
pub struct Dsn {
    /// The hosts to try in order; at least one.
    pub hosts: Vec<HostPort>,
    /// The user to log in as; `None` is the operating system's user, as for libpq.
    pub user: Option<String>,
    /// The password, where the URL carries one.
    pub password: Option<Secret>,
    /// The database; `None` is the one named like the user.
    pub database: Option<String>,
    /// How much TLS is asked for.
    pub ssl_mode: SslMode,
    /// The certificate authorities to trust (`sslrootcert`), a PEM file, or the word `system`.
    pub ssl_root_cert: Option<PathBuf>,
    /// Our own certificate (`sslcert`), a PEM file.
    pub ssl_cert: Option<PathBuf>,
    /// The key of our own certificate (`sslkey`), a PEM file.
    pub ssl_key: Option<PathBuf>,
    /// How long opening a connection may take; `None` where the URL does not say or says 0, which is libpq's "for ever".
    pub connect_timeout: Option<Duration>,
    /// The name shown in `pg_stat_activity`.
    pub application_name: Option<String>,
    /// Command-line options for the server's session (`-c name=value …`).
    pub options: Option<String>,
    /// Parameters that poolwatch does not use, in their order: mostly settings of the application's own driver.
    pub params: Vec<(String, String)>,
}

impl Dsn {
    /// Reads a connection URL or a key=value string of any dialect.
    ///
    /// # Errors
    /// Says what to change, without repeating any part of the text.
    pub fn parse(text: &str) -> Result<Dsn, ParseError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ParseError::Empty);
        }
        if let Some(parts) = url::split_scheme(text)? {
            return url::parse(parts);
        }
        if text.contains('=') {
            return Dsn::from_parameters(conninfo::split(text)?);
        }
        Err(ParseError::NoScheme)
    }

    /// Builds a value from libpq's parameter names, as key=value strings and `PG*` variables carry them.
    ///
    /// # Errors
    /// As for [`Dsn::parse`].
    pub fn from_parameters<I>(parameters: I) -> Result<Dsn, ParseError>
    where
        I: IntoIterator<Item = (String, String)>,
    {
        let mut reader = parameters::Reader::new(url::Dialect::Libpq);
        for (name, value) in parameters {
            reader.take(&name, value)?;
        }
        reader.finish()
    }

    /// The first host, for labels and logs.
    pub fn first_host(&self) -> &HostPort {
        // The fields are public, so the type cannot promise that there is one.
        static NOWHERE: HostPort = HostPort {
            host: Host::Tcp(String::new()),
            port: DEFAULT_PORT,
        };
        self.hosts.first().unwrap_or(&NOWHERE)
    }
}

impl std::str::FromStr for Dsn {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Dsn::parse(text)
    }
}

/// The URL in libpq's form, its password masked.
impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(Form::Postgres).text)
    }
}

/// As `Display`: a derived one would show the secrets that may be among `params`.
impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({self})")
    }
}

/// A host and a port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostPort {
    /// The machine, or the directory of a Unix socket.
    pub host: Host,
    /// The port; for a Unix socket, the number in its file's name.
    pub port: u16,
}

impl HostPort {
    /// A TCP host: a name or an address, an IPv6 address without brackets.
    pub fn tcp(host: impl Into<String>, port: u16) -> Self {
        Self {
            host: Host::Tcp(host.into()),
            port,
        }
    }

    /// A Unix socket in this directory.
    pub fn unix(directory: impl Into<PathBuf>, port: u16) -> Self {
        Self {
            host: Host::Unix(directory.into()),
            port,
        }
    }

    /// The Unix socket's file, named as PostgreSQL names it; `None` for TCP.
    pub fn socket_path(&self) -> Option<PathBuf> {
        match &self.host {
            Host::Tcp(_) => None,
            Host::Unix(directory) => Some(directory.join(format!("{SOCKET_FILE}{}", self.port))),
        }
    }
}

/// `host:port`, `[v6]:port`, or the path of the socket's file.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.socket_path()) {
            (_, Some(path)) => write!(f, "{}", path.display()),
            (Host::Tcp(host), None) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            (host, None) => write!(f, "{host}:{}", self.port),
        }
    }
}

/// What a server's socket is called before its port (PostgreSQL, `src/include/libpq/pqcomm.h`, `UNIXSOCK_PATH`).
const SOCKET_FILE: &str = ".s.PGSQL.";

/// The machine that a server runs on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Host {
    /// A name or an address; an IPv6 address without brackets.
    Tcp(String),
    /// The directory in which the server's Unix socket lies.
    Unix(PathBuf),
}

impl Host {
    /// Reads a host as libpq does: an absolute path is a socket's directory, all else a name or an address.
    ///
    /// A path that ends in the socket's own file also gives the port.
    fn read(text: &str) -> Result<(Host, Option<u16>), ParseError> {
        if text.starts_with('@') {
            return Err(ParseError::AbstractSocket);
        }
        if !text.starts_with('/') {
            return Ok((Host::Tcp(unbracket(text).to_owned()), None));
        }
        let (mut directory, mut port) = (Path::new(text), None);
        // Again and again: a directory that is called like a socket could not be written down as one.
        while let Some((number, parent)) = socket_file(directory) {
            port = port.or(Some(number));
            directory = parent;
        }
        Ok((Host::Unix(directory.to_owned()), port))
    }
}

/// The port in a path that ends in a socket's file, and the directory before it.
fn socket_file(path: &Path) -> Option<(u16, &Path)> {
    let port = path.file_name()?.to_str()?.strip_prefix(SOCKET_FILE)?;
    Some((port.parse().ok()?, path.parent()?))
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Tcp(host) => f.write_str(host),
            Host::Unix(directory) => write!(f, "{}", directory.display()),
        }
    }
}

fn unbracket(text: &str) -> &str {
    text.strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(text)
}

/// How much TLS a connection asks for, in libpq's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS only if the server refuses to go without.
    Allow,
    /// TLS if the server offers it.
    #[default]
    Prefer,
    /// TLS, whoever the server is.
    Require,
    /// TLS, and the certificate is signed by an authority we trust.
    VerifyCa,
    /// TLS, the certificate is signed by an authority we trust and names the host.
    VerifyFull,
}

impl SslMode {
    /// All modes, from the weakest to the strongest.
    pub const ALL: [SslMode; 6] = [
        SslMode::Disable,
        SslMode::Allow,
        SslMode::Prefer,
        SslMode::Require,
        SslMode::VerifyCa,
        SslMode::VerifyFull,
    ];

    /// The mode as URLs spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            SslMode::Disable => "disable",
            SslMode::Allow => "allow",
            SslMode::Prefer => "prefer",
            SslMode::Require => "require",
            SslMode::VerifyCa => "verify-ca",
            SslMode::VerifyFull => "verify-full",
        }
    }

    fn read(text: &str) -> Option<SslMode> {
        // asyncpg also takes underscores.
        let text = text.to_ascii_lowercase().replace('_', "-");
        SslMode::ALL.into_iter().find(|mode| mode.as_str() == text)
    }
}

impl fmt::Display for SslMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

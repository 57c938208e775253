//! What the parameters of a connection mean, whichever dialect spells them.

use std::path::PathBuf;
use std::time::Duration;

use super::url::Dialect;
use super::{DEFAULT_PORT, Dsn, Host, HostPort, ParseError, SslMode};
use crate::secret::Secret;

/// Collects a connection's parts and parameters, then makes a [`Dsn`] of them.
pub(super) struct Reader {
    dialect: Dialect,
    dsn: Dsn,
    /// Hosts of `host=`; they win over those before the path, as libpq and SQLAlchemy have it.
    named_hosts: Vec<(Host, Option<u16>)>,
    /// `hostaddr`, used where no host is named.
    addresses: Vec<(Host, Option<u16>)>,
    /// `port=`, one for all hosts or one for each.
    ports: Vec<Option<u16>>,
    /// Hosts before the path.
    authority_hosts: Vec<(Host, Option<u16>)>,
}

impl Reader {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            dsn: Dsn {
                hosts: Vec::new(),
                user: None,
                password: None,
                database: None,
                ssl_mode: SslMode::default(),
                ssl_root_cert: None,
                ssl_cert: None,
                ssl_key: None,
                connect_timeout: None,
                application_name: None,
                options: None,
                params: Vec::new(),
            },
            named_hosts: Vec::new(),
            addresses: Vec::new(),
            ports: Vec::new(),
            authority_hosts: Vec::new(),
        }
    }

    /// Adds a host that stands before the path.
    pub(super) fn authority_host(&mut self, host: Host, port: Option<u16>) {
        self.authority_hosts.push((host, port));
    }

    /// Takes one parameter under the name that any dialect gives it. An empty value means "not given", as for libpq.
    pub(super) fn take(&mut self, name: &str, value: String) -> Result<(), ParseError> {
        if value.contains('\0') || name.contains('\0') {
            return Err(ParseError::ZeroByte { part: "parameters" });
        }
        if value.is_empty() {
            return Ok(());
        }
        match name {
            "user" => self.dsn.user = Some(value),
            "password" => self.dsn.password = Some(Secret::new(value)),
            "dbname" | "database" => self.dsn.database = Some(value),
            "host" => self.take_hosts(&value)?,
            "hostaddr" => self.addresses = hosts(&value, false)?,
            "unix_sock" => self.named_hosts = vec![Host::read(&value)?],
            "port" => self.ports = ports(&value)?,
            "sslmode" => self.dsn.ssl_mode = ssl_mode("sslmode", &value)?,
            "ssl" => self.take_ssl(&value)?,
            "sslrootcert" => self.dsn.ssl_root_cert = Some(PathBuf::from(value)),
            "sslcert" => self.dsn.ssl_cert = Some(PathBuf::from(value)),
            "sslkey" => self.dsn.ssl_key = Some(PathBuf::from(value)),
            "connect_timeout" => self.dsn.connect_timeout = seconds("connect_timeout", &value)?,
            "connectTimeout" => self.dsn.connect_timeout = seconds("connectTimeout", &value)?,
            "timeout" if self.dialect.is_sqlalchemy() => {
                self.dsn.connect_timeout = seconds("timeout", &value)?;
            }
            "application_name" | "ApplicationName" => self.dsn.application_name = Some(value),
            "options" => self.dsn.options = Some(value),
            _ => self.dsn.params.push((name.to_owned(), value)),
        }
        Ok(())
    }

    /// Makes the value: joins hosts with ports, and where no host is named takes this machine.
    pub(super) fn finish(self) -> Result<Dsn, ParseError> {
        let hosts = [self.named_hosts, self.addresses, self.authority_hosts]
            .into_iter()
            .find(|hosts| !hosts.is_empty())
            .unwrap_or_else(|| vec![(Host::Tcp("localhost".to_owned()), None)]);
        if self.ports.len() > 1 && self.ports.len() != hosts.len() {
            return Err(ParseError::PortCount {
                hosts: hosts.len(),
                ports: self.ports.len(),
            });
        }
        let port = |at: usize| self.ports.get(at).or(self.ports.first()).copied().flatten();
        let hosts = hosts
            .into_iter()
            .enumerate()
            .map(|(at, (host, own))| HostPort {
                host,
                port: own.or(port(at)).unwrap_or(DEFAULT_PORT),
            })
            .collect();
        Ok(Dsn { hosts, ..self.dsn })
    }

    /// SQLAlchemy repeats `host=` for several hosts and lets each carry its port; libpq separates by commas.
    fn take_hosts(&mut self, value: &str) -> Result<(), ParseError> {
        let more = hosts(value, self.dialect.is_sqlalchemy())?;
        if self.dialect.is_sqlalchemy() {
            self.named_hosts.extend(more);
        } else {
            self.named_hosts = more;
        }
        Ok(())
    }

    /// `ssl=`: a mode for asyncpg; `true` is verify-full for pgjdbc and asyncpg, but require where libpq reads it.
    fn take_ssl(&mut self, value: &str) -> Result<(), ParseError> {
        self.dsn.ssl_mode = match value.to_ascii_lowercase().as_str() {
            "true" if self.dialect == Dialect::Libpq => SslMode::Require,
            "true" => SslMode::VerifyFull,
            // pgjdbc's false asks for nothing in particular.
            "false" if self.dialect == Dialect::Jdbc => self.dsn.ssl_mode,
            "false" => SslMode::Disable,
            _ => ssl_mode("ssl", value)?,
        };
        Ok(())
    }
}

fn ssl_mode(parameter: &'static str, value: &str) -> Result<SslMode, ParseError> {
    SslMode::read(value).ok_or(ParseError::SslMode { parameter })
}

fn hosts(value: &str, with_ports: bool) -> Result<Vec<(Host, Option<u16>)>, ParseError> {
    value
        .split(',')
        .enumerate()
        .map(|(at, text)| host(text.trim(), with_ports, at + 1))
        .collect()
}

/// One host of `host=`. Where ports may stand with it, an IPv6 address that has one is in brackets.
fn host(text: &str, with_ports: bool, number: usize) -> Result<(Host, Option<u16>), ParseError> {
    if text.is_empty() {
        return Ok((Host::Tcp("localhost".to_owned()), None));
    }
    if !with_ports || text.starts_with('/') {
        return Host::read(text);
    }
    match text.rsplit_once(':') {
        Some((host, digits)) if host.ends_with(']') || !host.contains(':') => {
            let port = port(digits).ok_or(ParseError::Port { host: number })?;
            Ok((Host::read(host)?.0, port))
        }
        _ => Host::read(text),
    }
}

/// The ports of `port=`; an empty one is the default.
fn ports(value: &str) -> Result<Vec<Option<u16>>, ParseError> {
    value
        .split(',')
        .enumerate()
        .map(|(at, text)| port(text.trim()).ok_or(ParseError::Port { host: at + 1 }))
        .collect()
}

/// A port: `Some(None)` for no text, `None` for a text that is no port.
pub(super) fn port(text: &str) -> Option<Option<u16>> {
    if text.is_empty() {
        return Some(None);
    }
    // `parse` alone would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse()
        .ok()
        .filter(|port| digits && *port > 0)
        .map(Some)
}

/// Seconds; zero and less mean "for ever" to libpq, which is the same as not saying.
fn seconds(parameter: &'static str, value: &str) -> Result<Option<Duration>, ParseError> {
    let wrong = ParseError::Timeout { parameter };
    let seconds: f64 = value.trim().parse().map_err(|_| wrong.clone())?;
    if seconds <= 0.0 {
        return Ok(None);
    }
    Duration::try_from_secs_f64(seconds)
        .map(Some)
        .map_err(|_| wrong)
}

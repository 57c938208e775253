//! Connection URLs: libpq's, SQLAlchemy's and JDBC's.

use percent_encoding::percent_decode_str;

use super::parameters::{Reader, port};
use super::{Dsn, Host, ParseError};

/// Whose rules a URL is written by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `postgresql://`, `postgres://` and key=value strings.
    Libpq,
    /// `postgresql+driver://`.
    SqlAlchemy,
    /// `jdbc:postgresql:`.
    Jdbc,
}

impl Dialect {
    pub(super) fn is_sqlalchemy(self) -> bool {
        self == Dialect::SqlAlchemy
    }

    /// Python and Java read `+` in a query as a space; libpq does not.
    fn plus_is_space(self) -> bool {
        self != Dialect::Libpq
    }
}

/// A URL whose scheme was recognised.
pub(super) struct Parts<'a> {
    dialect: Dialect,
    /// What follows `scheme://`; for JDBC's short form, which has no host, the path with its slash.
    rest: std::borrow::Cow<'a, str>,
}

/// Recognises the scheme; `None` where the text has none.
pub(super) fn split_scheme(text: &str) -> Result<Option<Parts<'_>>, ParseError> {
    if let Some(rest) = strip_prefix_ignoring_case(text, "jdbc:") {
        return jdbc(rest).map(Some);
    }
    if strip_prefix_ignoring_case(text, "sqlite:").is_some() {
        return Err(ParseError::Sqlite);
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Ok(None);
    };
    let plausible = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_'));
    if !plausible {
        return Ok(None);
    }
    let scheme = scheme.to_ascii_lowercase();
    let dialect = match scheme.split_once('+') {
        None if is_postgres(&scheme) => Dialect::Libpq,
        // The driver is the application's affair: every one of them follows SQLAlchemy's grammar.
        Some((name, _)) if is_postgres(name) => Dialect::SqlAlchemy,
        Some(("sqlite", _)) => return Err(ParseError::Sqlite),
        _ => return Err(ParseError::Scheme { scheme }),
    };
    Ok(Some(Parts {
        dialect,
        rest: rest.into(),
    }))
}

/// Reads what follows the scheme.
pub(super) fn parse(parts: Parts<'_>) -> Result<Dsn, ParseError> {
    let dialect = parts.dialect;
    let mut reader = Reader::new(dialect);
    let (credentials, rest) = split_credentials(&parts.rest, dialect);
    if let Some(credentials) = credentials {
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        reader.take("user", decode(user, "user")?)?;
        reader.take("password", decode(password, "password")?)?;
    }
    let (before_query, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (hosts, database) = before_query.split_once('/').unwrap_or((before_query, ""));
    if !hosts.is_empty() {
        for (at, text) in hosts.split(',').enumerate() {
            let (host, port) = authority_host(text, at + 1)?;
            reader.authority_host(host, port);
        }
    }
    reader.take("dbname", decode(database, "database name")?)?;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (name, value) = (query_text(name, dialect)?, query_text(value, dialect)?);
        // pgjdbc: the mere presence of `ssl` asks for TLS.
        let bare_ssl = dialect == Dialect::Jdbc && name == "ssl" && value.is_empty();
        let value = if bare_ssl { "true".to_owned() } else { value };
        reader.take(&name, value)?;
    }
    reader.finish()
}

/// `jdbc:postgresql://host/database`, `jdbc:postgresql:/database` or `jdbc:postgresql:database`.
fn jdbc(text: &str) -> Result<Parts<'_>, ParseError> {
    if strip_prefix_ignoring_case(text, "sqlite:").is_some() {
        return Err(ParseError::Sqlite);
    }
    let Some(rest) = strip_prefix_ignoring_case(text, "postgresql:") else {
        return Err(ParseError::Jdbc);
    };
    let rest = match rest.strip_prefix("//") {
        Some(rest) => rest.into(),
        None => format!("/{}", rest.trim_start_matches('/')).into(),
    };
    Ok(Parts {
        dialect: Dialect::Jdbc,
        rest,
    })
}

fn is_postgres(scheme: &str) -> bool {
    matches!(scheme, "postgres" | "postgresql")
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix)
        .then(|| &text[prefix.len()..])
}

/// Splits `user:password@` off.
///
/// The `@` is the last one before the path, so that a password may contain one. SQLAlchemy lets a password also
/// contain `/` and `?`; where reading the host as libpq does makes no sense, that is what was meant.
fn split_credentials(text: &str, dialect: Dialect) -> (Option<&str>, &str) {
    let authority_end = text.find(['/', '?']).unwrap_or(text.len());
    let authority = &text[..authority_end];
    if let Some(at) = authority.rfind('@') {
        return (Some(&text[..at]), &text[at + 1..]);
    }
    let Some((_, after_colon)) = authority.split_once(':') else {
        return (None, text);
    };
    let is_port = port(after_colon).is_some() || authority.contains([',', '[']);
    let path_end = text.find('?').unwrap_or(text.len());
    let at = if dialect.is_sqlalchemy() && authority_end < path_end {
        text[..path_end].find('@')
    } else {
        None
    };
    match at.or_else(|| if is_port { None } else { text.find('@') }) {
        Some(at) => (Some(&text[..at]), &text[at + 1..]),
        None => (None, text),
    }
}

/// One host before the path: `name:port`, `[v6]:port` or a percent-encoded socket directory.
fn authority_host(text: &str, number: usize) -> Result<(Host, Option<u16>), ParseError> {
    let (host, digits) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest
                .split_once(']')
                .ok_or(ParseError::Brackets { host: number })?;
            let digits = match after.strip_prefix(':') {
                Some(digits) => digits,
                None if after.is_empty() => "",
                None => return Err(ParseError::Brackets { host: number }),
            };
            (host, digits)
        }
        None => text.rsplit_once(':').unwrap_or((text, "")),
    };
    let given = port(digits).ok_or(ParseError::Port { host: number })?;
    let host = decode(host, "host")?;
    if host.is_empty() {
        return Ok((Host::Tcp("localhost".to_owned()), given));
    }
    if host.contains('\0') {
        return Err(ParseError::ZeroByte { part: "host" });
    }
    let (host, of_file) = Host::read(&host)?;
    Ok((host, given.or(of_file)))
}

fn query_text(text: &str, dialect: Dialect) -> Result<String, ParseError> {
    if dialect.plus_is_space() {
        return decode(&text.replace('+', " "), "parameters");
    }
    decode(text, "parameters")
}

/// Undoes percent-encoding, and refuses what it cannot mean rather than passing it on.
fn decode(text: &str, part: &'static str) -> Result<String, ParseError> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let digits = bytes.get(at + 1..at + 3);
        if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
            return Err(ParseError::Percent { part });
        }
    }
    percent_decode_str(text)
        .decode_utf8()
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| ParseError::NotUtf8 { part })
}

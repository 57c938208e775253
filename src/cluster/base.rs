//! The run-time parameters that a client's queries run with.
//!
//! A client names parameters when it logs in. Those that PostgreSQL reports (`client_encoding`, `DateStyle`, `TimeZone`,
//! `application_name` …) can be compared at every checkout, so any server can serve the client: it is given what differs,
//! in one statement, and nothing when it agrees, which is the rule because an application's connections are alike. Those
//! that it does not report cannot be compared: the session keeps the server they were set on.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::backend::{Parameters, QueryError, Server};
use crate::pgwire::StartupParameters;

/// Reported, but not for a client to set.
const NOT_SETTABLE: [&str; 6] = [
    "server_version",
    "server_encoding",
    "integer_datetimes",
    "is_superuser",
    "session_authorization",
    "in_hot_standby",
];

/// In a startup packet, but no run-time parameters.
const NOT_PARAMETERS: [&str; 4] = ["user", "database", "replication", "options"];

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// One set of parameters, shared by all clients that asked for the same.
#[derive(Debug)]
pub struct Base {
    id: u64,
    /// Settable parameters that the server reports, with the value this client sees.
    tracked: Vec<(String, String)>,
    /// Everything the server reports, for the client's login.
    reported: Vec<(String, String)>,
    /// Parameters that the server does not report.
    unreported: Vec<(String, String)>,
}

/// Why parameters could not be set.
#[derive(Debug, thiserror::Error)]
pub enum BaseError {
    /// PostgreSQL refused them, or the connection failed.
    #[error("could not set the client's parameters")]
    Query(#[from] QueryError),
    /// It took too long.
    #[error("the client's parameters were not set within {0:?}")]
    Deadline(Duration),
    /// `options` is not a list of `-c name=value`.
    #[error("invalid startup options: expected -c name=value, found {0:?}")]
    Options(String),
}

impl BaseError {
    /// What PostgreSQL itself said, if it was asked.
    pub fn server_error(&self) -> Option<&crate::pgwire::ServerMessage> {
        match self {
            BaseError::Query(error) => error.server_error(),
            BaseError::Deadline(_) | BaseError::Options(_) => None,
        }
    }
}

/// What a client asked for, in its order: run-time parameters of the packet, then those in `options`.
///
/// # Errors
/// [`BaseError::Options`].
pub(super) fn requested(
    parameters: &StartupParameters,
) -> Result<Vec<(String, String)>, BaseError> {
    let mut requested = options(parameters.value("options").unwrap_or_default())?;
    for (name, value) in &parameters.0 {
        if !NOT_PARAMETERS.contains(&name.as_str()) && !name.starts_with("_pq_.") {
            requested.push((name.clone(), value.clone()));
        }
    }
    Ok(requested)
}

/// Splits `-c name=value --name=value`, where a backslash keeps a space (PostgreSQL, `pg_split_opts`).
fn options(text: &str) -> Result<Vec<(String, String)>, BaseError> {
    let mut words = split_words(text).into_iter();
    let mut found = Vec::new();
    while let Some(word) = words.next() {
        let setting = match word.strip_prefix("--") {
            Some(long) => long.to_owned(),
            None if word == "-c" => words.next().unwrap_or_default(),
            None => word
                .strip_prefix("-c")
                .map(str::to_owned)
                .ok_or_else(|| BaseError::Options(word.clone()))?,
        };
        let Some((name, value)) = setting.split_once('=') else {
            return Err(BaseError::Options(word));
        };
        found.push((name.replace('-', "_"), value.to_owned()));
    }
    Ok(found)
}

fn split_words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut inside = false;
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                inside = true;
                word.extend(characters.next());
            }
            space if space.is_ascii_whitespace() => {
                if std::mem::take(&mut inside) {
                    words.push(std::mem::take(&mut word));
                }
            }
            other => {
                inside = true;
                word.push(other);
            }
        }
    }
    if inside {
        words.push(word);
    }
    words
}

impl Base {
    /// Sets what was asked for on this server and reads how it reports that. What was not asked for is what servers
    /// begin with now, which this one may not have done.
    pub(super) async fn establish(
        server: &mut Server,
        defaults: &Parameters,
        requested: &[(String, String)],
        limit: Duration,
    ) -> Result<Self, BaseError> {
        let wanted = |name: &str| {
            requested
                .iter()
                .rev()
                .find(|(key, _)| key.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.clone())
        };
        let tracked: Vec<_> = defaults
            .iter()
            .filter(|(name, _)| !NOT_SETTABLE.contains(name))
            .map(|(name, initial)| {
                (
                    name.to_owned(),
                    wanted(name).unwrap_or_else(|| initial.to_owned()),
                )
            })
            .collect();
        // What nobody can set is among what is set, for PostgreSQL to refuse in its own words.
        let is_tracked = |name: &str| {
            tracked
                .iter()
                .any(|(key, _)| key.eq_ignore_ascii_case(name))
        };
        let unreported: Vec<_> = requested
            .iter()
            .filter(|(name, _)| !is_tracked(name))
            .cloned()
            .collect();
        let mut base = Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            tracked,
            reported: Vec::new(),
            unreported,
        };
        base.align(server, limit).await?;
        // The server's own spelling ("UTF8", "ISO, MDY") is what later comparisons meet.
        for (name, value) in &mut base.tracked {
            if let Some(reported) = server.parameters().get(name) {
                reported.clone_into(value);
            }
        }
        base.reported = server
            .parameters()
            .iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(base)
    }

    /// Gives a server this client's parameters, in one round trip, or none when it has them.
    ///
    /// # Errors
    /// See [`BaseError`]; the server must not be used then.
    pub async fn align(&self, server: &mut Server, limit: Duration) -> Result<(), BaseError> {
        let differing = self
            .tracked
            .iter()
            .filter(|(name, value)| server.parameters().get(name) != Some(value));
        let settings: Vec<_> = differing.map(setting).collect();
        self.set(server, settings, limit).await?;
        server.set_applied(self.id);
        Ok(())
    }

    /// Sets what the server does not report; the session keeps the server from then on.
    ///
    /// # Errors
    /// See [`BaseError`].
    pub async fn set_unreported(
        &self,
        server: &mut Server,
        limit: Duration,
    ) -> Result<(), BaseError> {
        let settings: Vec<_> = self.unreported.iter().map(setting).collect();
        self.set(server, settings, limit).await
    }

    async fn set(
        &self,
        server: &mut Server,
        settings: Vec<String>,
        limit: Duration,
    ) -> Result<(), BaseError> {
        if settings.is_empty() {
            return Ok(());
        }
        let statement = format!("SELECT {}", settings.join(", "));
        match tokio::time::timeout(limit, server.simple_query(&statement)).await {
            Ok(result) => Ok(result.map(drop)?),
            Err(_) => Err(BaseError::Deadline(limit)),
        }
    }

    /// Identifies the set; a server remembers whose parameters it has by this.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether a server is what the set says of it, in what no client can set.
    pub(super) fn describes(&self, server: &Server) -> bool {
        self.reported
            .iter()
            .filter(|(name, _)| NOT_SETTABLE.contains(&name.as_str()))
            .all(|(name, value)| server.parameters().get(name) == Some(value))
    }

    /// What the client is told at login.
    pub fn reported(&self) -> &[(String, String)] {
        &self.reported
    }

    /// Whether a server that has these parameters must be reset before others use it.
    pub fn leaves_state(&self) -> bool {
        !self.unreported.is_empty()
    }
}

/// One call of `set_config`, which takes a value as text exactly as a startup packet does.
fn setting((name, value): &(String, String)) -> String {
    format!(
        "pg_catalog.set_config({}, {}, false)",
        literal(name),
        literal(value)
    )
}

/// A string literal that reads the same whatever `standard_conforming_strings` is.
fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!(" E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_settings() {
        let found = options(r"-c geqo=off --statement-timeout=5min -csearch_path=a,\ b").unwrap();
        let expected = [
            ("geqo", "off"),
            ("statement_timeout", "5min"),
            ("search_path", "a, b"),
        ];
        assert_eq!(
            found,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert!(matches!(options("-x"), Err(BaseError::Options(_))));
        assert!(matches!(options("-c nothing"), Err(BaseError::Options(_))));
    }

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"a\'b"), r" E'a\\''b'");
    }
}

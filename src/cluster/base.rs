//! The run-time parameters that a client's queries run with.
//!
//! A client names parameters when it logs in, and may set others later. Those that PostgreSQL reports (`client_encoding`,
//! `DateStyle`, `TimeZone`, `application_name` …) can be compared at every checkout, so any server can serve the client:
//! it is given what differs, in one statement, and nothing when it agrees, which is the rule because an application's
//! connections are alike. Of those that it does not report, a server remembers which were set on it for a login: another
//! client's are taken back and this one's set, in the same statement.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::backend::{Carried, Parameters, QueryError, Server};
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

/// Lists of quoted names (`GUC_LIST_QUOTE`): a literal in SET is one name of them.
const LISTS: [&str; 5] = [
    "search_path",
    "temp_tablespaces",
    "local_preload_libraries",
    "session_preload_libraries",
    "shared_preload_libraries",
];

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// One set of parameters, shared by all clients that have the same.
#[derive(Debug)]
pub struct Base {
    id: u64,
    /// What the client logged in with; `None` if this is it.
    login: Option<Arc<Base>>,
    /// Settable parameters that the server reports, with the value this client sees.
    tracked: Values,
    /// Everything the server reports, for the client's login.
    reported: Values,
    /// Parameters of the login that the server does not report.
    unreported: Carried,
}

/// Parameters with their values.
pub(super) type Values = Vec<(String, String)>;

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
    /// Whether PostgreSQL refused, and its connection is in step.
    pub fn is_refusal(&self) -> bool {
        self.server_error().is_some_and(|error| !error.is_fatal())
    }

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
        let unreported: Carried = requested
            .iter()
            .filter(|(name, _)| !is_tracked(name))
            .cloned()
            .collect();
        let mut base = Self {
            id: next_id(),
            login: None,
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
    /// See [`BaseError`]. After a refusal by PostgreSQL the server is as it was; else it must not be used.
    pub(super) async fn align(
        &self,
        server: &mut Server,
        limit: Duration,
    ) -> Result<(), BaseError> {
        let mut statement = Settings::default();
        if server.in_doubt() || !same(server.carried(), &self.unreported) {
            for (name, _) in server.carried().iter() {
                if !has(&self.unreported, name) {
                    statement.add(name, None);
                }
            }
            for (name, value) in self.unreported.iter() {
                statement.add(name, Some(value));
            }
        }
        for (name, value) in &self.tracked {
            if server.parameters().get(name) != Some(value) {
                statement.add(name, Some(value));
            }
        }
        if let Some(statement) = statement.finish() {
            tokio::time::timeout(limit, server.simple_query(&statement))
                .await
                .map_err(|_| BaseError::Deadline(limit))??;
        }
        server.set_carried(self.unreported.clone());
        server.set_applied(self.id);
        Ok(())
    }

    /// The set of a client that had this one and left these values behind it; `None` if it is this one. Sets of the same
    /// values are to be shared: `known` finds one by the login it belongs to and its values.
    pub(super) fn changed(
        self: &Arc<Self>,
        now: &Parameters,
        known: impl FnOnce(u64, &Values) -> Option<Arc<Base>>,
    ) -> Option<Arc<Base>> {
        let value = |name: &str, old: &String| now.get(name).map_or(old.clone(), str::to_owned);
        let tracked: Values = self
            .tracked
            .iter()
            .map(|(name, old)| (name.clone(), value(name, old)))
            .collect();
        if tracked == self.tracked {
            return None;
        }
        let login = self.login();
        if tracked == login.tracked {
            return Some(login.clone());
        }
        Some(known(login.id, &tracked).unwrap_or_else(|| {
            Arc::new(Self {
                id: next_id(),
                tracked,
                reported: Vec::new(),
                unreported: login.unreported.clone(),
                login: Some(login.clone()),
            })
        }))
    }

    /// What the client logged in with.
    pub fn login(self: &Arc<Self>) -> &Arc<Base> {
        self.login.as_ref().unwrap_or(self)
    }

    /// The values that are compared and set at each checkout.
    pub(super) fn tracked(&self) -> &Values {
        &self.tracked
    }

    /// The statements that give a server the values of the login again, where a client's RESET or the like gives it these
    /// `defaults`; `lost` tells of which parameters. They take no snapshot, for the client may go on to say which isolation
    /// its transaction is to have; but for lists of names, which SET takes apart in another way.
    pub fn restoring(&self, defaults: &Parameters, lost: impl Fn(&str) -> bool) -> Vec<String> {
        let unreported = self.unreported.iter().filter(|(name, _)| lost(name));
        let tracked = self
            .tracked
            .iter()
            .filter(|(name, value)| lost(name) && defaults.get(name) != Some(value));
        unreported
            .chain(tracked)
            .filter_map(
                |(name, value)| match LISTS.contains(&name.to_lowercase().as_str()) {
                    true => {
                        let mut statement = Settings::default();
                        statement.add(name, Some(value));
                        statement.finish()
                    }
                    false => {
                        let parts: Vec<_> = name
                            .split('.')
                            .map(|part| format!("\"{}\"", part.replace('"', "\"\"")))
                            .collect();
                        Some(format!("SET {} TO {}", parts.join("."), literal(value)))
                    }
                },
            )
            .collect()
    }

    /// The value of a parameter that follows the client, or that it logged in with.
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut values = self.tracked.iter().chain(self.unreported.iter());
        values
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether a parameter follows the client from server to server.
    pub fn tracks(&self, name: &str) -> bool {
        has(&self.tracked, name)
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
}

fn next_id() -> u64 {
    NEXT_ID.fetch_add(1, Ordering::Relaxed)
}

fn has(values: &[(String, String)], name: &str) -> bool {
    values.iter().any(|(key, _)| key.eq_ignore_ascii_case(name))
}

fn same(a: &Carried, b: &Carried) -> bool {
    Arc::ptr_eq(a, b) || a == b
}

/// A statement that sets parameters.
#[derive(Debug, Default)]
struct Settings(String);

impl Settings {
    /// Adds a call of `set_config`, which takes a value as text exactly as a startup packet does; and no value for the one
    /// that the server began with.
    fn add(&mut self, name: &str, value: Option<&str>) {
        let before = if self.0.is_empty() { "SELECT" } else { "," };
        let value = value.map_or_else(|| "NULL".to_owned(), literal);
        // Writing to a String cannot fail.
        let _ = write!(
            self.0,
            "{before} pg_catalog.set_config({}, {value}, false)",
            literal(name)
        );
    }

    fn finish(self) -> Option<String> {
        (!self.0.is_empty()).then_some(self.0)
    }
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

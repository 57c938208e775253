//! Where a database stands: the scripts against the table.

use serde::Serialize;

use super::{Applied, Directory};

/// What there is to say of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It was run, and the file is as it was then.
    Applied,
    /// It was run, and the file has changed since.
    Changed,
    /// It was run, and there is no file.
    Missing,
    /// It was begun and did not end; only other tools leave that.
    Unfinished,
    /// It is to be run.
    Pending,
    /// It is to be run, but a later one was run before it.
    OutOfOrder,
}

impl State {
    /// The word for people.
    pub fn label(self) -> &'static str {
        match self {
            State::Applied => "applied",
            State::Changed => "changed",
            State::Missing => "missing",
            State::Unfinished => "unfinished",
            State::Pending => "pending",
            State::OutOfOrder => "out of order",
        }
    }
}

/// One version.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// Its number.
    pub version: i64,
    /// Its name, words separated by spaces.
    pub description: String,
    /// Where it stands.
    pub state: State,
    /// The script, where there is one.
    pub file: Option<String>,
    /// When it was run, RFC 3339.
    pub installed_on: Option<String>,
    /// How long it ran.
    pub seconds: Option<f64>,
    /// Whether there is a way back.
    pub reversible: bool,
}

/// What keeps migrations from being run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file was changed.
    #[error(
        "{file} has changed since it was applied (version {version}): bring the old text back, and make the change in a new one"
    )]
    Changed {
        /// Which.
        version: i64,
        /// The file.
        file: String,
    },
    /// The file is gone.
    #[error(
        "version {version} ({description}) was applied, and there is no file for it: is this the right directory, or an older checkout?"
    )]
    Missing {
        /// Which.
        version: i64,
        /// What it was called.
        description: String,
    },
    /// A gap.
    #[error(
        "{file} (version {version}) was never applied, but version {latest} was: give it a number above that"
    )]
    OutOfOrder {
        /// Which.
        version: i64,
        /// The file.
        file: String,
        /// The latest that was applied.
        latest: i64,
    },
    /// Half of it was run.
    #[error(
        "version {version} ({description}) was begun by another tool and did not end: mend the database and its row in _sqlx_migrations"
    )]
    Unfinished {
        /// Which.
        version: i64,
        /// What it is called.
        description: String,
    },
}

/// Every version that is in the directory or in the table, in order.
pub fn compare(directory: &Directory, applied: &[Applied]) -> Vec<Row> {
    let latest = applied.iter().map(|applied| applied.version).max();
    let mut rows: Vec<_> = applied
        .iter()
        .map(|applied| {
            let script = directory.up(applied.version);
            let state = match script {
                _ if !applied.success => State::Unfinished,
                None => State::Missing,
                Some(script) if *script.migration.checksum != *applied.checksum => State::Changed,
                Some(_) => State::Applied,
            };
            Row {
                version: applied.version,
                description: applied.description.clone(),
                state,
                file: script.map(|script| script.file.clone()),
                installed_on: Some(applied.installed_on.clone()),
                seconds: applied.seconds,
                reversible: directory.down(applied.version).is_some(),
            }
        })
        .collect();
    for script in directory.ups() {
        let version = script.migration.version;
        if applied.iter().any(|applied| applied.version == version) {
            continue;
        }
        let late = latest.is_some_and(|latest| version < latest);
        rows.push(Row {
            version,
            description: script.migration.description.to_string(),
            state: if late {
                State::OutOfOrder
            } else {
                State::Pending
            },
            file: Some(script.file.clone()),
            installed_on: None,
            seconds: None,
            reversible: directory.down(version).is_some(),
        });
    }
    rows.sort_by_key(|row| row.version);
    rows
}

/// What of it keeps migrations from being run.
pub fn problems(rows: &[Row]) -> Vec<Problem> {
    let ran = rows.iter().filter(|row| row.installed_on.is_some());
    let latest = ran.map(|row| row.version).max().unwrap_or(0);
    rows.iter()
        .filter_map(|row| {
            let (version, description) = (row.version, row.description.clone());
            let file = row.file.clone().unwrap_or_default();
            Some(match row.state {
                State::Applied | State::Pending => return None,
                State::Changed => Problem::Changed { version, file },
                State::Missing => Problem::Missing {
                    version,
                    description,
                },
                State::OutOfOrder => Problem::OutOfOrder {
                    version,
                    file,
                    latest,
                },
                State::Unfinished => Problem::Unfinished {
                    version,
                    description,
                },
            })
        })
        .collect()
}

//! What is wrong with settings, all of it at once.

use std::fmt;

use super::origin::Origin;
use super::table::ROWS;
use super::value::ValueError;

/// Everything that is wrong. One line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(
    /// In the order found; never empty in an error.
    pub Vec<Problem>,
);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where it stands.
    pub origin: Origin,
    /// The key, where one is concerned.
    pub key: Option<String>,
    /// What is wrong.
    pub wrong: Wrong,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.origin != Origin::Default {
            write!(f, "{}: ", self.origin)?;
        }
        if let Some(key) = &self.key {
            write!(f, "{key}: ")?;
        }
        write!(f, "{}", self.wrong)
    }
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// The value is not of the key's type.
    #[error(transparent)]
    Value(#[from] ValueError),
    /// No such key.
    #[error("there is no such key{}", nearest.map_or(String::new(), |name| format!("; did you mean {name}?")))]
    UnknownKey {
        /// The key that was probably meant.
        nearest: Option<&'static str>,
    },
    /// A key at the top of a file.
    #[error("keys stand in a section, such as [pool] with size = 25")]
    NoSection,
    /// A list or a table where one value is wanted.
    #[error("this must be one value, not a table or a list of tables")]
    NotOneValue,
    /// The file could not be read.
    #[error("cannot read it: {cause}")]
    Unreadable {
        /// What the system says.
        cause: String,
    },
    /// The file is not TOML.
    #[error("not TOML: {cause}")]
    Syntax {
        /// The position and what was expected, without the line itself, which may hold a password.
        cause: String,
    },
    /// A secret is given as itself and as a file.
    #[error("{name} is set as well; set one of the two")]
    GivenTwice {
        /// The other variable.
        name: String,
    },
    /// A value that does not fit with what the key is for, or with another key.
    #[error("{must}")]
    Unfit {
        /// What must be, and where it helps, why.
        must: &'static str,
    },
    /// poolwatch would connect to itself.
    #[error(
        "it points at {listener}, where poolwatch itself listens: give poolwatch PostgreSQL's own address \
         in POOLWATCH_UPSTREAM__URL"
    )]
    OwnListener {
        /// Our listener.
        listener: String,
    },
    /// No server is named.
    #[error(
        "no PostgreSQL server is named: give --upstream-url postgresql://user:password@host:5432/database, or set \
         POOLWATCH_UPSTREAM__URL, DATABASE_URL, LETTA_PG_URI, LETTA_PG_HOST with LETTA_PG_USER and LETTA_PG_DB, or PGHOST"
    )]
    NoUpstream,
}

impl Wrong {
    /// The key does not exist; names the nearest one that does.
    pub(super) fn unknown_key(name: &str) -> Wrong {
        let nearest = ROWS
            .iter()
            .map(|row| (distance(name, row.name), row.name))
            .min()
            // Farther than this, a suggestion misleads more often than it helps.
            .filter(|(distance, _)| *distance <= 3)
            .map(|(_, name)| name);
        Wrong::UnknownKey { nearest }
    }
}

/// Levenshtein's distance: how many letters to insert, delete or replace.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

//! Where a value came from.

use std::fmt;
use std::path::PathBuf;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A variable that belongs to the application or to libpq; several where the value was put together.
    DropIn {
        /// The variable, or variables separated by commas.
        name: String,
    },
    /// A settings file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1, where it could be found.
        line: Option<usize>,
    },
    /// A file that holds this value alone.
    SecretFile {
        /// The file.
        path: PathBuf,
        /// The variable that names it; `None` where it was found in a directory of secrets.
        variable: Option<String>,
    },
    /// A variable of our own form.
    Environment {
        /// The variable.
        name: String,
    },
    /// The command line.
    CommandLine {
        /// The flag.
        flag: String,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => f.write_str("default"),
            Origin::DropIn { name } | Origin::Environment { name } => {
                write!(f, "environment {name}")
            }
            Origin::File { path, line: None } => write!(f, "{}", path.display()),
            Origin::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}", path.display()),
            Origin::SecretFile {
                path,
                variable: None,
            } => write!(f, "{}", path.display()),
            Origin::SecretFile {
                path,
                variable: Some(variable),
            } => write!(f, "{} (named by {variable})", path.display()),
            Origin::CommandLine { flag } => write!(f, "command line {flag}"),
        }
    }
}

//! What settings are read from, behind a seam: a test passes a map for the environment and a map for the files.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Reads a file whole.
pub type ReadFile = dyn Fn(&Path) -> io::Result<String> + Send + Sync;

/// Where settings are read from. Kept by the process, so that a reload reads the same places again.
pub struct Sources {
    /// The environment, as the process found it at its start.
    pub environment: BTreeMap<String, String>,
    /// Settings files, a later one winning over an earlier one.
    pub config_files: Vec<PathBuf>,
    /// Values from the command line, in their order.
    pub arguments: Vec<Argument>,
    /// Whether it is an error that no upstream is named.
    pub upstream_required: bool,
    /// Reads a file whole.
    pub read: Box<ReadFile>,
}

impl Sources {
    /// The environment and the files of this process.
    pub fn of_process(config_files: Vec<PathBuf>, arguments: Vec<Argument>) -> Self {
        // What is not UTF-8 cannot be meant for us: no value of ours takes it.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self {
            environment,
            config_files,
            arguments,
            upstream_required: false,
            read: Box::new(|path| std::fs::read_to_string(path)),
        }
    }

    /// Makes it an error that no upstream is named.
    #[must_use]
    pub fn require_upstream(mut self) -> Self {
        self.upstream_required = true;
        self
    }

    /// A variable; an empty one counts as not set, because that is how Compose files and charts pass on what is not.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.environment
            .get(name)
            .map(String::as_str)
            .filter(|value| !value.is_empty())
    }
}

/// The environment holds passwords, so only the places are shown.
impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources")
            .field("config_files", &self.config_files)
            .field("arguments", &self.arguments)
            .finish_non_exhaustive()
    }
}

/// One value from the command line.
#[derive(Clone, PartialEq, Eq)]
pub struct Argument {
    /// The flag, for messages.
    pub flag: String,
    /// The key that it sets.
    pub key: String,
    /// The value.
    pub value: String,
}

/// The value may be a URL with a password.
impl fmt::Debug for Argument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Argument({} for {})", self.flag, self.key)
    }
}

//! A directory of scripts, and what is wrong with it that needs no database to see.

use std::collections::BTreeMap;
use std::path::Path;

use sqlx_core::migrate::{Migration, MigrationType, resolve_blocking};

use super::MigrateError;

/// One file.
#[derive(Debug, Clone)]
pub struct Script {
    /// What sqlx made of it.
    pub migration: Migration,
    /// Its name.
    pub file: String,
}

/// The scripts of a directory, in their order.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    scripts: Vec<Script>,
    /// Files that end in `.sql` and are none, by their names.
    strays: Vec<String>,
}

/// What is wrong with a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Two scripts for one version.
    #[error("version {version} is there more than once: {}", files.join(", "))]
    Duplicate {
        /// Which.
        version: i64,
        /// The files.
        files: Vec<String>,
    },
    /// A way back without the way there.
    #[error("{file} undoes version {version}, which no other file makes")]
    DownAlone {
        /// Which.
        version: i64,
        /// The file.
        file: String,
    },
    /// A version that does not count.
    #[error("{file}: a version is a number above 0")]
    Version {
        /// The file.
        file: String,
    },
    /// A file that the migrator passes over.
    #[error("{file} is no migration: its name must be VERSION_NAME.sql, .up.sql or .down.sql")]
    Stray {
        /// The file.
        file: String,
    },
}

impl Directory {
    /// Reads all scripts.
    ///
    /// # Errors
    /// The directory or a file cannot be read, or a name begins with what is no number.
    pub fn read(path: &Path) -> Result<Self, MigrateError> {
        let found = resolve_blocking(path).map_err(|error| MigrateError::Directory {
            path: path.to_owned(),
            cause: crate::error::chain(&error),
        })?;
        let scripts: Vec<_> = found
            .into_iter()
            .map(|(migration, path)| Script {
                migration,
                file: file_name(&path),
            })
            .collect();
        let entries = std::fs::read_dir(path).map_err(|error| MigrateError::Directory {
            path: path.to_owned(),
            cause: error.to_string(),
        })?;
        let mut strays: Vec<_> = entries
            .filter_map(|entry| Some(file_name(&entry.ok()?.path())))
            .filter(|name| name.ends_with(".sql"))
            .filter(|name| !scripts.iter().any(|script| script.file == *name))
            .collect();
        strays.sort();
        Ok(Self { scripts, strays })
    }

    /// What is wrong with it.
    pub fn flaws(&self) -> Vec<Flaw> {
        let mut flaws = Vec::new();
        let mut files = BTreeMap::<(i64, bool), Vec<String>>::new();
        for script in &self.scripts {
            let version = script.migration.version;
            let file = script.file.clone();
            if version <= 0 {
                flaws.push(Flaw::Version { file: file.clone() });
            }
            let down = script.is_down();
            if down && self.up(version).is_none() {
                let file = file.clone();
                flaws.push(Flaw::DownAlone { version, file });
            }
            files.entry((version, down)).or_default().push(file);
        }
        let twice = files.into_iter().filter(|(_, files)| files.len() > 1);
        flaws.extend(twice.map(|((version, _), files)| Flaw::Duplicate { version, files }));
        let strays = self.strays.iter().cloned();
        flaws.extend(strays.map(|file| Flaw::Stray { file }));
        flaws
    }

    /// The scripts that lead forward, in their order.
    pub fn ups(&self) -> impl Iterator<Item = &Script> {
        self.scripts.iter().filter(|script| !script.is_down())
    }

    /// The script that makes a version.
    pub fn up(&self, version: i64) -> Option<&Script> {
        self.ups()
            .find(|script| script.migration.version == version)
    }

    /// The script that undoes a version.
    pub fn down(&self, version: i64) -> Option<&Script> {
        let mut downs = self.scripts.iter().filter(|script| script.is_down());
        downs.find(|script| script.migration.version == version)
    }

    /// For sqlx's migrator.
    pub(super) fn migrations(&self) -> Vec<Migration> {
        self.scripts
            .iter()
            .map(|script| script.migration.clone())
            .collect()
    }

    /// Whether new scripts should come in pairs: as the last one does, and the first one should.
    pub fn is_reversible(&self) -> bool {
        let last = self.ups().last();
        last.is_none_or(|script| script.migration.migration_type == MigrationType::ReversibleUp)
    }
}

impl Script {
    fn is_down(&self) -> bool {
        self.migration.migration_type.is_down_migration()
    }
}

fn file_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or(path.as_os_str());
    name.to_string_lossy().into_owned()
}

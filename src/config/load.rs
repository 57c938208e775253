//! Reading the layers into one [`Settings`], with the origin of each value.

use std::collections::BTreeMap;

use super::origin::Origin;
use super::problem::{Problem, Problems, Wrong};
use super::settings::Settings;
use super::sources::Sources;
use super::table::{ROWS, Row};
use super::{check, drop_in, environment, file};
use crate::dsn::{Dsn, ParseError};

/// Settings and where each value came from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// What the program runs on.
    pub settings: Settings,
    origins: BTreeMap<&'static str, Origin>,
}

impl Loaded {
    /// Where the value of a key came from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    /// Every key with its origin, in the table's order.
    pub fn rows(&self) -> impl Iterator<Item = (&'static Row, &Origin)> {
        ROWS.iter().map(|row| (row, self.origin(row.name)))
    }
}

/// Reads all layers.
///
/// # Errors
/// Everything that is wrong, in all layers, also with values that a later layer would have overridden.
pub fn load(sources: &Sources) -> Result<Loaded, Problems> {
    let mut reading = Reading::default();
    for path in &sources.config_files {
        file::read(sources, path, &mut reading);
    }
    environment::read_secrets(sources, &mut reading);
    environment::read(sources, &mut reading);
    for argument in &sources.arguments {
        let flag = argument.flag.clone();
        reading.take(&argument.key, &argument.value, Origin::CommandLine { flag });
    }
    // Last, though they rank lowest: they are looked at only where nothing else says anything.
    drop_in::read(sources, &mut reading);
    check::check(sources, &mut reading);
    reading.finish()
}

/// Settings while they are being read.
#[derive(Default)]
pub(super) struct Reading {
    pub(super) settings: Settings,
    /// The keys that some layer set, also those whose value was wrong.
    origins: BTreeMap<&'static str, Origin>,
    problems: Vec<Problem>,
}

impl Reading {
    /// Sets a key, or notes what is wrong with it.
    pub(super) fn take(&mut self, key: &str, text: &str, origin: Origin) {
        let Some(row) = Row::find(key) else {
            return self.wrong(origin, Some(key.to_owned()), Wrong::unknown_key(key));
        };
        if row.secret && text.trim().is_empty() {
            // An empty secret is an absent one, so that what ranks lower still counts.
            return;
        }
        match (row.set)(&mut self.settings, text) {
            Ok(()) => {
                self.origins.insert(row.name, origin);
            }
            Err(error) => {
                self.origins.insert(row.name, origin.clone());
                self.wrong(origin, Some(row.name.to_owned()), error.into());
            }
        }
    }

    /// Sets `upstream.url` to a server that was put together from several values.
    pub(super) fn take_upstream(&mut self, dsn: Result<Dsn, ParseError>, origin: Origin) {
        const KEY: &str = "upstream.url";
        self.origins.insert(KEY, origin.clone());
        match dsn {
            Ok(dsn) => self.settings.upstream.url = Some(dsn),
            Err(error) => {
                let wrong = Wrong::Value(error.into());
                self.wrong(origin, Some(KEY.to_owned()), wrong);
            }
        }
    }

    /// Notes what is wrong.
    pub(super) fn wrong(&mut self, origin: Origin, key: Option<String>, wrong: Wrong) {
        self.problems.push(Problem { origin, key, wrong });
    }

    /// Whether some layer set the key.
    pub(super) fn is_set(&self, key: &str) -> bool {
        self.origins.contains_key(key)
    }

    /// Where the key's value came from.
    pub(super) fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }

    fn finish(self) -> Result<Loaded, Problems> {
        if !self.problems.is_empty() {
            return Err(Problems(self.problems));
        }
        Ok(Loaded {
            settings: self.settings,
            origins: self.origins,
        })
    }
}

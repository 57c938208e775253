//! What there is to know about a key. `rows` has one row for each.

use super::settings::Settings;
use super::value::ValueError;

mod rows;

pub use rows::ROWS;

/// What there is to know about a key.
#[derive(Debug)]
pub struct Row {
    /// `section.key`.
    pub name: &'static str,
    /// What it does, in one or two sentences.
    pub meaning: &'static str,
    /// What the value is written in.
    pub unit: &'static str,
    /// Whether a reload (SIGHUP) changes it in the running process.
    pub reloadable: bool,
    /// Whether the value holds a secret, which is never shown and may come from a file.
    pub secret: bool,
    /// Names that other programs give it, the first one set is taken.
    pub drop_in: &'static [DropIn],
    /// Whether TOML writes the value without quotes.
    pub(super) bare: bool,
    pub(super) set: fn(&mut Settings, &str) -> Result<(), ValueError>,
    pub(super) show: fn(&Settings) -> String,
    pub(super) same: fn(&Settings, &Settings) -> bool,
    pub(super) copy: fn(&Settings, &mut Settings),
}

impl Row {
    /// The row of a key.
    pub fn find(name: &str) -> Option<&'static Row> {
        ROWS.iter().find(|row| row.name == name)
    }

    /// The variable of this key: `POOLWATCH_SECTION__KEY`.
    pub fn variable(&self) -> String {
        let name = self.name.replacen('.', "__", 1);
        format!("{}{}", super::environment::PREFIX, name.to_uppercase())
    }

    /// The value as text, secrets masked.
    pub fn show(&self, settings: &Settings) -> String {
        (self.show)(settings)
    }

    /// The value as a TOML literal, secrets masked.
    pub fn toml(&self, settings: &Settings) -> String {
        let text = self.show(settings);
        if self.bare {
            return text;
        }
        // JSON's escapes are among those of TOML's basic strings.
        serde_json::Value::String(text).to_string()
    }

    /// The key without its section.
    pub fn key(&self) -> &'static str {
        self.name.split_once('.').map_or(self.name, |(_, key)| key)
    }

    /// The section.
    pub fn section(&self) -> &'static str {
        self.name.split_once('.').map_or("", |(section, _)| section)
    }
}

/// A variable that an application has already, and how to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DropIn {
    /// The variable.
    pub name: &'static str,
    /// How its value becomes ours.
    pub rule: Rule,
}

/// How a drop-in's value becomes ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// As it is.
    Same,
    /// It is a number of seconds.
    Seconds,
    /// It says no where we say yes.
    Inverted,
}

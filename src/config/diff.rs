//! What differs between two settings, for a reload to apply and to log.

use super::settings::Settings;
use super::table::{ROWS, Row};

/// A key whose value differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: &'static str,
    /// The old value, secrets masked.
    pub old: String,
    /// The new value, secrets masked.
    pub new: String,
    /// Whether a reload applies it; if not, it waits for a restart.
    pub reloadable: bool,
}

impl Settings {
    /// What `new` would change, in the table's order.
    pub fn diff(&self, new: &Settings) -> Vec<Change> {
        ROWS.iter()
            .filter(|row| !(row.same)(self, new))
            .map(|row| {
                let (old, mut new) = (row.show(self), row.show(new));
                if old == new {
                    // Only what is masked differs.
                    new.push_str(" (another secret)");
                }
                Change {
                    key: row.name,
                    old,
                    new,
                    reloadable: row.reloadable,
                }
            })
            .collect()
    }

    /// These settings with one key's value of `new`.
    #[must_use]
    pub fn with(&self, row: &Row, new: &Settings) -> Settings {
        let mut settings = self.clone();
        (row.copy)(new, &mut settings);
        settings
    }

    /// These settings with the reloadable ones of `new`: what the process runs on after a reload.
    #[must_use]
    pub fn reloaded(&self, new: &Settings) -> Settings {
        let mut settings = self.clone();
        for row in ROWS.iter().filter(|row| row.reloadable) {
            (row.copy)(new, &mut settings);
        }
        settings
    }
}

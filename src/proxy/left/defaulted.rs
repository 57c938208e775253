//! Parameters that a client gave the server's default.
//!
//! RESET, SET … TO DEFAULT and DISCARD ALL do: the server's default is not what the client logged in with. A rollback undoes
//! it like any SET, so this is kept with the rest of what a rollback undoes.

use super::names::Names;
use crate::sql::Action;

/// SET SESSION CHARACTERISTICS sets some of these.
const CHARACTERISTICS: [&str; 3] = [
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
];

/// Which parameters have the server's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::proxy) struct Defaulted {
    /// These; all, if others are among them.
    names: Names,
    /// But for those that were set since all were given it.
    set: Names,
}

impl Defaulted {
    /// All of them.
    pub(super) fn all() -> Self {
        let mut all = Self::default();
        all.names.others = true;
        all
    }

    /// Those that a statement gives the server's default.
    pub(in crate::proxy) fn by(action: &Action) -> Option<Self> {
        match action {
            Action::Reset(_) | Action::ResetAll | Action::DiscardAll => {
                let mut by = Self::default();
                by.note(action);
                Some(by)
            }
            _ => None,
        }
    }

    /// Whether there are any.
    pub(in crate::proxy) fn any(&self) -> bool {
        self.names.any()
    }

    /// Whether this one is among them.
    pub(in crate::proxy) fn has(&self, name: &str) -> bool {
        self.names.has(name) || self.names.others && !self.set.has(name)
    }

    /// A statement was run.
    pub(super) fn note(&mut self, action: &Action) {
        match action {
            Action::Set(name) => self.set(name),
            Action::NoRole => self.set("role"),
            Action::SetCharacteristics => CHARACTERISTICS.iter().for_each(|name| self.set(name)),
            Action::Reset(name) => {
                self.reset(name);
                if name == "session_authorization" {
                    // Another user's role ends with him.
                    self.reset("role");
                }
            }
            Action::ResetAll => {
                // RESET ALL leaves the role alone.
                let role = self.names.has("role");
                *self = Self::all();
                if !role {
                    self.set.insert("role");
                }
            }
            Action::DiscardAll => *self = Self::all(),
            _ => {}
        }
    }

    /// A parameter was given a value.
    pub(super) fn set(&mut self, name: &str) {
        self.names.remove(name);
        if self.names.others {
            self.set.insert(name);
        }
    }

    fn reset(&mut self, name: &str) {
        self.names.insert(name);
        self.set.remove(name);
    }

    /// These have the client's own value.
    pub(super) fn forget(&mut self, others: &Self) {
        if others.names.others {
            *self = Self::default();
        } else {
            others.names.each(|name| self.set(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_behind_a_reset_is_not_among_them() {
        let mut defaulted = Defaulted::default();
        for action in [
            Action::Reset("timezone".into()),
            Action::Reset("geqo".into()),
            Action::Set("geqo".into()),
        ] {
            defaulted.note(&action);
        }
        assert!(defaulted.has("TimeZone") && !defaulted.has("geqo"));
        for action in [
            Action::ResetAll,
            Action::Set("geqo".into()),
            Action::SetCharacteristics,
        ] {
            defaulted.note(&action);
        }
        assert!(defaulted.has("work_mem") && !defaulted.has("geqo") && !defaulted.has("role"));
        assert!(!defaulted.has("default_transaction_isolation"));
        defaulted.note(&Action::Reset("geqo".into()));
        assert!(defaulted.has("geqo"));
        defaulted.note(&Action::DiscardAll);
        assert!(defaulted.has("role"));
        defaulted.forget(&Defaulted::all());
        assert_eq!(defaulted, Defaulted::default());
    }
}

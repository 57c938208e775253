//! Names of what is left.

/// Names of one kind that are remembered; beyond these something is there until all of it is cleared.
pub(super) const NAMES: usize = 64;

/// Names of things of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Names {
    known: Vec<String>,
    /// There are others, whose names are not known.
    pub(super) others: bool,
}

impl Names {
    pub(super) fn any(&self) -> bool {
        self.others || !self.known.is_empty()
    }

    /// Whether this one is known to be among them, in whatever case it is written.
    pub(super) fn has(&self, name: &str) -> bool {
        let mut known = self.known.iter();
        known.any(|known| known.eq_ignore_ascii_case(name))
    }

    pub(super) fn insert(&mut self, name: &str) {
        if self.known.len() >= NAMES {
            self.others = true;
        } else if !self.known.iter().any(|known| known == name) {
            self.known.push(name.to_owned());
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.known.retain(|known| known != name);
    }

    pub(super) fn each(&self, mut done: impl FnMut(&str)) {
        self.known.iter().for_each(|name| done(name));
    }

    pub(super) fn clear(&mut self) {
        *self = Names::default();
    }
}

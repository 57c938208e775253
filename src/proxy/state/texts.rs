//! What the names of statements and portals stand for, as far as it leaves anything.
//!
//! A Parse counts from when it is sent. Which of those under way the server took is not followed here: after an error a
//! name may stand for what it did or for what it was given, and stands for both until it is given something else.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use crate::pgwire::cstr;
use crate::sql::{Action, Call, Found, Scan, Statement};

/// Statements, and portals, of a session that are remembered. An application has a few; one that has more is not known.
const MOST: usize = 1_024;

/// Names that were given something else and are not settled.
const FORMER: usize = 256;

/// Statements that one name may stand for after errors.
const CANDIDATES: usize = 16;

/// The names of one session.
#[derive(Debug, Default)]
pub(super) struct Texts {
    /// Statements that do something, by name.
    statements: HashMap<Box<[u8]>, Arc<Found>>,
    /// What names stood for that were given something else since everything was answered.
    former: Vec<(Box<[u8]>, Arc<Found>)>,
    /// Portals of such statements.
    portals: HashMap<Box<[u8]>, Bound>,
    /// A text that comes in pieces, and the name of the statement; `None` for a Query.
    coming: Option<(Scan, Option<Box<[u8]>>)>,
    /// There were more names than are remembered: what those do is never known.
    pub(super) too_many: bool,
}

/// A statement with its parameters.
#[derive(Debug, Clone)]
pub(super) struct Bound {
    pub(super) found: Arc<Found>,
    /// Equal for equal parameters.
    pub(super) parameters: u64,
    /// What it gives the server's default is given the client's own behind it.
    pub(super) restored: bool,
    /// It was run before, for some of its rows.
    pub(super) begun: bool,
}

impl Texts {
    pub(super) fn is_empty(&self) -> bool {
        self.statements.is_empty()
            && self.former.is_empty()
            && self.portals.is_empty()
            && self.coming.is_none()
            && !self.too_many
    }

    /// Whether a text comes in pieces, and is not there as a whole.
    pub(super) fn is_coming(&self) -> bool {
        self.coming.is_some()
    }

    /// What a statement does.
    pub(super) fn statement(&self, name: &[u8]) -> Option<Arc<Found>> {
        self.statements.get(name).cloned()
    }

    /// What a portal runs.
    pub(super) fn portal(&self, name: &[u8]) -> Option<Arc<Found>> {
        self.portals.get(name).map(|bound| bound.found.clone())
    }

    /// The portal is run.
    pub(super) fn on_execute(&mut self, portal: &[u8]) -> Option<Bound> {
        let bound = self.portals.get_mut(portal)?;
        let now = bound.clone();
        bound.begun = true;
        Some(now)
    }

    /// Everything was answered; between transactions there are no portals.
    pub(super) fn on_quiet(&mut self, idle: bool) {
        self.former.clear();
        if idle {
            self.portals.clear();
        }
    }

    pub(super) fn begin(&mut self, text: &[u8], name: Option<Box<[u8]>>) {
        let mut scan = Scan::default();
        scan.feed(text);
        self.coming = Some((scan, name));
    }

    /// More of a text that comes in pieces; with the last one, what the whole of a Query says, if anything.
    #[inline]
    pub(super) fn on_piece(&mut self, piece: &[u8], last: bool) -> Option<Arc<Found>> {
        let (scan, _) = self.coming.as_mut()?;
        scan.feed(piece);
        if !last {
            return None;
        }
        let (scan, name) = self.coming.take()?;
        let found = scan.finish();
        let Some(name) = name else {
            return found.map(Arc::new);
        };
        self.put(&name, found);
        None
    }

    /// A name stands for something else, if the server takes it.
    pub(super) fn put(&mut self, name: &[u8], found: Option<Found>) {
        let before = match found {
            Some(_) if self.statements.len() >= MOST && !self.statements.contains_key(name) => {
                self.too_many = true;
                None
            }
            Some(found) => self.statements.insert(name.into(), Arc::new(found)),
            None => self.statements.remove(name),
        };
        self.former
            .extend(before.map(|before| (name.into(), before)));
        if self.former.len() > FORMER {
            self.doubt_names();
        }
    }

    /// Some Parses were not taken: names may stand for what they did, or for what they were given.
    pub(super) fn doubt_names(&mut self) {
        for (name, before) in self.former.drain(..) {
            let now = self.statements.get(&name);
            let either = either(&before, now.map(Arc::as_ref));
            self.statements.insert(name, Arc::new(either));
        }
    }

    pub(super) fn on_bind(&mut self, body: &[u8]) {
        if self.statements.is_empty() && self.portals.is_empty() {
            return;
        }
        let Some((portal, rest)) = cstr(body) else {
            return;
        };
        let (name, parameters) = cstr(rest).unwrap_or((rest, &[]));
        match self.statements.get(name) {
            Some(found) => {
                let mut hasher = DefaultHasher::new();
                parameters.hash(&mut hasher);
                let bound = Bound::of(found.clone(), hasher.finish());
                if self.portals.len() >= MOST {
                    self.portals.clear();
                    self.too_many = true;
                }
                self.portals.insert(portal.into(), bound);
            }
            None => drop(self.portals.remove(portal)),
        }
    }
}

impl Bound {
    pub(super) fn of(found: Arc<Found>, parameters: u64) -> Self {
        Self {
            found,
            parameters,
            restored: false,
            begun: false,
        }
    }
}

/// What a name stands for that may be the one or the other.
fn either(before: &Found, now: Option<&Found>) -> Found {
    let mut both = before.clone();
    // Two at least, so that none is taken for what was run.
    let other = Statement {
        action: Action::Other,
        calls: Vec::new(),
        temporary_path: false,
    };
    let now_too = now.map_or(&[][..], |now| &now.statements);
    for statement in now_too.iter().chain([&other]) {
        if !both.statements.contains(statement) {
            both.statements.push(statement.clone());
        }
    }
    both.backslash |= now.is_some_and(|now| now.backslash);
    both.trailing |= now.is_some_and(|now| now.trailing);
    if both.statements.len() > CANDIDATES {
        let unknown = Statement {
            calls: vec![Call::Later],
            ..other.clone()
        };
        both.statements = vec![unknown, other];
    }
    both
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::classify;

    #[test]
    fn names_are_doubted_without_end_in_bounded_space() {
        let mut texts = Texts::default();
        for number in 0..1_000 {
            texts.put(b"", classify(format!("SET a{number} = 1").as_bytes()));
            texts.doubt_names();
        }
        let found = &texts.statements[&b""[..]];
        assert!(found.statements.len() <= CANDIDATES);
        let unknown = |statement: &Statement| statement.calls == [Call::Later];
        assert!(found.statements.iter().any(unknown));
    }

    #[test]
    fn only_so_many_names_are_remembered() {
        let mut texts = Texts::default();
        for number in 0..=MOST {
            texts.put(number.to_string().as_bytes(), classify(b"LISTEN a"));
            texts.on_bind(format!("{number}\00\0").as_bytes());
            // Nothing is ever quiet.
            texts.put(b"0", classify(b"LISTEN b"));
        }
        assert!(texts.statements.len() <= MOST && texts.former.len() <= FORMER);
        assert!(texts.portals.len() <= MOST && texts.too_many);
    }
}

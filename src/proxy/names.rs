//! One client's names of prepared statements.
//!
//! The table is what it will be once everything that was sent is answered. Each change is noted until its answer comes;
//! an error takes back those that the server skipped, newest first. A name whose change belongs to an earlier batch of
//! a pipeline is not touched before the answer: what it stands for is not known yet.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::backend::{Place, Statement, Variant};
use crate::query::Asked;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Entry {
    /// A statement that only this session's server has, under the client's own name. The session keeps the server.
    Native(Option<Asked>),
    /// A statement that any server can be given.
    Shared(SharedEntry),
}

/// A statement that any server can be given.
#[derive(Debug, Clone)]
pub(super) struct SharedEntry {
    /// What the client asked for.
    pub(super) statement: Arc<Statement>,
    /// What it was told that it is; `None` until the server has described it.
    pub(super) variant: Option<Arc<Variant>>,
    /// Where it was used last.
    pub(super) place: Option<Place>,
    /// By which message of the pipeline.
    pub(super) used: u64,
    /// What its text is.
    pub(super) asked: Option<Asked>,
}

impl Entry {
    /// What is known of its text.
    #[inline]
    pub(super) fn asked(&self) -> Option<&Asked> {
        match self {
            Entry::Native(asked) => asked.as_ref(),
            Entry::Shared(shared) => shared.asked.as_ref(),
        }
    }
}

/// The names of one session.
#[derive(Debug, Default)]
pub(super) struct Names {
    table: HashMap<Box<[u8]>, Entry>,
    /// Changes that are not answered, oldest first.
    changes: VecDeque<Change>,
    /// Moves with every Sync.
    batch: u64,
    /// Native ones, in the table or on their way there.
    native: usize,
    /// Where names were on this server before: what is under way may still be refused in their terms.
    former: Vec<(Box<[u8]>, u64)>,
}

/// A Parse or Close that is not answered.
#[derive(Debug)]
struct Change {
    name: Box<[u8]>,
    before: Option<Entry>,
    batch: u64,
}

impl Names {
    /// What a name stands for.
    #[inline]
    pub(super) fn get(&mut self, name: &[u8]) -> Option<&mut Entry> {
        self.table.get_mut(name)
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Whether a statement may be open that only this session's server has.
    pub(super) fn any_native(&self) -> bool {
        self.native > 0
    }

    /// Whether it is known what a name stands for.
    #[inline]
    pub(super) fn is_settled(&self, name: &[u8]) -> bool {
        // The oldest change is of the oldest batch. Mostly there is none, or all are of this one.
        self.changes
            .front()
            .is_none_or(|oldest| oldest.batch == self.batch)
            || !self
                .changes
                .iter()
                .any(|change| change.batch != self.batch && *change.name == *name)
    }

    /// A Parse is sent that gives this name a meaning.
    pub(super) fn on_parse(&mut self, name: &[u8], entry: Entry) {
        self.change(name, Some(entry));
    }

    /// A Parse is sent that PostgreSQL will refuse, because the name is taken.
    pub(super) fn on_parse_taken(&mut self, name: &[u8]) {
        let entry = self.table.get(name).cloned();
        self.change(name, entry);
    }

    /// A Close is sent.
    pub(super) fn on_close(&mut self, name: &[u8]) {
        self.change(name, None);
    }

    fn change(&mut self, name: &[u8], entry: Option<Entry>) {
        let before = self.put(name, entry);
        self.native += native(before.as_ref());
        self.changes.push_back(Change {
            name: name.into(),
            before,
            batch: self.batch,
        });
    }

    fn put(&mut self, name: &[u8], entry: Option<Entry>) -> Option<Entry> {
        self.native += native(entry.as_ref());
        let before = match entry {
            Some(entry) => self.table.insert(name.into(), entry),
            None => self.table.remove(name),
        };
        self.native -= native(before.as_ref());
        before
    }

    /// A Sync is sent.
    #[inline]
    pub(super) fn on_sync(&mut self) {
        self.batch += 1;
    }

    /// The oldest change was made.
    pub(super) fn on_answered(&mut self) {
        if let Some(change) = self.changes.pop_front() {
            self.native -= native(change.before.as_ref());
        }
    }

    /// The name that the oldest change is about.
    pub(super) fn oldest_change(&self) -> Option<&[u8]> {
        self.changes.front().map(|change| &*change.name)
    }

    /// The oldest `count` changes were not made.
    pub(super) fn on_dropped(&mut self, count: usize) {
        let dropped = self.changes.drain(..count.min(self.changes.len()));
        for Change { name, before, .. } in dropped.rev().collect::<Vec<_>>() {
            self.native -= native(before.as_ref());
            self.put(&name, before);
        }
    }

    /// The server's statement of this name is gone by a statement of SQL.
    pub(super) fn on_deallocated(&mut self, name: &[u8]) {
        for change in &mut self.changes {
            if *change.name == *name {
                self.native -= native(change.before.take().as_ref());
            }
        }
        let before = self.put(name, None);
        self.former
            .extend(place(before.as_ref()).map(|place| (name.into(), place.number())));
    }

    /// All are gone by a statement of SQL, but for those that were sent after it.
    pub(super) fn on_deallocated_all(&mut self) {
        // What is not answered was sent after it: there is nothing to go back to.
        for change in &mut self.changes {
            self.native -= native(change.before.take().as_ref());
        }
        let coming = &self.changes;
        let native_before: usize = self.table.values().map(|entry| native(Some(entry))).sum();
        let former = &mut self.former;
        self.table.retain(|name, entry| {
            let stays = coming.iter().any(|change| change.name == *name);
            if !stays && let Some(place) = place(Some(entry)) {
                former.push((name.clone(), place.number()));
            }
            stays
        });
        let native_now: usize = self.table.values().map(|entry| native(Some(entry))).sum();
        self.native -= native_before - native_now;
    }

    /// A message about this name was sent with a number that is not its place's, or will not be.
    pub(super) fn on_sent_as(&mut self, name: Box<[u8]>, number: u64) {
        self.former.push((name, number));
    }

    /// The session got another server.
    pub(super) fn on_server_changed(&mut self) {
        self.former.clear();
    }

    /// The name of the statement at the place of this number that was used by a message, or last if that is not known.
    pub(super) fn at(&self, number: u64, message: u64) -> Option<&[u8]> {
        // Two names of one text are one statement.
        let mut table: Vec<_> = self.table.iter().collect();
        table.sort_unstable_by_key(|(_, entry)| {
            let used = used(entry);
            std::cmp::Reverse((used == message, used))
        });
        let table = table.into_iter();
        let now = table.map(|(name, entry)| (name, place(Some(entry))));
        let before = self
            .changes
            .iter()
            .map(|change| (&change.name, place(change.before.as_ref())));
        let places = now
            .chain(before)
            .filter_map(|(name, place)| Some((name, place?.number())));
        let former = self.former.iter().map(|(name, number)| (name, *number));
        places
            .chain(former)
            .find(|(_, known)| *known == number)
            .map(|(name, _)| &**name)
    }
}

fn used(entry: &Entry) -> u64 {
    match entry {
        Entry::Shared(shared) => shared.used,
        Entry::Native(_) => 0,
    }
}

fn place(entry: Option<&Entry>) -> Option<Place> {
    match entry? {
        Entry::Shared(shared) => shared.place,
        Entry::Native(_) => None,
    }
}

fn native(entry: Option<&Entry>) -> usize {
    usize::from(matches!(entry, Some(Entry::Native(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Statements;

    fn shared(text: &[u8]) -> Entry {
        Entry::Shared(SharedEntry {
            statement: Statements::default().intern(text, &Default::default()),
            variant: None,
            place: None,
            used: 0,
            asked: None,
        })
    }

    fn text(names: &mut Names, name: &[u8]) -> Option<Vec<u8>> {
        match names.get(name)? {
            Entry::Native(_) => Some(b"native".to_vec()),
            Entry::Shared(shared) => Some(shared.statement.asked().to_vec()),
        }
    }

    #[test]
    fn what_the_server_skipped_is_taken_back() {
        let mut names = Names::default();
        names.on_parse(b"a", shared(b"one"));
        names.on_sync();
        names.on_answered();
        names.on_close(b"a");
        names.on_parse(b"a", shared(b"two"));
        names.on_parse(b"b", Entry::Native(None));
        assert!(names.any_native());
        names.on_dropped(3);
        assert_eq!(text(&mut names, b"a").unwrap(), b"one");
        assert_eq!(text(&mut names, b"b"), None);
        assert!(!names.any_native());
    }

    #[test]
    fn what_was_answered_stays() {
        let mut names = Names::default();
        names.on_close(b"a");
        names.on_parse(b"a", shared(b"two"));
        names.on_parse(b"b", shared(b"three"));
        names.on_answered();
        names.on_answered();
        assert_eq!(names.oldest_change(), Some(&b"b"[..]));
        names.on_dropped(1);
        assert_eq!(text(&mut names, b"a").unwrap(), b"two");
        assert_eq!(text(&mut names, b"b"), None);
    }

    #[test]
    fn a_change_of_an_earlier_batch_is_waited_for() {
        let mut names = Names::default();
        names.on_parse(b"a", shared(b"one"));
        assert!(names.is_settled(b"a"), "of this batch");
        names.on_sync();
        assert!(!names.is_settled(b"a"));
        assert!(names.is_settled(b"b"));
        names.on_answered();
        assert!(names.is_settled(b"a"));
    }

    #[test]
    fn a_native_statement_counts_until_its_close_is_answered() {
        let mut names = Names::default();
        names.on_parse(b"a", Entry::Native(None));
        names.on_answered();
        names.on_close(b"a");
        assert!(names.any_native(), "the server may skip the Close");
        names.on_answered();
        assert!(!names.any_native());
        names.on_parse(b"a", Entry::Native(None));
        names.on_answered();
        names.on_deallocated_all();
        assert!(!names.any_native());
    }

    #[test]
    fn a_taken_name_keeps_its_meaning_whatever_becomes_of_the_parse() {
        for answered in [true, false] {
            let mut names = Names::default();
            names.on_parse(b"a", shared(b"one"));
            names.on_answered();
            names.on_parse_taken(b"a");
            if answered {
                names.on_answered();
            } else {
                names.on_dropped(1);
            }
            assert_eq!(text(&mut names, b"a").unwrap(), b"one");
        }
    }

    #[test]
    fn what_was_sent_after_a_deallocate_all_stays() {
        let mut names = Names::default();
        names.on_parse(b"a", shared(b"one"));
        names.on_answered();
        names.on_parse(b"b", shared(b"two"));
        names.on_deallocated_all();
        assert_eq!(text(&mut names, b"a"), None);
        assert!(text(&mut names, b"b").is_some());
    }
}

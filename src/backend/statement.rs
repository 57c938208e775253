//! Prepared statements that clients share: a text with the types that were asked for, and what a server makes of it.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::Parameters;
use crate::pgwire::Description;

/// The parameters that decide how a text is read.
const READ_WITH: [&str; 5] = [
    "client_encoding",
    "standard_conforming_strings",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
];

static NEXT_VARIANT: AtomicU64 = AtomicU64::new(1);

/// A distinct statement, as clients ask for it.
#[derive(Debug)]
pub struct Statement {
    /// The Parse message after the statement's name: the text and its NUL, a count of parameter types, the types. Then what
    /// the text was read with.
    key: Box<[u8]>,
    /// Where the message ends in it.
    end: usize,
    /// What servers made of it. More than one only after a change of schema.
    variants: Mutex<Vec<Weak<Variant>>>,
    table: Weak<Table>,
    hash: u64,
}

/// A statement as one schema understands it. Clients that know the same variant can use the same copy on a server.
#[derive(Debug)]
pub struct Variant {
    id: u64,
    statement: Arc<Statement>,
    description: Description,
}

/// The statements of a pool. Clones share them. Each is kept as long as a client or a server knows it.
#[derive(Debug, Clone, Default)]
pub struct Statements(Arc<Table>);

/// Locked when a client sends Parse, never for a Bind.
#[derive(Debug, Default)]
struct Table {
    hasher: RandomState,
    by_hash: Mutex<HashMap<u64, Vec<Weak<Statement>>>>,
}

impl Statements {
    /// The statement that a Parse asks for; `asked` is the message after the statement's name.
    ///
    /// PostgreSQL makes constants of literals when it parses, in the time zone, the styles and the encoding of that moment,
    /// and never looks at the text again: so these are part of what a statement is.
    pub fn intern(&self, asked: &[u8], read_with: &Parameters) -> Arc<Statement> {
        let mut key = asked.to_vec();
        for name in READ_WITH {
            key.extend_from_slice(read_with.get(name).unwrap_or_default().as_bytes());
            key.push(0);
        }
        let hash = self.0.hasher.hash_one(&key[..]);
        let mut by_hash = self.0.by_hash.lock();
        let same_hash = by_hash.entry(hash).or_default();
        let known = same_hash
            .iter()
            .filter_map(Weak::upgrade)
            .find(|statement| *statement.key == *key);
        let statement = known.unwrap_or_else(|| {
            let new = Arc::new(Statement {
                end: asked.len(),
                key: key.into(),
                variants: Mutex::default(),
                table: Arc::downgrade(&self.0),
                hash,
            });
            same_hash.push(Arc::downgrade(&new));
            new
        });
        drop(by_hash);
        statement
    }

    /// How many are known.
    pub fn len(&self) -> usize {
        self.0.by_hash.lock().values().map(Vec::len).sum()
    }

    /// Whether none is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Statement {
    /// The Parse message after the statement's name.
    pub fn asked(&self) -> &[u8] {
        &self.key[..self.end]
    }

    /// The variant that is described so.
    pub fn variant(self: &Arc<Self>, description: Description) -> Arc<Variant> {
        let mut variants = self.variants.lock();
        variants.retain(|variant| variant.strong_count() > 0);
        let known = variants
            .iter()
            .filter_map(Weak::upgrade)
            .find(|variant| variant.description == description);
        known.unwrap_or_else(|| {
            let new = Arc::new(Variant {
                id: NEXT_VARIANT.fetch_add(1, Ordering::Relaxed),
                statement: self.clone(),
                description,
            });
            variants.push(Arc::downgrade(&new));
            new
        })
    }
}

impl Drop for Statement {
    fn drop(&mut self) {
        let Some(table) = self.table.upgrade() else {
            return;
        };
        let mut by_hash = table.by_hash.lock();
        if let Some(same_hash) = by_hash.get_mut(&self.hash) {
            same_hash.retain(|statement| statement.strong_count() > 0);
            if same_hash.is_empty() {
                by_hash.remove(&self.hash);
            }
        }
    }
}

impl Variant {
    /// Identifies it among all.
    #[inline]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The statement.
    pub fn statement(&self) -> &Arc<Statement> {
        &self.statement
    }

    /// The text of its Parse, with the NUL.
    pub fn text(&self) -> &[u8] {
        let asked = self.statement.asked();
        let end = asked.iter().position(|byte| *byte == 0);
        end.map_or(asked, |end| &asked[..=end])
    }

    /// Whether it gives rows.
    pub fn has_columns(&self) -> bool {
        self.description.columns.is_some()
    }

    /// The types of its parameters as a Parse carries them: all of them said, so that another server, or another day,
    /// does not infer others.
    pub fn parameters(&self) -> &[u8] {
        &self.description.parameters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(columns: &[u8]) -> Description {
        Description {
            parameters: [0, 0].into(),
            columns: Some(columns.into()),
        }
    }

    #[test]
    fn the_same_text_is_one_statement_while_anybody_knows_it() {
        let statements = Statements::default();
        let one = statements.intern(b"SELECT 1\0\0\0", &Parameters::default());
        let again = statements.intern(b"SELECT 1\0\0\0", &Parameters::default());
        assert!(Arc::ptr_eq(&one, &again));
        assert!(!Arc::ptr_eq(
            &one,
            &statements.intern(b"SELECT 2\0\0\0", &Parameters::default())
        ));
        assert_eq!(statements.len(), 1, "the other is gone already");
        drop((one, again));
        assert!(statements.is_empty());
    }

    #[test]
    fn a_variant_is_kept_by_those_who_know_it() {
        let statements = Statements::default();
        let statement = statements.intern(b"SELECT a FROM t\0\0\0", &Parameters::default());
        let int = statement.variant(described(b"int"));
        assert_eq!(int.id(), statement.variant(described(b"int")).id());
        assert_ne!(int.id(), statement.variant(described(b"text")).id());
        drop(statement);
        assert_eq!(statements.len(), 1, "its variant keeps it");
        assert_eq!(int.text(), b"SELECT a FROM t\0");
        drop(int);
        assert!(statements.is_empty());
    }
}

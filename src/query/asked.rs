//! What a session was asked to run: a text, found out about once.

use std::sync::Arc;

use super::Queries;
use super::entry::{Description, Query};
use super::slow::Circumstances;
use crate::sql::{Dialect, describe, look, statements, tags};

/// A text that may hold several statements.
#[derive(Debug, Clone)]
pub struct Asked {
    pub(super) queries: Statements,
    /// Only of a text with tags, or where literals are kept.
    pub(super) more: Option<Arc<More>>,
}

#[derive(Debug, Clone)]
pub(super) enum Statements {
    One(Query),
    /// Two at least.
    Several(Arc<[Query]>),
}

/// What a text has beside statements.
#[derive(Debug, Default)]
pub(super) struct More {
    pub(super) tags: Option<Arc<str>>,
    pub(super) trace_id: Option<Arc<str>>,
    pub(super) literal: Option<Arc<str>>,
}

impl Asked {
    /// The statement of this number, or the last.
    #[inline]
    pub fn query(&self, at: usize) -> &Query {
        match &self.queries {
            Statements::One(query) => query,
            Statements::Several(queries) => &queries[at.min(queries.len() - 1)],
        }
    }

    /// How many statements it holds.
    #[expect(
        clippy::len_without_is_empty,
        reason = "a text has one at least, which may be empty itself"
    )]
    pub fn len(&self) -> usize {
        match &self.queries {
            Statements::One(_) => 1,
            Statements::Several(queries) => queries.len(),
        }
    }

    /// What the text itself tells about a query of it.
    pub fn circumstances(&self) -> Circumstances {
        let Some(more) = &self.more else {
            return Circumstances::default();
        };
        Circumstances {
            tags: more.tags.clone(),
            trace_id: more.trace_id.clone(),
            literal: more.literal.clone(),
            ..Circumstances::default()
        }
    }
}

impl Queries {
    /// A text that is about to be run; `dialect` says how the server reads it.
    #[inline]
    pub fn ask(&self, text: &[u8], dialect: Dialect) -> Asked {
        let (mut first, mut several, mut commented) = (None, Vec::new(), false);
        statements(text, dialect, |one| {
            let look = look(one, dialect);
            commented |= look.commented;
            let query = self.place(look.fingerprint, || described(one, dialect));
            match &first {
                None => first = Some(query),
                Some(before) => {
                    if several.is_empty() {
                        several.push(before.clone());
                    }
                    several.push(query);
                }
            }
        });
        let queries = match first {
            Some(only) if several.is_empty() => Statements::One(only),
            _ => Statements::Several(several.into()),
        };
        let more = (commented || self.keeps_literals())
            .then(|| self.more(text, dialect))
            .flatten();
        Asked { queries, more }
    }

    /// What a text has beside its statements, if anything.
    #[cold]
    fn more(&self, text: &[u8], dialect: Dialect) -> Option<Arc<More>> {
        let found = tags(text, dialect);
        let more = More {
            tags: (!found.text.is_empty()).then(|| found.text.into()),
            trace_id: found.trace_id.map(Into::into),
            literal: self.keeps_literals().then(|| {
                let text = text.strip_suffix(b"\0").unwrap_or(text);
                String::from_utf8_lossy(text).into()
            }),
        };
        let any = more.tags.is_some() || more.trace_id.is_some() || more.literal.is_some();
        any.then(|| Arc::new(more))
    }

    /// The same text where the table has given its fingerprint's place to another.
    #[inline]
    pub fn refreshed(&self, asked: &Asked) -> Option<Asked> {
        let Statements::One(query) = &asked.queries else {
            return None;
        };
        let queries = Statements::One(self.current(query)?);
        let more = asked.more.clone();
        Some(Asked { queries, more })
    }

    /// A query of this text ended: its tags count.
    #[inline]
    pub fn count_tags(&self, query: &Query, asked: &Asked) {
        if let Some(tags) = asked.more.as_ref().and_then(|more| more.tags.as_deref()) {
            query.0.tagged(tags);
        }
    }
}

#[cold]
fn described(text: &[u8], dialect: Dialect) -> Arc<Description> {
    let described = describe(text, dialect);
    Description::new(
        described.fingerprint,
        described.summary,
        described.text,
        described.operation,
    )
}

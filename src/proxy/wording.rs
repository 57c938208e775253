//! Errors in the client's words: with its names of statements, not the server's.

use super::pipeline::{Failure, Stale};
use super::traffic::Traffic;
use crate::backend::Copies;
use crate::pgwire::{Replies, Severity};

impl Traffic {
    /// What the client is told instead of this ErrorResponse, if something else.
    pub(super) fn in_clients_words(
        &self,
        failure: &Failure,
        body: &[u8],
        copies: &Copies,
    ) -> Option<Vec<u8>> {
        if let Some(stale) = failure.stale {
            let mut told = Replies::default();
            // A Describe has told of the parameters by the time it looks at the columns (PostgreSQL,
            // src/backend/tcop/postgres.c, exec_describe_statement_message).
            if let (Stale::Describe, Some(variant)) = (stale, &self.sharing.refused) {
                told.parameter_description(variant.parameters());
            }
            // src/backend/utils/cache/plancache.c, RevalidateCachedQuery.
            told.error(
                Severity::Error,
                "0A000",
                "cached plan must not change result type",
                None,
            );
            return Some(told.bytes().to_vec());
        }
        let (at, number, length) = own_name(body, copies)?;
        let name = if failure.naming {
            self.names.oldest_change()
        } else {
            self.names.at(number)
        };
        let name = name.unwrap_or_default();
        let mut told = Replies::default();
        told.error_of(&[&body[..at], name, &body[at + length..]]);
        Some(told.bytes().to_vec())
    }
}

/// A name of ours in a text: where it begins, its number, its length.
pub(super) fn own_name(text: &[u8], copies: &Copies) -> Option<(usize, u64, usize)> {
    (0..text.len()).find_map(|at| {
        let (number, length) = copies.read_name(&text[at..])?;
        Some((at, number, length))
    })
}

//! Errors in the client's words: with its names of statements, not the server's.

use super::pipeline::{Failure, Stale};
use super::server_side::error_field;
use super::traffic::Traffic;
use crate::backend::Copies;
use crate::pgwire::Replies;

/// What PostgreSQL says of a cached plan whose result is not what it was: `feature_not_supported`.
pub(super) const STALE_PLAN: &str = "0A000";

impl Traffic {
    /// What the client is told instead of this ErrorResponse, if something else.
    pub(super) fn in_clients_words(
        &self,
        failure: &Failure,
        body: &[u8],
        copies: &Copies,
    ) -> Option<Vec<u8>> {
        if let Some(stale) = failure.stale
            && error_field(body, b'C') == Some(b"26000")
        {
            let mut told = Replies::default();
            // A Describe has told of the parameters by the time it looks at the columns (PostgreSQL,
            // src/backend/tcop/postgres.c, exec_describe_statement_message).
            if let (Stale::Describe, Some(variant)) = (stale, &self.sharing.refused) {
                told.parameter_description(variant.parameters());
            }
            // src/backend/utils/cache/plancache.c, RevalidateCachedQuery.
            // Drivers know it by its routine.
            told.error_of(&[
                b"SERROR\0VERROR\0C",
                STALE_PLAN.as_bytes(),
                b"\0Mcached plan must not change result type\0Fplancache.c\0RRevalidateCachedQuery\0\0",
            ]);
            return Some(told.bytes().to_vec());
        }
        let (at, number, length) = own_name(body, copies)?;
        let name = if failure.naming {
            self.names.oldest_change()
        } else {
            self.names.at(number, failure.number)
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

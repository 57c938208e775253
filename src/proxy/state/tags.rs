//! What a command tag says beside the text that it answers.

use crate::backend::Parameters;
use crate::sql::{Action, Found, TRAILING_BACKSLASH};

/// Whether the server may have read a text in another way.
pub(super) fn is_ambiguous(found: &Found, reported: &Parameters) -> bool {
    found.backslash && reported.get("standard_conforming_strings") == Some("off")
        || found.trailing
            && reported
                .get("client_encoding")
                .is_some_and(|encoding| TRAILING_BACKSLASH.contains(&encoding))
}

/// Command tags of which nothing is left, whatever the text.
pub(super) fn leaves_nothing(tag: &[u8]) -> bool {
    let word = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
    matches!(
        word,
        b"SELECT" | b"INSERT" | b"UPDATE" | b"DELETE" | b"MERGE" | b"COPY" | b"BEGIN" | b"SHOW"
    )
}

/// Whether a command with this tag left what its text says and nothing else. A tag that is not known is not understood,
/// nor is one that leaves something, of which no text was seen.
pub(super) fn is_understood(tag: &[u8], action: Option<&Action>) -> bool {
    let word = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
    match word {
        b"SET" => {
            tag == b"SET CONSTRAINTS"
                || matches!(
                    action,
                    Some(
                        Action::Set(_)
                            | Action::SetLocal
                            | Action::SetCharacteristics
                            | Action::NoRole
                            | Action::Reset(_)
                    )
                )
        }
        b"LISTEN" => matches!(action, Some(Action::Listen(_))),
        b"LOAD" => matches!(action, Some(Action::Load)),
        b"PREPARE" => tag == b"PREPARE TRANSACTION" || matches!(action, Some(Action::Prepare(_))),
        // The text says nothing where there is nothing to say: a cursor without HOLD, a table, a block.
        b"DECLARE" | b"CREATE" | b"DO" | b"ALTER" | b"ANALYZE" | b"CALL" | b"CHECKPOINT"
        | b"CLOSE" | b"CLUSTER" | b"COMMENT" | b"COMMIT" | b"DEALLOCATE" | b"DISCARD" | b"DROP"
        | b"EXPLAIN" | b"FETCH" | b"GRANT" | b"IMPORT" | b"LOCK" | b"MOVE" | b"NOTIFY"
        | b"REASSIGN" | b"REFRESH" | b"REINDEX" | b"RELEASE" | b"RESET" | b"REVOKE"
        | b"ROLLBACK" | b"SAVEPOINT" | b"SECURITY" | b"START" | b"TRUNCATE" | b"UNLISTEN"
        | b"VACUUM" => true,
        _ => leaves_nothing(tag),
    }
}

/// Whether a statement that does this may be what was answered with this tag.
pub(super) fn fits(tag: &[u8], action: &Action) -> bool {
    let word = tag.split(|byte| *byte == b' ').next().unwrap_or_default();
    match action {
        // What these words do is always told by the text.
        Action::Other => {
            let told = matches!(
                word,
                b"RESET" | b"UNLISTEN" | b"CLOSE" | b"DEALLOCATE" | b"SAVEPOINT" | b"RELEASE"
            );
            !told && tag != b"DISCARD ALL" && is_understood(tag, Some(action))
        }
        Action::SetLocal => matches!(word, b"SET" | b"RESET"),
        Action::Set(_) | Action::SetCharacteristics | Action::NoRole => word == b"SET",
        Action::Reset(_) => matches!(word, b"SET" | b"RESET"),
        Action::ResetAll => word == b"RESET",
        Action::Listen(_) => word == b"LISTEN",
        Action::Unlisten(_) => word == b"UNLISTEN",
        Action::Temporary(_) | Action::Create => {
            matches!(word, b"CREATE" | b"SELECT" | b"EXPLAIN")
        }
        Action::DropTables(_) => word == b"DROP",
        Action::HoldCursor(_) => word == b"DECLARE",
        Action::Close(_) => word == b"CLOSE",
        Action::Prepare(_) => word == b"PREPARE",
        Action::Deallocate(_) => word == b"DEALLOCATE",
        Action::Load => word == b"LOAD",
        Action::DiscardAll | Action::DiscardTemporary => word == b"DISCARD",
        Action::Savepoint(_) => word == b"SAVEPOINT",
        Action::Release(_) => word == b"RELEASE",
        Action::RollbackTo(_) => word == b"ROLLBACK",
        Action::Do { .. } => word == b"DO",
    }
}

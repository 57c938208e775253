//! Why a session keeps its server.
//!
//! In transaction pooling a server goes to the next client after each transaction, unless this client left something
//! in it. What was left is found from command tags and a light look at the text; each reason is counted once a session
//! and stays to the session's end, but for open named statements, which can be closed.

use std::sync::Arc;

use crate::metrics::{PinGuard, PinReason, PoolMetrics};

/// Command tags that leave nothing behind a transaction. Any other tag pins: an unknown command is not known to be clean.
///
/// What works on the database alone leaves nothing in the session; CREATE TABLE may, for its table may be temporary.
/// SAVEPOINT, RELEASE and START TRANSACTION end with their transaction, SHOW changes nothing, and what DEALLOCATE takes away is known.
fn leaves_nothing(tag: &[u8]) -> bool {
    let word = tag
        .split(|byte| *byte == b' ' || *byte == 0)
        .next()
        .unwrap_or_default();
    matches!(
        word,
        b"SELECT"
            | b"INSERT"
            | b"UPDATE"
            | b"DELETE"
            | b"MERGE"
            | b"COPY"
            | b"BEGIN"
            | b"COMMIT"
            | b"SAVEPOINT"
            | b"RELEASE"
            | b"SHOW"
            | b"DEALLOCATE"
            | b"ANALYZE"
            | b"CHECKPOINT"
            | b"CLOSE"
            | b"CLUSTER"
            | b"COMMENT"
            | b"DROP"
            | b"EXPLAIN"
            | b"FETCH"
            | b"GRANT"
            | b"LOCK"
            | b"MOVE"
            | b"NOTIFY"
            | b"REFRESH"
            | b"REINDEX"
            | b"REVOKE"
            | b"TRUNCATE"
            | b"UNLISTEN"
            | b"VACUUM"
    ) || matches!(
        tag,
        b"ROLLBACK" | b"START TRANSACTION" | b"ALTER TABLE" | b"ALTER INDEX" | b"CREATE INDEX"
    )
}

/// The reasons one session is pinned for.
#[derive(Debug, Default)]
pub(super) struct Pins {
    guards: Vec<PinGuard>,
}

impl Pins {
    /// Whether the server must stay.
    #[inline]
    pub(super) fn any(&self) -> bool {
        !self.guards.is_empty()
    }

    /// Pins for a reason; true the first time.
    pub(super) fn pin(&mut self, reason: PinReason, metrics: &Arc<PoolMetrics>) -> bool {
        if self.guards.iter().any(|guard| guard.reason() == reason) {
            return false;
        }
        self.guards.push(metrics.pinned(reason));
        true
    }

    /// A reason that is no more.
    pub(super) fn unpin(&mut self, reason: PinReason) {
        self.guards.retain(|guard| guard.reason() != reason);
    }

    /// The reason to pin for after a command with this tag (without its NUL), if there is one.
    #[inline]
    pub(super) fn of_tag(tag: &[u8]) -> Option<PinReason> {
        if leaves_nothing(tag) {
            None
        } else {
            Some(PinReason::Command)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_is_not_known_to_be_clean_pins() {
        for tag in [
            "SET",
            "LISTEN",
            "CREATE TABLE",
            "DISCARD ALL",
            "PREPARE",
            "DECLARE CURSOR",
            "ROLLBACK PREPARED",
            "DO",
        ] {
            assert_eq!(
                Pins::of_tag(tag.as_bytes()),
                Some(PinReason::Command),
                "{tag}"
            );
        }
        for tag in [
            "SELECT 1",
            "INSERT 0 1",
            "COPY 5",
            "BEGIN",
            "COMMIT",
            "ROLLBACK",
            "MERGE 2",
            "SHOW",
            "SAVEPOINT",
            "EXPLAIN",
            "VACUUM",
            "ALTER TABLE",
            "DROP TABLE",
            "REFRESH MATERIALIZED VIEW",
        ] {
            assert_eq!(Pins::of_tag(tag.as_bytes()), None, "{tag}");
        }
    }
}

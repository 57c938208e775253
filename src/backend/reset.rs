//! What is done to a server before it serves another client, by what the last one left in it.

/// Kinds of state to clear, the cheapest way that is sure to. A set of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reset(u8);

impl Reset {
    /// Nothing was left.
    pub const NOTHING: Reset = Reset(0);
    /// Run-time parameters.
    pub const PARAMETERS: Reset = Reset(1);
    /// Role and session authorization, which RESET ALL leaves alone.
    pub const ROLE: Reset = Reset(2);
    /// Channels that are listened to.
    pub const CHANNELS: Reset = Reset(4);
    /// Temporary tables and what else is in their schema.
    pub const TEMPORARY: Reset = Reset(8);
    /// Cursors that are held.
    pub const CURSORS: Reset = Reset(16);
    /// Advisory locks.
    pub const LOCKS: Reset = Reset(32);
    /// Anything: DISCARD ALL.
    pub const EVERYTHING: Reset = Reset(64);
    /// What no statement clears: the connection is closed.
    pub const CLOSE: Reset = Reset(128);

    /// What stands for each kind, in an order that works: cursors and tables may belong to a role.
    const STATEMENTS: [(Reset, &'static str); 6] = [
        (Reset::CURSORS, "CLOSE ALL"),
        (Reset::ROLE, "RESET SESSION AUTHORIZATION; RESET ROLE"),
        (Reset::PARAMETERS, "RESET ALL"),
        (Reset::CHANNELS, "UNLISTEN *"),
        (Reset::LOCKS, "SELECT pg_catalog.pg_advisory_unlock_all()"),
        (Reset::TEMPORARY, "DISCARD TEMP"),
    ];

    /// Both.
    pub fn and(self, other: Reset) -> Reset {
        Reset(self.0 | other.0)
    }

    /// The other too, if so.
    pub fn with(self, other: Reset, there: bool) -> Reset {
        if there { self.and(other) } else { self }
    }

    /// Whether all of the other is in this.
    pub fn has(self, other: Reset) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether there is something to do.
    pub fn any(self) -> bool {
        self != Reset::NOTHING
    }

    /// The text that clears it all; `None` where there is nothing to say.
    pub(super) fn statement(self) -> Option<String> {
        if self.has(Reset::EVERYTHING) {
            return Some("DISCARD ALL".to_owned());
        }
        let parts: Vec<_> = Self::STATEMENTS
            .iter()
            .filter(|(kind, _)| self.has(*kind))
            .map(|(_, statement)| *statement)
            .collect();
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cheapest_statement_that_is_enough_is_taken() {
        assert_eq!(Reset::NOTHING.statement(), None);
        let some = Reset::CHANNELS.and(Reset::PARAMETERS);
        assert_eq!(some.statement().unwrap(), "RESET ALL; UNLISTEN *");
        let all = some.with(Reset::EVERYTHING, true);
        assert_eq!(all.statement().unwrap(), "DISCARD ALL");
        assert!(all.has(Reset::CHANNELS) && !some.has(Reset::LOCKS));
    }
}

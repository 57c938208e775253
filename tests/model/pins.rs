//! What is assumed to keep a server with its client: the one table of it. The generator lets no more clients hold a
//! server than there are servers, and reckons with this table.
//!
//! A row may promise more than is true (a client that is taken to be pinned and is not), at the price of fewer programs
//! in which clients share. A row that promises less makes a third client wait for ever, and the test fails.

/// What a statement may leave in its session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Leaves {
    /// A named statement of the protocol.
    Named,
    /// A command that leaves nothing, but whose tag is not known to be clean: DDL, NOTIFY, DO, EXPLAIN, FETCH, CLOSE.
    Command,
    /// A parameter that PostgreSQL reports.
    Reported,
    /// A parameter that it does not report.
    Unreported,
    /// SET LOCAL and SET TRANSACTION.
    Local,
    /// `set_config` with `false`.
    Configured,
    /// `set_config` with `true`.
    ConfiguredLocally,
    /// RESET and SET … TO DEFAULT.
    Reset,
    /// SET ROLE, SET SESSION AUTHORIZATION.
    Role,
    /// LISTEN.
    Listen,
    /// UNLISTEN.
    Unlisten,
    /// A temporary table.
    Temporary,
    /// A temporary table that is dropped at its transaction's end.
    TemporaryForNow,
    /// A session's advisory lock.
    Advisory,
    /// Letting go of one.
    Unlock,
    /// A transaction's advisory lock.
    AdvisoryForNow,
    /// DECLARE without HOLD.
    Cursor,
    /// DECLARE … WITH HOLD.
    Hold,
    /// SQL's PREPARE.
    Prepare,
    /// DEALLOCATE.
    Deallocate,
    /// DISCARD of any kind.
    Discard,
    /// A library.
    Library,
    /// A FunctionCall message.
    Call,
    /// A login with parameters that are not reported.
    Startup,
}

/// For how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pin {
    /// It does not pin.
    Never,
    /// Until a statement is sure to have cleared it.
    WhileThere,
    /// Until its client leaves.
    ToTheEnd,
}

/// The table.
pub(crate) const PINS: &[(Leaves, Pin)] = &[
    (Leaves::Named, Pin::Never),
    (Leaves::Command, Pin::Never),
    (Leaves::Reported, Pin::Never),
    (Leaves::Unreported, Pin::ToTheEnd),
    (Leaves::Local, Pin::Never),
    (Leaves::Configured, Pin::ToTheEnd),
    (Leaves::ConfiguredLocally, Pin::Never),
    (Leaves::Reset, Pin::Never),
    (Leaves::Role, Pin::ToTheEnd),
    (Leaves::Listen, Pin::ToTheEnd),
    (Leaves::Unlisten, Pin::Never),
    (Leaves::Temporary, Pin::ToTheEnd),
    (Leaves::TemporaryForNow, Pin::Never),
    (Leaves::Advisory, Pin::ToTheEnd),
    (Leaves::Unlock, Pin::Never),
    (Leaves::AdvisoryForNow, Pin::Never),
    (Leaves::Cursor, Pin::Never),
    (Leaves::Hold, Pin::ToTheEnd),
    (Leaves::Prepare, Pin::ToTheEnd),
    (Leaves::Deallocate, Pin::Never),
    (Leaves::Discard, Pin::Never),
    (Leaves::Library, Pin::ToTheEnd),
    (Leaves::Call, Pin::ToTheEnd),
    (Leaves::Startup, Pin::Never),
];

/// Whether what a prepared statement returns may change under it. On a direct connection it fails from then on (0A000).
pub(crate) const RESULT_TYPES_CHANGE: bool = true;

/// Whether SQL's EXECUTE and DEALLOCATE name statements of the protocol, and Bind those of SQL's PREPARE. EXECUTE does not
/// find those of the protocol, which servers know by other names.
pub(crate) const NAMES_ARE_SHARED: bool = false;

impl Leaves {
    /// The row of the table.
    pub(crate) fn pin(self) -> Pin {
        let row = PINS.iter().find(|(leaves, _)| *leaves == self);
        row.map(|(_, pin)| *pin).expect("a row for each")
    }
}

/// Differences that are known and not mended yet: programs keep clear of them. ARCHITECTURE.md has them among its limits.
/// Whoever mends one empties its row.
pub(crate) struct Known {
    /// RESET and DISCARD give the server's default, not what the client logged in with.
    pub(crate) reset_forgets_the_login: bool,
    /// The connection of a cancel request is closed before the request is passed on, which then hits the next statement.
    pub(crate) cancels_hit_the_next: bool,
    /// A statement of an earlier batch is parsed again on another server, which takes a snapshot where a Describe alone does
    /// not: an isolation level that is set behind it in the same batch comes too late.
    pub(crate) parses_again: bool,
}

pub(crate) const KNOWN: Known = Known {
    reset_forgets_the_login: false,
    cancels_hit_the_next: false,
    parses_again: true,
};

//! One query when it has ended.

use std::time::Duration;

/// How many phases there are.
pub(super) const PHASES: usize = 4;

/// Where a query's time went. What a client thinks between the statements of a transaction is in none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Phases {
    /// From the request's arrival, or the end of the statement before it in a pipeline, until a server was had, without `connect`.
    pub wait: Duration,
    /// Opening a connection to PostgreSQL for it.
    pub connect: Duration,
    /// Until the first byte of the reply.
    pub execute: Duration,
    /// Until its last byte had come from PostgreSQL; the time in which the client did not take what came is part of it.
    pub transfer: Duration,
}

/// The SQLSTATE of an error.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SqlState([u8; 5]);

/// A query that has ended, or a part of one: some of a cursor's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    /// Where its time went.
    pub phases: Phases,
    /// Rows that it returned or changed, as its command tag says.
    pub rows: u64,
    /// Bytes of the messages that asked for it.
    pub received: u64,
    /// Bytes of the messages that answered it.
    pub sent: u64,
    /// The error that ended it.
    pub failure: Option<SqlState>,
    /// It has ended. False where more of its rows may be asked for.
    pub over: bool,
}

impl Phases {
    /// All of them together.
    pub fn total(&self) -> Duration {
        self.wait + self.connect + self.execute + self.transfer
    }

    /// In the order of the fields.
    #[inline]
    pub(super) fn nanoseconds(&self) -> [u64; PHASES] {
        [self.wait, self.connect, self.execute, self.transfer].map(nanoseconds)
    }

    /// The inverse of [`nanoseconds`](Self::nanoseconds).
    pub(super) fn from_nanoseconds(sums: [u64; PHASES]) -> Self {
        let [wait, connect, execute, transfer] = sums.map(Duration::from_nanos);
        Self {
            wait,
            connect,
            execute,
            transfer,
        }
    }
}

impl Finished {
    /// All phases together, in nanoseconds.
    #[inline]
    pub(super) fn took(&self) -> u64 {
        nanoseconds(self.phases.total())
    }
}

impl SqlState {
    /// Of the error field `C`; what is no SQLSTATE becomes `XX000`.
    pub fn new(field: &[u8]) -> Self {
        match <[u8; 5]>::try_from(field) {
            Ok(code) if code.iter().all(u8::is_ascii_alphanumeric) => Self(code),
            _ => Self(*b"XX000"),
        }
    }

    /// Its five characters.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    /// As a number that is never 0.
    pub(super) fn to_bits(self) -> u64 {
        let mut bytes = [0; 8];
        bytes[3..].copy_from_slice(&self.0);
        u64::from_be_bytes(bytes)
    }

    /// The inverse; none of 0.
    pub(super) fn from_bits(bits: u64) -> Option<Self> {
        let [_, _, _, code @ ..] = bits.to_be_bytes();
        (bits != 0).then_some(Self(code))
    }
}

impl std::fmt::Debug for SqlState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[inline]
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::SqlState;

    #[test]
    fn a_sqlstate_is_five_letters_or_digits() {
        assert_eq!(SqlState::new(b"57014").as_str(), "57014");
        for strange in [&b""[..], b"5701", b"570145", b"57\n14", "é701".as_bytes()] {
            assert_eq!(SqlState::new(strange).as_str(), "XX000");
        }
        let state = SqlState::new(b"23505");
        assert_eq!(SqlState::from_bits(state.to_bits()), Some(state));
        assert_eq!(SqlState::from_bits(0), None);
    }
}

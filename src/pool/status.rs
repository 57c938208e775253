//! What a pool looks like at one moment.

use std::time::Duration;

/// A pool at one moment, read from atomics: taking it waits for nobody.
///
/// `idle + in_use` are live connections, `connecting` are on their way. `in_use + connecting <= size + max_overflow`
/// and `idle <= size` always hold (with `max_overflow = -1` only the latter, with `size = 0` neither). A pool made smaller
/// reaches its new bounds as connections come back. A pool that is off shows `size = 0` and `max_overflow = -1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Status {
    /// Connections kept idle at most (`pool.size`).
    pub size: u32,
    /// Connections beyond `size` at most (`pool.max_overflow`); -1 is no limit.
    pub max_overflow: i32,
    /// Live connections that are not handed out.
    pub idle: u32,
    /// Live connections that are handed out or being checked before they are.
    pub in_use: u32,
    /// Connects under way.
    pub connecting: u32,
    /// Pings under way.
    pub pinging: u32,
    /// Checkouts waiting at the gate.
    pub waiting: u32,
    /// Permits taken: handed out, being checked or connecting.
    pub permits_in_use: u32,
    /// How long the oldest waiting checkout has waited; zero when nobody waits.
    pub oldest_wait: Duration,
    /// How long the connection that is out longest has been out; zero when none is.
    pub oldest_use: Duration,
    /// Whether an operator paused the pool.
    pub paused: bool,
    /// Whether the pool was closed.
    pub closed: bool,
}

impl Status {
    /// Live connections: idle and in use.
    pub fn live(&self) -> u32 {
        self.idle + self.in_use
    }

    /// Live connections beyond `size`, never negative.
    pub fn overflow(&self) -> u32 {
        self.live().saturating_sub(self.size)
    }
}

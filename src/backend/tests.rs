//! Servers that lie, stall or hang up: none of them may panic, hold memory or hold the caller.

mod asking;
mod ending;
pub(crate) mod fake;
mod listed;
mod login;
mod looking;
mod protocol;

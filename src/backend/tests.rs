//! Servers that lie, stall or hang up: none of them may panic, hold memory or hold the caller.

mod asking;
mod ending;
mod fake;
mod login;
mod looking;
mod protocol;

//! Migrations of a database, one at a time across all machines.
//!
//! What a directory of scripts means, in which order they run and how their checksums are made is sqlx's migrator's own, and so is
//! the table, so that who uses `sqlx migrate` may use either. Ours is what it lacks: statements go through a session of the
//! control pool; who holds the lock is told; what does not fit is told before anything runs, with the file's name; a way back that
//! is missing is an error instead of being left out; locks of others are waited for a while, again and again.
//!
//! - `directory`: the scripts; `standing`: scripts against the table; `run`: sqlx's `Migrate` on our session, up and down.

mod directory;
mod error;
mod run;
mod standing;
#[cfg(test)]
mod tests;

pub use directory::{Directory, Flaw, Script};
pub use error::MigrateError;
pub use run::{Applied, Limits, Migration, alembic, applied, down, invalid_indexes, take_lock, up};
pub use standing::{Problem, Row, State, compare, problems};

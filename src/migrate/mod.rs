//! Migrations of a database, one at a time across all machines.
//!
//! What a directory of scripts means, in which order they run and how their checksums are made is sqlx's migrator's own, and so is
//! the table, so that who uses `sqlx migrate` may use either. Ours is what it lacks: statements go through a session of the
//! control pool; who holds the lock is told; what does not fit is told before anything runs, with the file's name; a way back that
//! is missing is an error instead of being left out; locks of others are waited for a while, again and again.
//!
//! - `directory`: the scripts; `table`: what the database tells; `standing`: the one against the other;
//! - `lock`, `run`, `runner`: sqlx's `Migrate` on our session, up and down;
//! - `alembic`: Alembic's own scripts, read and never run; `look`: where a database stands and who is at it, for figures.

mod alembic;
mod directory;
mod error;
mod lock;
mod look;
mod run;
mod runner;
mod standing;
mod table;
#[cfg(test)]
mod tests;

pub use alembic::{Revisions, RevisionsError};
pub use directory::{Directory, Flaw, Script};
pub use error::MigrateError;
pub use lock::{Limits, take_lock};
pub use look::{Run, Scripts, ScriptsError, Stand, WaitedFor, runs, stands};
pub use run::{down, up};
pub use standing::{Problem, Row, State, compare, problems};
pub use table::{Applied, alembic, applied, invalid_indexes};

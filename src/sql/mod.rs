//! Looking at query text. Text only: no parser, and what is not understood is said to be not understood.
//!
//! Two looks. What a statement leaves in its session is found by `classify`, over `lexer`, in a text that may come in
//! pieces. What a query has in common with others is found by `fingerprint`, over `tokens`, in a text that is there as a
//! whole; `normalise`, `summary` and `tags` say it to people.

mod calls;
mod classify;
mod deallocate;
mod fingerprint;
mod head;
mod lexer;
mod naming;
mod normalise;
mod plain;
mod statements;
mod summary;
mod tags;
mod tokens;

pub use calls::{Call, LockKey};
pub use classify::{Action, Found, Scan, Statement, classify};
pub use deallocate::{deallocated, may_deallocate};
pub use fingerprint::{Fingerprint, Look, look};
pub use normalise::{Described, describe};
pub use statements::statements;
pub use tags::{Tags, tags};
pub use tokens::{Dialect, TRAILING_BACKSLASH};

//! Looking at query text. Text only: no parser, and what is not understood is said to be not understood.

mod calls;
mod classify;
mod deallocate;
mod head;
mod lexer;
mod plain;

pub use calls::{Call, LockKey};
pub use classify::{Action, Found, Scan, Statement, classify};
pub use deallocate::{deallocated, may_deallocate};

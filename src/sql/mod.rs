//! Looking at query text. Text only: no parser, and what is not understood is said to be not understood.

mod deallocate;
mod state;

pub use deallocate::deallocated;
pub use state::{StateScan, StateWord, state_word};

//! Looking at query text. Text only: no parser, and what is not understood is said to be not understood.

mod state;

pub use state::{StateScan, StateWord, state_word};

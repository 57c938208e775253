//! What the figures mean together. So far: servers that somebody holds and does not use.

mod leaks;

pub use leaks::{Holder, Leak, Leaks};

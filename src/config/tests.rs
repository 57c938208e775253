//! Settings from every source, and what is told of those that cannot be.

mod checks;
mod layers;
mod problems;
mod secrets;
mod upstream;
mod world;

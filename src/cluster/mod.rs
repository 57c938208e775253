//! One pool per (user, database) of the upstream, made on demand.

mod base;
mod bases;
mod orders;
mod pool;
mod pools;
#[cfg(test)]
pub(crate) mod testing;
mod vacate;

pub use base::{Base, BaseError};
pub use orders::{Ordered, StillThere};
pub use pool::{CheckoutFailure, PoolHandle};
pub use pools::{Cluster, Config, Entering, OwnServers, RouteError};
pub use vacate::Vacated;

//! `Pool<M>`: the rules of SQLAlchemy's QueuePool over bb8 as store and hard cap.
//!
//! Knows neither PostgreSQL nor Prometheus. See `docs/pool.md` for the rules.

mod event;
mod status;

pub use event::{CloseReason, Observer, Outcome, PoolEvent, PrePing, Unobserved};
pub use status::Status;

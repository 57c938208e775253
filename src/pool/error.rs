//! Why a checkout produced no connection, and why a wait for the pool to empty ended early.

use std::time::Duration;

use crate::error::{Class, ClientError};

use super::event::Outcome;

/// Why a checkout produced no connection. `E` is the manager's error.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError<E> {
    /// No permit came free in time. Said in SQLAlchemy's words, which people search their logs for.
    #[error(
        "QueuePool limit of size {size} overflow {overflow} reached, connection timed out, timeout {:.2}",
        waited.as_secs_f64()
    )]
    Timeout {
        /// The pool's `size`.
        size: u32,
        /// Connections beyond `size` at that moment; negative while fewer than `size` exist.
        overflow: i32,
        /// How long the checkout waited.
        waited: Duration,
    },
    /// A limit over several pools left no room for one more connection in time.
    #[error(
        "limit of {limit} connections over all pools reached, connection timed out, timeout {:.2}",
        waited.as_secs_f64()
    )]
    NoRoom {
        /// The limit.
        limit: usize,
        /// How long the checkout waited.
        waited: Duration,
    },
    /// The connect failed.
    #[error("could not connect")]
    Connect(#[source] E),
    /// The connect took too long.
    #[error("could not connect within {after:?}")]
    ConnectTimeout {
        /// The limit.
        after: Duration,
    },
    /// A connection that is alive refused the ping.
    #[error("the ping before the checkout failed")]
    Ping(#[source] E),
    /// A connection that looks alive did not answer the ping in time.
    #[error("the ping before the checkout was not answered in time")]
    PingTimeout,
    /// The connection was dead, and so was each that replaced it.
    #[error("this connection is closed, and so was each that replaced it")]
    Dead,
    /// The pool stayed paused until the timeout.
    #[error("the pool is paused; waited {:.2} s for it", waited.as_secs_f64())]
    Paused {
        /// How long the checkout waited.
        waited: Duration,
    },
    /// The pool was closed.
    #[error("the pool is closed")]
    Closed,
}

impl<E> CheckoutError<E> {
    /// How the checkout ended, as metrics count it.
    pub fn outcome(&self) -> Outcome {
        match self {
            CheckoutError::Timeout { .. } | CheckoutError::NoRoom { .. } => Outcome::Timeout,
            CheckoutError::Connect(_) | CheckoutError::ConnectTimeout { .. } => {
                Outcome::ConnectError
            }
            CheckoutError::Ping(_) | CheckoutError::PingTimeout | CheckoutError::Dead => {
                Outcome::PingError
            }
            CheckoutError::Paused { .. } => Outcome::Paused,
            CheckoutError::Closed => Outcome::Closed,
        }
    }
}

impl<E: std::error::Error + 'static> ClientError for CheckoutError<E> {
    fn class(&self) -> Class {
        match self {
            CheckoutError::Timeout { .. } | CheckoutError::NoRoom { .. } => Class::PoolTimeout,
            CheckoutError::Connect(_) | CheckoutError::ConnectTimeout { .. } => Class::Connect,
            CheckoutError::Ping(_) | CheckoutError::PingTimeout | CheckoutError::Dead => {
                Class::ServerLost
            }
            CheckoutError::Paused { .. } => Class::Paused,
            CheckoutError::Closed => Class::Shutdown,
        }
    }
}

/// Connections were still held when a wait for the pool to empty ran out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{held} connections were still held after {after:?}")]
pub struct StillHeld {
    /// Permits still out.
    pub held: u32,
    /// The limit of the wait.
    pub after: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_reads_as_sqlalchemys() {
        let error = CheckoutError::<std::io::Error>::Timeout {
            size: 3,
            overflow: 2,
            waited: Duration::from_millis(300),
        };
        assert_eq!(
            error.to_string(),
            "QueuePool limit of size 3 overflow 2 reached, connection timed out, timeout 0.30"
        );
        assert_eq!(error.sqlstate(), "53300");
    }

    #[test]
    fn a_refused_connect_tells_its_cause_once() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let error = CheckoutError::Connect(refused);
        assert_eq!(
            error.client_message(),
            "could not connect: connection refused"
        );
    }
}

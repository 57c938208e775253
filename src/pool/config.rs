//! What a pool can be told.

use std::time::Duration;

/// The most that `ceiling` may be: [`super::gauges`] packs three counts below it into one word.
pub(super) const MAX_CEILING: u32 = 1_000_000;

/// The rules of one pool. `Default` is what SQLAlchemy's users run with (25 + 10 connections, 30 s, 30 min).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Connections kept idle at most. 0 keeps every connection and sets no limit, as in SQLAlchemy.
    pub size: u32,
    /// Connections beyond `size` at most; -1 is no limit but [`ceiling`](Self::ceiling).
    pub max_overflow: i32,
    /// How long a checkout waits at the gate. Connect and ping have limits of their own and come on top.
    pub timeout: Duration,
    /// A connection strictly older than this is replaced at its checkout; `None` never.
    pub recycle: Option<Duration>,
    /// Whether a connection is looked at before it is handed out.
    pub pre_ping: bool,
    /// Idle at least this long, a connection is pinged; shorter, only looked at for a hang-up. Zero pings always.
    pub pre_ping_after: Duration,
    /// How long a ping may take.
    pub pre_ping_timeout: Duration,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// Hand out the connection returned last rather than the one returned first. Fixed for a pool's life.
    pub use_lifo: bool,
    /// `false`: each checkout opens a connection of its own and its return closes it; no limit. Fixed for a pool's life.
    pub enabled: bool,
    /// What bb8 is built with, and the limit where the rules set none. Fixed for a pool's life.
    pub ceiling: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            size: 25,
            max_overflow: 10,
            timeout: Duration::from_secs(30),
            recycle: Some(Duration::from_secs(30 * 60)),
            pre_ping: true,
            pre_ping_after: Duration::from_secs(1),
            pre_ping_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            use_lifo: false,
            enabled: true,
            ceiling: 10_000,
        }
    }
}

/// A configuration that no pool can run with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `ceiling` is zero or absurd.
    #[error("the pool's ceiling is {ceiling}, but must be between 1 and {MAX_CEILING}")]
    Ceiling {
        /// What was asked for.
        ceiling: u32,
    },
    /// `max_overflow` is below -1.
    #[error("the pool's max_overflow is {max_overflow}, but must be -1 (no limit) or more")]
    MaxOverflow {
        /// What was asked for.
        max_overflow: i32,
    },
    /// More connections than the ceiling allows.
    #[error(
        "the pool's size and max_overflow sum up to {limit}, more than its ceiling of {ceiling}"
    )]
    AboveCeiling {
        /// `size + max_overflow`.
        limit: u64,
        /// The ceiling.
        ceiling: u32,
    },
    /// A reload changes what is fixed for a pool's life.
    #[error("the pool's {key} cannot change while it runs")]
    Fixed {
        /// The field of [`Config`].
        key: &'static str,
    },
}

/// What `size` and `max_overflow` come to once SQLAlchemy's special cases are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    /// `size` as shown.
    pub(super) size: u32,
    /// `max_overflow` as shown; -1 is no limit.
    pub(super) max_overflow: i32,
    /// Connections that may stay idle.
    pub(super) keep: u32,
    /// Permits of the gate.
    pub(super) limit: u32,
}

impl Config {
    /// Checks everything and resolves the special cases.
    pub(super) fn shape(&self) -> Result<Shape, ConfigError> {
        let Config {
            size,
            max_overflow,
            ceiling,
            ..
        } = *self;
        if ceiling == 0 || ceiling > MAX_CEILING {
            return Err(ConfigError::Ceiling { ceiling });
        }
        if max_overflow < -1 {
            return Err(ConfigError::MaxOverflow { max_overflow });
        }
        let limit = u64::from(size) + u64::from(max_overflow.max(0).unsigned_abs());
        if limit > u64::from(ceiling) {
            return Err(ConfigError::AboveCeiling { limit, ceiling });
        }
        Ok(if !self.enabled {
            Shape {
                size: 0,
                max_overflow: -1,
                keep: 0,
                limit: MAX_CEILING,
            }
        } else if size == 0 {
            Shape {
                size,
                max_overflow: -1,
                keep: ceiling,
                limit: ceiling,
            }
        } else if max_overflow < 0 {
            Shape {
                size,
                max_overflow,
                keep: size,
                limit: ceiling,
            }
        } else {
            Shape {
                size,
                max_overflow,
                keep: size,
                limit: limit as u32,
            }
        })
    }

    /// That `next` changes only what a running pool can change.
    pub(super) fn allows(&self, next: &Config) -> Result<(), ConfigError> {
        for (key, same) in [
            ("use_lifo", self.use_lifo == next.use_lifo),
            ("enabled", self.enabled == next.enabled),
            ("ceiling", self.ceiling == next.ceiling),
        ] {
            if !same {
                return Err(ConfigError::Fixed { key });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(size: u32, max_overflow: i32) -> Config {
        Config {
            size,
            max_overflow,
            ceiling: 100,
            ..Config::default()
        }
    }

    #[test]
    fn special_sizes_are_resolved_as_sqlalchemy_does() {
        let plain = config(25, 10).shape().unwrap();
        assert_eq!((plain.keep, plain.limit), (25, 35));
        let unlimited = config(25, -1).shape().unwrap();
        assert_eq!((unlimited.keep, unlimited.limit), (25, 100));
        let keeps_all = config(0, 0).shape().unwrap();
        assert_eq!(
            (keeps_all.keep, keeps_all.limit, keeps_all.max_overflow),
            (100, 100, -1)
        );
        let off = Config {
            enabled: false,
            ..config(25, 10)
        }
        .shape()
        .unwrap();
        assert_eq!((off.keep, off.limit, off.size), (0, MAX_CEILING, 0));
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert_eq!(
            config(25, -2).shape(),
            Err(ConfigError::MaxOverflow { max_overflow: -2 })
        );
        assert_eq!(
            config(95, 6).shape(),
            Err(ConfigError::AboveCeiling {
                limit: 101,
                ceiling: 100
            })
        );
        assert!(config(95, 5).shape().is_ok());
        for ceiling in [0, MAX_CEILING + 1] {
            let config = Config {
                ceiling,
                ..Config::default()
            };
            assert_eq!(config.shape(), Err(ConfigError::Ceiling { ceiling }));
        }
    }
}

//! The settings a checkout reads, each an atomic: a reload never makes a checkout wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::config::Config;

/// The reloadable part of [`Config`] but for the sizes, which the gate and the shelf hold.
#[derive(Debug)]
pub(super) struct Knobs {
    timeout: Span,
    recycle: Span,
    pre_ping: AtomicBool,
    pre_ping_after: Span,
    pre_ping_timeout: Span,
    connect_timeout: Span,
}

impl Knobs {
    pub(super) fn new(config: &Config) -> Self {
        let knobs = Self {
            timeout: Span::default(),
            recycle: Span::default(),
            pre_ping: AtomicBool::new(false),
            pre_ping_after: Span::default(),
            pre_ping_timeout: Span::default(),
            connect_timeout: Span::default(),
        };
        knobs.set(config);
        knobs
    }

    pub(super) fn set(&self, config: &Config) {
        self.timeout.set(config.timeout);
        self.recycle.set(config.recycle.unwrap_or(Duration::MAX));
        self.pre_ping.store(config.pre_ping, Relaxed);
        self.pre_ping_after.set(config.pre_ping_after);
        self.pre_ping_timeout.set(config.pre_ping_timeout);
        self.connect_timeout.set(config.connect_timeout);
    }

    pub(super) fn timeout(&self) -> Duration {
        self.timeout.get()
    }

    /// No age is above the longest span, so "never" needs no case of its own.
    pub(super) fn recycle(&self) -> Duration {
        self.recycle.get()
    }

    pub(super) fn pre_ping(&self) -> bool {
        self.pre_ping.load(Relaxed)
    }

    pub(super) fn pre_ping_after(&self) -> Duration {
        self.pre_ping_after.get()
    }

    pub(super) fn pre_ping_timeout(&self) -> Duration {
        self.pre_ping_timeout.get()
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        self.connect_timeout.get()
    }
}

/// A duration in nanoseconds; anything beyond 584 years is that.
#[derive(Debug, Default)]
struct Span(AtomicU64);

impl Span {
    fn set(&self, span: Duration) {
        self.0
            .store(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn get(&self) -> Duration {
        Duration::from_nanos(self.0.load(Relaxed))
    }
}

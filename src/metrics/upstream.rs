//! Whether a PostgreSQL host answers, as the last probe found it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use super::families as f;
use super::labels::server_port;
use super::scrape::Scrape;

/// The figures of one PostgreSQL host.
#[derive(Debug)]
pub struct UpstreamMetrics {
    host: String,
    port: u16,
    up: AtomicBool,
    /// Unix time in seconds, as the bits of an `f64`; 0 before the first probe.
    probed_at: AtomicU64,
}

impl UpstreamMetrics {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self {
            host: host.to_owned(),
            port,
            up: AtomicBool::new(false),
            probed_at: AtomicU64::new(0),
        }
    }

    /// A probe ended; `up` says whether the host answered.
    pub fn probed(&self, up: bool) {
        // A clock before 1970 is shown as 1970: it is the operator's to see, not ours to fail on.
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.up.store(up, Ordering::Relaxed);
        self.probed_at
            .store(now.as_secs_f64().to_bits(), Ordering::Relaxed);
    }

    pub(super) fn is(&self, host: &str, port: u16) -> bool {
        self.host == host && self.port == port
    }

    pub(super) fn collect(&self, out: &mut Scrape) {
        let port = server_port(self.port);
        let labels = [self.host.as_str(), port.as_str()];
        let up = self.up.load(Ordering::Relaxed);
        let probed_at = f64::from_bits(self.probed_at.load(Ordering::Relaxed));
        out.gauge(&f::UPSTREAM_UP, &labels, f64::from(u8::from(up)));
        out.gauge(&f::UPSTREAM_PROBED, &labels, probed_at);
    }
}

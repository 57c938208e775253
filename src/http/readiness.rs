//! Ready means that every latch has been dropped. Whoever must do something before the process can serve takes a latch
//! and drops it when done; nobody has to know the others.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// Whether the process can serve, and if not, why. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<Reasons>>);

#[derive(Debug, Default)]
struct Reasons {
    /// How many latches of each name are held.
    latches: BTreeMap<&'static str, usize>,
    stopping: bool,
}

impl Readiness {
    /// Ready, until a latch is taken.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready for the reason `name`, until the latch is dropped.
    pub fn latch(&self, name: &'static str) -> Latch {
        *self.0.lock().latches.entry(name).or_default() += 1;
        Latch {
            readiness: self.clone(),
            name,
        }
    }

    /// Not ready any more, for good: the process is stopping.
    pub fn set_stopping(&self) {
        self.0.lock().stopping = true;
    }

    /// Why the process cannot serve; empty when it can.
    pub fn reasons(&self) -> Vec<&'static str> {
        let reasons = self.0.lock();
        let stopping = reasons.stopping.then_some("stopping");
        stopping
            .into_iter()
            .chain(reasons.latches.keys().copied())
            .collect()
    }

    /// Whether the process can serve.
    pub fn is_ready(&self) -> bool {
        self.reasons().is_empty()
    }
}

/// One thing that is missing. Drop it when it is there.
#[derive(Debug)]
#[must_use = "dropping the latch says that what it stands for is done"]
pub struct Latch {
    readiness: Readiness,
    name: &'static str,
}

impl Drop for Latch {
    fn drop(&mut self) {
        let mut reasons = self.readiness.0.lock();
        if let Some(count) = reasons.latches.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                reasons.latches.remove(self.name);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_the_last_latch_drops() {
        let readiness = Readiness::new();
        let first = readiness.latch("probe");
        let second = readiness.latch("probe");
        let third = readiness.latch("listener");
        assert_eq!(readiness.reasons(), ["listener", "probe"]);
        drop(first);
        drop(third);
        assert_eq!(readiness.reasons(), ["probe"]);
        drop(second);
        assert!(readiness.is_ready());
    }

    #[test]
    fn stopping_is_final() {
        let readiness = Readiness::new();
        readiness.set_stopping();
        drop(readiness.latch("probe"));
        assert_eq!(readiness.reasons(), ["stopping"]);
    }
}

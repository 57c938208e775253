//! The threads that do the work: one current-thread runtime each.
//!
//! A transaction's client and server socket are then served by one thread, without a lock or a wake-up between threads:
//! measured, work stealing cost a third more CPU per transaction on two cores. This is the only place where the choice
//! is made.

use std::io;
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

/// Threads with a runtime each; dropping it ends them.
#[derive(Debug)]
pub(super) struct Threads {
    handles: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    end: CancellationToken,
}

impl Threads {
    /// Starts this many, at least one.
    pub(super) fn start(name: &'static str, count: u32) -> io::Result<Self> {
        let end = CancellationToken::new();
        let (mut handles, mut threads) = (Vec::new(), Vec::new());
        for _ in 0..count.max(1) {
            let runtime = Builder::new_current_thread().enable_all().build()?;
            handles.push(runtime.handle().clone());
            let ended = end.clone();
            let run = move || runtime.block_on(ended.cancelled());
            threads.push(
                std::thread::Builder::new()
                    .name(name.to_owned())
                    .spawn(run)?,
            );
        }
        Ok(Self {
            handles,
            threads,
            end,
        })
    }

    /// The runtime for what exists once.
    pub(super) fn first(&self) -> Handle {
        self.handles[0].clone()
    }

    /// All runtimes.
    pub(super) fn handles(&self) -> Vec<Handle> {
        self.handles.clone()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.end.cancel();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so; there is nothing to add here.
            let _ = thread.join();
        }
    }
}

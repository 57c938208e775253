//! What operators ask of the process as a whole: a queue from the console to whoever runs the [`App`](super::App).

use std::future::poll_fn;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::console::{Answer, Ask};

/// Operators that wait at once; more are told so.
const WAITING: usize = 16;

/// Something that was asked for, to be answered once.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub ask: Ask,
    reply: oneshot::Sender<Result<(), String>>,
}

impl Asked {
    /// Says that it is done or will be, or why not.
    pub fn answer(self, answer: Result<(), String>) {
        // Who does not wait any more need not know.
        let _ = self.reply.send(answer);
    }
}

/// The end that asks.
#[derive(Debug, Clone)]
pub(super) struct Asking(mpsc::Sender<Asked>);

/// The end that is asked.
#[derive(Debug)]
pub(super) struct Asks(Mutex<mpsc::Receiver<Asked>>);

pub(super) fn channel() -> (Asking, Asks) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Asking(sender), Asks(Mutex::new(receiver)))
}

impl Asking {
    /// Asks, and resolves with the answer.
    pub(super) fn ask(&self, ask: Ask) -> Answer<Result<(), String>> {
        let sender = self.0.clone();
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            if sender.try_send(Asked { ask, reply }).is_err() {
                return Err("the process takes no orders now".to_owned());
            }
            let gone = |_| Err("the process did not answer".to_owned());
            answer.await.unwrap_or_else(gone)
        })
    }
}

impl Asks {
    /// The next one; never, when nobody can ask any more.
    pub(super) async fn next(&self) -> Asked {
        let next = poll_fn(|cx| self.0.lock().poll_recv(cx)).await;
        match next {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}

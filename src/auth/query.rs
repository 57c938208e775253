//! Users that PostgreSQL is asked for (`auth.query`).
//!
//! An answer is good for a few seconds, so that an application that opens all its connections at once costs one question,
//! and a changed password is known soon. One question is under way at a time: the control pool has others to serve.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::users::{Stored, StoredError};
use crate::control::{Control, ControlError};

/// For the wait of one's turn and the answer together.
const LIMIT: Duration = Duration::from_secs(5);
/// An answer is asked for anew after this.
const FRESH: Duration = Duration::from_secs(5);
/// Answers that are kept. Beyond it none is until the old ones have gone.
const CACHED: usize = 10_000;

/// Why a user could not be asked for.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// PostgreSQL gave no answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Its answer is no stored password.
    #[error(transparent)]
    Stored(#[from] StoredError),
    /// The runtime that asks has ended.
    #[error("poolwatch is stopping")]
    Stopping,
}

/// Asks PostgreSQL for users.
#[derive(Debug)]
pub struct Lookup {
    asker: Arc<Asker>,
    /// The control path's: its connections live there.
    runtime: Handle,
    answers: Mutex<HashMap<String, Answer>>,
}

#[derive(Debug)]
struct Asker {
    control: Control,
    query: String,
    turn: Semaphore,
}

#[derive(Debug)]
struct Answer {
    stored: Option<Stored>,
    at: Instant,
}

impl Lookup {
    /// Asks this query, with the user's name as `$1`, for its name and its stored password.
    pub fn new(control: Control, query: String, runtime: Handle) -> Self {
        let turn = Semaphore::new(1);
        Self {
            asker: Arc::new(Asker {
                control,
                query,
                turn,
            }),
            runtime,
            answers: Mutex::default(),
        }
    }

    /// What is stored of this user; `None` if there is no such user.
    pub(super) async fn find(&self, user: &str) -> Result<Option<Stored>, LookupError> {
        if let Some(stored) = self.fresh(user) {
            return Ok(stored);
        }
        let (asker, name) = (self.asker.clone(), user.to_owned());
        let asking = self
            .runtime
            .spawn(async move { tokio::time::timeout(LIMIT, asker.ask(&name)).await });
        let answer = asking.await.map_err(|_| LookupError::Stopping)?;
        let stored = answer.map_err(|_| ControlError::Deadline(LIMIT))??;
        self.keep(user, stored.clone());
        Ok(stored)
    }

    /// Forgets an answer that somebody was refused by: it may have changed since.
    pub(super) fn forget(&self, user: &str) {
        self.answers.lock().remove(user);
    }

    fn fresh(&self, user: &str) -> Option<Option<Stored>> {
        let answers = self.answers.lock();
        let answer = answers.get(user)?;
        (answer.at.elapsed() < FRESH).then(|| answer.stored.clone())
    }

    fn keep(&self, user: &str, stored: Option<Stored>) {
        let mut answers = self.answers.lock();
        if answers.len() >= CACHED {
            answers.retain(|_, answer| answer.at.elapsed() < FRESH);
        }
        if answers.len() < CACHED {
            let at = Instant::now();
            answers.insert(user.to_owned(), Answer { stored, at });
        }
    }
}

impl Asker {
    async fn ask(&self, user: &str) -> Result<Option<Stored>, LookupError> {
        // Never closed; were it, nobody would have to wait.
        let _turn = self.turn.acquire().await;
        let Some(secret) = self.control.user_secret(&self.query, user, LIMIT).await? else {
            return Ok(None);
        };
        // A password of NULL is a user without one.
        Ok(Some(Stored::read(
            secret.as_ref().map_or("", |secret| secret.expose()),
        )?))
    }
}

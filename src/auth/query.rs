//! Users that PostgreSQL is asked for (`auth.query`).
//!
//! One question is under way at a time: the control pool has others to serve. Its answer is good for all who came before it
//! was asked, so that an application that opens all its connections at once costs one or two, and for nobody who came
//! later: a role that is dropped and made anew has another verifier, though its password may be the same.

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
}

#[derive(Debug)]
struct Asker {
    control: Control,
    query: String,
    turn: Semaphore,
    answers: Mutex<HashMap<String, Answer>>,
}

#[derive(Debug)]
struct Answer {
    stored: Option<Stored>,
    /// When the question was asked.
    asked: Instant,
}

impl Lookup {
    /// Asks this query, with the user's name as `$1`, for its name and its stored password.
    pub fn new(control: Control, query: String, runtime: Handle) -> Self {
        let asker = Asker {
            control,
            query,
            turn: Semaphore::new(1),
            answers: Mutex::default(),
        };
        Self {
            asker: Arc::new(asker),
            runtime,
        }
    }

    /// What is stored of this user; `None` if there is no such user.
    pub(super) async fn find(&self, user: &str) -> Result<Option<Stored>, LookupError> {
        let (asker, name, came) = (self.asker.clone(), user.to_owned(), Instant::now());
        let asking = self
            .runtime
            .spawn(async move { tokio::time::timeout(LIMIT, asker.find(&name, came)).await });
        let answer = asking.await.map_err(|_| LookupError::Stopping)?;
        answer.map_err(|_| ControlError::Deadline(LIMIT))?
    }
}

impl Asker {
    /// For somebody who came at this time.
    async fn find(&self, user: &str, came: Instant) -> Result<Option<Stored>, LookupError> {
        // Never closed; were it, nobody would have to wait.
        let _turn = self.turn.acquire().await;
        if let Some(stored) = self.asked_since(user, came) {
            return Ok(stored);
        }
        let asked = Instant::now();
        let stored = self.ask(user).await?;
        let answer = Answer {
            stored: stored.clone(),
            asked,
        };
        let mut answers = self.answers.lock();
        // Whoever came before has given up.
        answers.retain(|_, answer| answer.asked.elapsed() < LIMIT);
        answers.insert(user.to_owned(), answer);
        Ok(stored)
    }

    fn asked_since(&self, user: &str, came: Instant) -> Option<Option<Stored>> {
        let answers = self.answers.lock();
        let answer = answers.get(user)?;
        (answer.asked >= came).then(|| answer.stored.clone())
    }

    async fn ask(&self, user: &str) -> Result<Option<Stored>, LookupError> {
        let Some(secret) = self.control.user_secret(&self.query, user, LIMIT).await? else {
            return Ok(None);
        };
        // A password of NULL is a user without one.
        Ok(Some(Stored::read(
            secret.as_ref().map_or("", |secret| secret.expose()),
        )?))
    }
}

//! What servers of one user are logged in with.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::scram::{ClientProof, ScramKeys};
use crate::secret::Secret;

/// What proves to PostgreSQL who we are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credential {
    /// Nothing: good where PostgreSQL trusts, or asks for a certificate.
    #[default]
    None,
    /// The password; good for every method.
    Password(Secret),
    /// `md5` and 32 digits, as PostgreSQL stores it; good for md5 only.
    Md5(Secret),
    /// What a client's own login revealed; good for SCRAM with the very same verifier only.
    Scram(ScramKeys),
}

impl Credential {
    pub(super) fn password(&self) -> Option<&Secret> {
        match self {
            Credential::Password(password) => Some(password),
            _ => None,
        }
    }

    pub(super) fn scram(&self) -> Option<ClientProof> {
        match self {
            Credential::Password(password) => Some(ClientProof::Password(password.clone())),
            Credential::Scram(keys) => Some(ClientProof::Keys(keys.clone())),
            Credential::None | Credential::Md5(_) => None,
        }
    }
}

/// One user's credential, which may change while there are pools of that user: each connect uses what it is then. Clones
/// share it.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    current: Mutex<Credential>,
    changes: AtomicU64,
}

impl Credentials {
    /// With this credential to begin with.
    pub fn new(credential: Credential) -> Self {
        Self(Arc::new(Shared {
            current: Mutex::new(credential),
            changes: AtomicU64::new(0),
        }))
    }

    /// With a password, if there is one.
    pub fn password(password: Option<Secret>) -> Self {
        Self::new(password.map_or(Credential::None, Credential::Password))
    }

    /// What it is now.
    pub fn get(&self) -> Credential {
        self.0.current.lock().clone()
    }

    /// From now on this one. Connections that are open stay.
    pub fn set(&self, credential: Credential) {
        let mut current = self.0.current.lock();
        if *current != credential {
            *current = credential;
            self.0.changes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often it has changed.
    pub fn changes(&self) -> u64 {
        self.0.changes.load(Ordering::Relaxed)
    }
}

//! How a client proves who it is: what it has to do next, and what its answer is worth.

use super::error::{AuthError, Failure};
use super::users::Stored;
use super::{Admission, Channel, Method, Source};
use crate::backend::Credentials;
use crate::md5;
use crate::scram::{Challenge, ClientFault, ServerExchange, Verifier};
use crate::secret::Secret;

/// What comes next in a login.
#[derive(Debug)]
pub enum Step {
    /// Nothing: the client is in, and its servers are opened with this.
    Granted(Credentials),
    /// AuthenticationSASL.
    Scram(ScramLogin),
    /// AuthenticationCleartextPassword.
    Password(PasswordLogin),
    /// AuthenticationMD5Password.
    Md5(Md5Login),
}

/// The user that a proof is about. `None` is stored of one that does not exist.
#[derive(Debug)]
struct Claim {
    admission: Admission,
    user: String,
    source: Source,
    stored: Option<Stored>,
}

impl Claim {
    fn failed(&self) -> AuthError {
        let failure = match &self.stored {
            None => Failure::UnknownUser,
            Some(Stored::Nothing) => Failure::NoPassword,
            Some(Stored::Md5(_)) if self.admission.0.method == Method::Scram => Failure::NoPassword,
            Some(_) => Failure::WrongPassword,
        };
        self.admission.failed(&self.user, self.source, failure)
    }

    /// What to check with, for a user that does not exist or has no password a made-up one.
    fn verifier(&self) -> Verifier {
        let stored = self.stored.as_ref().and_then(Stored::verifier);
        stored
            .cloned()
            .unwrap_or_else(|| Verifier::mock(&self.user, &self.admission.0.mock))
    }

    fn proved(&self, keys: Option<crate::scram::ScramKeys>) -> Result<Credentials, AuthError> {
        match &self.stored {
            Some(stored) => self.admission.proved(&self.user, self.source, stored, keys),
            None => Err(self.failed()),
        }
    }
}

impl Admission {
    /// Begins a login, after the wait that failed ones before it cost.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn begin(&self, user: &str, channel: &Channel) -> Result<Step, AuthError> {
        let source = channel.source;
        match self.0.method {
            Method::Password if !channel.encrypted => return Err(AuthError::TlsRequired),
            Method::Cert if channel.common_name.is_none() => return Err(AuthError::NoCertificate),
            _ => {}
        }
        if self.0.pace.turn(source, user).await.is_err() {
            return Err(AuthError::TooManyWaiting(user.to_owned()));
        }
        let claim = Claim {
            stored: self.find(user).await?,
            admission: self.clone(),
            user: user.to_owned(),
            source,
        };
        match self.0.method {
            Method::Trust => match &claim.stored {
                Some(_) => Ok(Step::Granted(claim.proved(None)?)),
                None => Err(AuthError::NotServed(user.to_owned())),
            },
            Method::Cert if channel.common_name.as_deref() == Some(user) => match claim.stored {
                Some(_) => Ok(Step::Granted(claim.proved(None)?)),
                None => Err(AuthError::NotServed(user.to_owned())),
            },
            Method::Cert => {
                self.0.pace.failed(source, user);
                Err(AuthError::Certificate {
                    user: user.to_owned(),
                })
            }
            Method::Password => Ok(Step::Password(PasswordLogin { claim })),
            Method::Auto if matches!(claim.stored, Some(Stored::Md5(_))) => {
                Ok(Step::Md5(Md5Login {
                    claim,
                    salt: rand::random(),
                }))
            }
            Method::Auto | Method::Scram => Ok(Step::Scram(ScramLogin {
                exchange: ServerExchange::new(claim.verifier(), channel.end_point.clone()),
                claim,
            })),
        }
    }
}

/// SCRAM, before the client's first message.
#[derive(Debug)]
pub struct ScramLogin {
    claim: Claim,
    exchange: ServerExchange,
}

/// SCRAM, before the client's proof.
#[derive(Debug)]
pub struct ScramChallenge {
    claim: Claim,
    challenge: Challenge,
}

impl ScramLogin {
    /// What to offer.
    pub fn mechanisms(&self) -> &'static [&'static str] {
        self.exchange.mechanisms()
    }

    /// Reads the client's first message; gives ours.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn begin(
        self,
        mechanism: &[u8],
        message: &[u8],
    ) -> Result<(ScramChallenge, String), AuthError> {
        let begun = self.exchange.begin(mechanism, message);
        let (challenge, answer) = begun.map_err(AuthError::Fault)?;
        let claim = self.claim;
        Ok((ScramChallenge { claim, challenge }, answer))
    }
}

impl ScramChallenge {
    /// Reads the client's proof; gives our last message, and what servers are opened with.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn finish(self, message: &[u8]) -> Result<(String, Credentials), AuthError> {
        match self.challenge.finish(message) {
            Ok(proved) => Ok((proved.message, self.claim.proved(Some(proved.keys))?)),
            Err(ClientFault::Proof) => Err(self.claim.failed()),
            Err(fault) => Err(AuthError::Fault(fault)),
        }
    }
}

/// A password that comes as it is.
#[derive(Debug)]
pub struct PasswordLogin {
    claim: Claim,
}

impl PasswordLogin {
    /// Checks it, off the thread that carries queries: this is where the work of SCRAM is done by us.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub async fn finish(self, password: Secret) -> Result<Credentials, AuthError> {
        let admission = self.claim.admission.clone();
        // Never closed; were it, nobody would have to wait.
        let _turn = admission.0.checks.acquire().await;
        let checking = tokio::task::spawn_blocking(move || self.check(&password));
        let interrupted = |_| AuthError::Malformed("the check was interrupted");
        checking.await.map_err(interrupted)?
    }

    /// The verifier is tried for everybody, so that it costs the same.
    fn check(self, password: &Secret) -> Result<Credentials, AuthError> {
        let claim = self.claim;
        let keys = claim.verifier().check(password.expose());
        let by_hash = match &claim.stored {
            Some(Stored::Md5(hash)) => *hash == md5::stored(password.expose(), &claim.user),
            _ => false,
        };
        if keys.is_none() && !by_hash {
            return Err(claim.failed());
        }
        claim.proved(keys)
    }
}

/// md5 with a salt.
#[derive(Debug)]
pub struct Md5Login {
    claim: Claim,
    salt: [u8; 4],
}

impl Md5Login {
    /// What the client mixes in.
    pub fn salt(&self) -> [u8; 4] {
        self.salt
    }

    /// Checks the answer.
    ///
    /// # Errors
    /// See [`AuthError`].
    pub fn finish(self, answer: &Secret) -> Result<Credentials, AuthError> {
        let expected = match &self.claim.stored {
            Some(Stored::Md5(hash)) => Secret::from(md5::salted(hash, self.salt)),
            _ => return Err(self.claim.failed()),
        };
        if expected == *answer {
            self.claim.proved(None)
        } else {
            Err(self.claim.failed())
        }
    }
}

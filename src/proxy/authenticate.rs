//! Asking a client to prove who it is: the messages around what [`crate::auth`] decides.
//!
//! Source: PostgreSQL documentation, "Message Flow: Start-up" and "SASL Authentication".

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::auth::{Admission, AuthError, Channel, ScramLogin, Step};
use crate::backend::Credentials;
use crate::metrics::ProxyMetrics;
use crate::pgwire::{FrameError, HEADER, Header, Replies, SaslInitialResponse, frontend, password};
use crate::secret::Secret;
use crate::tls::Stream;

/// No answer of a login is longer: PostgreSQL's limit of a password (`PG_MAX_AUTH_TOKEN_LENGTH`).
const ANSWER: usize = 65_535;

/// Why a client does not come in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// It did not prove who it is.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// It left; as psql does to ask for a password.
    #[error("the client left during its login")]
    Gone(#[from] io::Error),
}

impl From<FrameError> for Refused {
    fn from(_: FrameError) -> Self {
        malformed("invalid length of an answer during authentication")
    }
}

fn malformed(what: &'static str) -> Refused {
    Refused::Auth(AuthError::Malformed(what))
}

/// A client that is being asked.
#[derive(Debug)]
pub(super) struct Conversation<'a> {
    pub(super) stream: &'a mut Stream,
    pub(super) metrics: &'a ProxyMetrics,
}

impl Conversation<'_> {
    /// Asks, and reads the answers. The caller sets the limit.
    pub(super) async fn authenticate(
        &mut self,
        admission: &Admission,
        user: &str,
        channel: &Channel,
    ) -> Result<Credentials, Refused> {
        match admission.begin(user, channel).await? {
            Step::Granted(credentials) => Ok(credentials),
            Step::Scram(login) => self.scram(login).await,
            Step::Password(login) => {
                let mut ask = Replies::default();
                ask.authentication_cleartext_password();
                self.send(&ask).await?;
                Ok(login.finish(self.password().await?).await?)
            }
            Step::Md5(login) => {
                let mut ask = Replies::default();
                ask.authentication_md5_password(login.salt());
                self.send(&ask).await?;
                Ok(login.finish(&self.password().await?)?)
            }
        }
    }

    async fn scram(&mut self, login: ScramLogin) -> Result<Credentials, Refused> {
        let mut ask = Replies::default();
        ask.authentication_sasl(login.mechanisms());
        self.send(&ask).await?;
        let body = self.answer().await?;
        let chosen = SaslInitialResponse::parse(&body)
            .ok_or_else(|| malformed("malformed SASL response"))?;
        let asked_for;
        let first = match chosen.data {
            Some(data) => data,
            None => {
                // It wants to be asked (RFC 4422 §3): an empty challenge does that.
                self.challenge("").await?;
                asked_for = self.answer().await?;
                &asked_for
            }
        };
        let (challenge, challenged) = login.begin(chosen.mechanism, first)?;
        self.challenge(&challenged).await?;
        let (last, credentials) = challenge.finish(&self.answer().await?)?;
        let mut proof = Replies::default();
        proof.authentication_sasl_final(last.as_bytes());
        self.send(&proof).await?;
        Ok(credentials)
    }

    async fn challenge(&mut self, data: &str) -> io::Result<()> {
        let mut replies = Replies::default();
        replies.authentication_sasl_continue(data.as_bytes());
        self.send(&replies).await
    }

    /// Sends what is owed.
    pub(super) async fn send(&mut self, replies: &Replies) -> io::Result<()> {
        self.stream.write_all(replies.bytes()).await?;
        self.stream.flush().await?;
        self.metrics.bytes_sent_to_client(replies.bytes().len());
        Ok(())
    }

    /// What is no UTF-8 is no password of ours; a text in its place is checked, so that the refusal costs the same.
    async fn password(&mut self) -> Result<Secret, Refused> {
        let body = self.answer().await?;
        let text = password(&body).ok_or_else(|| malformed("invalid password packet size"))?;
        Ok(Secret::from(String::from_utf8_lossy(text).into_owned()))
    }

    /// The body of the client's next answer; its length is judged before memory is reserved for it.
    async fn answer(&mut self) -> Result<Vec<u8>, Refused> {
        let mut head = [0; HEADER];
        self.stream.read_exact(&mut head).await?;
        if head[0] == frontend::TERMINATE {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        if head[0] != frontend::PASSWORD {
            return Err(malformed(
                "expected a password or SASL response, got another message",
            ));
        }
        let Some(header) = Header::parse(&head)? else {
            return Err(malformed("malformed message"));
        };
        let total = header.at_most(ANSWER)?.total;
        let mut body = vec![0; total - HEADER];
        self.stream.read_exact(&mut body).await?;
        self.metrics.bytes_received_from_client(total);
        Ok(body)
    }
}

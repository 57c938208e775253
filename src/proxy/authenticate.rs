//! Asking a client to prove who it is: the messages around what [`crate::auth`] decides.
//!
//! Source: PostgreSQL documentation, "Message Flow: Start-up" and "SASL Authentication".

use std::io;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::auth::{Admission, AuthError, Channel, ScramLogin, Step};
use crate::backend::Credentials;
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

/// Asks, and reads the answers. The caller sets the limit.
pub(super) async fn authenticate(
    stream: &mut Stream,
    admission: &Admission,
    user: &str,
    channel: &Channel,
) -> Result<Credentials, Refused> {
    match admission.begin(user, channel).await? {
        Step::Granted(credentials) => Ok(credentials),
        Step::Scram(login) => scram(stream, login).await,
        Step::Password(login) => {
            send(stream, |replies| {
                replies.authentication_cleartext_password();
            })
            .await?;
            Ok(login.finish(read_password(stream).await?).await?)
        }
        Step::Md5(login) => {
            send(stream, |replies| {
                replies.authentication_md5_password(login.salt());
            })
            .await?;
            Ok(login.finish(&read_password(stream).await?)?)
        }
    }
}

async fn scram(stream: &mut Stream, login: ScramLogin) -> Result<Credentials, Refused> {
    send(stream, |replies| {
        replies.authentication_sasl(login.mechanisms());
    })
    .await?;
    let body = read_answer(stream).await?;
    let chosen =
        SaslInitialResponse::parse(&body).ok_or_else(|| malformed("malformed SASL response"))?;
    let asked_for;
    let first = match chosen.data {
        Some(data) => data,
        None => {
            // It wants to be asked (RFC 4422 §3): an empty challenge does that.
            send(stream, |replies| {
                replies.authentication_sasl_continue(b"");
            })
            .await?;
            asked_for = read_answer(stream).await?;
            &asked_for
        }
    };
    let (challenge, answer) = login.begin(chosen.mechanism, first)?;
    send(stream, |replies| {
        replies.authentication_sasl_continue(answer.as_bytes());
    })
    .await?;
    let (last, credentials) = challenge.finish(&read_answer(stream).await?)?;
    send(stream, |replies| {
        replies.authentication_sasl_final(last.as_bytes());
    })
    .await?;
    Ok(credentials)
}

async fn send(stream: &mut Stream, fill: impl FnOnce(&mut Replies)) -> io::Result<()> {
    let mut replies = Replies::default();
    fill(&mut replies);
    stream.write_all(replies.bytes()).await?;
    stream.flush().await
}

/// What is no UTF-8 is no password of ours; a text in its place is checked, so that the refusal costs the same.
async fn read_password(stream: &mut Stream) -> Result<Secret, Refused> {
    let body = read_answer(stream).await?;
    let text = password(&body).ok_or_else(|| malformed("invalid password packet size"))?;
    Ok(Secret::from(String::from_utf8_lossy(text).into_owned()))
}

/// The body of the client's next answer; its length is judged before memory is reserved for it.
async fn read_answer(stream: &mut Stream) -> Result<Vec<u8>, Refused> {
    let mut head = [0; HEADER];
    stream.read_exact(&mut head).await?;
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
    let mut body = vec![0; header.at_most(ANSWER)?.total - HEADER];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

//! Proving to PostgreSQL who we are: trust, cleartext, md5, SCRAM-SHA-256.
//!
//! Source: PostgreSQL documentation, "Message Flow: Start-up" and "SASL Authentication"; RFC 5802, RFC 7677.

use postgres_protocol::authentication::md5_hash;

use super::connect::{read_message, send, unexpected};
use super::credentials::Credential;
use super::error::{ConnectError, Phase};
use super::target::Target;
use crate::md5;
use crate::scram::ClientExchange;
use crate::tls::Stream;

/// Answers until the server is satisfied.
pub(super) async fn authenticate(stream: &mut Stream, target: &Target) -> Result<(), ConnectError> {
    loop {
        let (tag, body) = read_message(stream).await?;
        if tag != b'R' {
            if tag == crate::pgwire::backend::NOTICE || tag == b'v' {
                continue;
            }
            return Err(unexpected(tag, &body));
        }
        let Some((method, rest)) = body.split_first_chunk::<4>() else {
            return Err(ConnectError::Unexpected {
                phase: Phase::Login,
                tag,
            });
        };
        match i32::from_be_bytes(*method) {
            0 => return Ok(()),
            3 => {
                let credential = target.credentials.get();
                let password = credential.password();
                let password = password.ok_or_else(|| unfit(target, "password"))?;
                send_password(stream, password.expose().as_bytes()).await?;
            }
            5 => {
                let salt = rest.first_chunk().ok_or(ConnectError::Unexpected {
                    phase: Phase::Login,
                    tag,
                })?;
                send_password(stream, hashed(target, *salt)?.as_bytes()).await?;
            }
            10 => scram(stream, target, rest).await?,
            other => return Err(ConnectError::Method(name(other))),
        }
    }
}

fn name(method: i32) -> &'static str {
    match method {
        2 => "kerberos",
        7 | 8 => "gss",
        9 => "sspi",
        _ => "(unknown)",
    }
}

/// What to say where the credential is none for this method.
fn unfit(target: &Target, method: &'static str) -> ConnectError {
    let user = target.user.clone();
    let has = match target.credentials.get() {
        Credential::None | Credential::Password(_) => return ConnectError::NoPassword { user },
        Credential::Md5(_) => "an md5 hash",
        Credential::Scram(_) => "a SCRAM key",
    };
    ConnectError::Credential { method, has, user }
}

async fn send_password(stream: &mut Stream, password: &[u8]) -> Result<(), ConnectError> {
    if password.contains(&0) {
        return Err(ConnectError::ZeroByte("password"));
    }
    send(stream, &message(&[password, b"\0"])).await
}

/// The answer to a salt: PostgreSQL's stored form, hashed once more.
fn hashed(target: &Target, salt: [u8; 4]) -> Result<String, ConnectError> {
    match target.credentials.get() {
        Credential::Password(password) => Ok(md5_hash(
            target.user.as_bytes(),
            password.expose().as_bytes(),
            salt,
        )),
        Credential::Md5(stored) => Ok(md5::salted(&stored, salt)),
        Credential::None | Credential::Scram(_) => Err(unfit(target, "md5")),
    }
}

/// SCRAM: the server proves by its signature that it knows the password too, and over TLS, where it can, that the
/// certificate we saw is its own.
async fn scram(
    stream: &mut Stream,
    target: &Target,
    mechanisms: &[u8],
) -> Result<(), ConnectError> {
    let proof = target.credentials.get().scram();
    let proof = proof.ok_or_else(|| unfit(target, "scram-sha-256"))?;
    let exchange = ClientExchange::new(proof, mechanisms, stream.server_end_point())
        .ok_or(ConnectError::Method("SASL without SCRAM-SHA-256"))?;
    let first = exchange.message();
    let length = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mechanism = exchange.mechanism().as_bytes();
    send(
        stream,
        &message(&[mechanism, b"\0", &length, first.as_bytes()]),
    )
    .await?;
    let (expected, proof) = exchange.prove(&sasl(stream, 11).await?)?;
    send(stream, &message(&[proof.as_bytes()])).await?;
    Ok(expected.check(&sasl(stream, 12).await?)?)
}

/// The server's next SASL message, which must be of this kind.
async fn sasl(stream: &mut Stream, kind: i32) -> Result<Vec<u8>, ConnectError> {
    let (tag, body) = read_message(stream).await?;
    match body.split_first_chunk::<4>() {
        Some((method, rest)) if tag == b'R' && i32::from_be_bytes(*method) == kind => {
            Ok(rest.to_vec())
        }
        _ => Err(unexpected(tag, &body)),
    }
}

/// A message of the login: all of them have the tag `p`.
fn message(parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = 4 + parts.iter().map(|part| part.len()).sum::<usize>();
    let mut message = vec![crate::pgwire::frontend::PASSWORD];
    message.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        message.extend_from_slice(part);
    }
    message
}

//! Proving to PostgreSQL who we are: trust, cleartext, md5, SCRAM-SHA-256.
//!
//! Source: PostgreSQL documentation, "Message Flow: Start-up" and "SASL Authentication"; RFC 5802, RFC 7677.

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};

use super::connect::{read_message, send, unexpected};
use super::error::{ConnectError, Phase};
use super::target::Target;
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
            3 => send_password(stream, password(target)?).await?,
            5 => {
                let salt = rest.first_chunk().ok_or(ConnectError::Unexpected {
                    phase: Phase::Login,
                    tag,
                })?;
                let hash = md5_hash(target.user.as_bytes(), password(target)?, *salt);
                send_password(stream, hash.as_bytes()).await?;
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

fn password(target: &Target) -> Result<&[u8], ConnectError> {
    target
        .password
        .as_ref()
        .map(|password| password.expose().as_bytes())
        .ok_or(ConnectError::NoPassword)
}

async fn send_password(stream: &mut Stream, password: &[u8]) -> Result<(), ConnectError> {
    if password.contains(&0) {
        return Err(ConnectError::ZeroByte("password"));
    }
    send(stream, &message(&[password, b"\0"])).await
}

/// SCRAM: the server proves by its signature that it knows the password too, and over TLS, where it can, that the
/// certificate we saw is its own.
async fn scram(
    stream: &mut Stream,
    target: &Target,
    mechanisms: &[u8],
) -> Result<(), ConnectError> {
    let (mechanism, binding) = choose(stream.server_end_point(), mechanisms)?;
    let mut exchange = ScramSha256::new(password(target)?, binding);
    let first = exchange.message().to_vec();
    let length = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes();
    send(
        stream,
        &message(&[mechanism.as_bytes(), b"\0", &length, &first]),
    )
    .await?;
    exchange
        .update(&sasl(stream, 11).await?)
        .map_err(ConnectError::Scram)?;
    send(stream, &message(&[exchange.message()])).await?;
    exchange
        .finish(&sasl(stream, 12).await?)
        .map_err(ConnectError::Scram)
}

/// The strongest mechanism that both sides can do. Where nothing can be bound (no TLS, or a signature without a defined
/// binding) we say so. Where only the server does not offer it we say that we could have, so that someone in between who took
/// the offer away is found out (RFC 5802 §6).
fn choose(
    end_point: Option<Vec<u8>>,
    mechanisms: &[u8],
) -> Result<(&'static str, ChannelBinding), ConnectError> {
    let offers = |wanted: &str| {
        mechanisms
            .split(|byte| *byte == 0)
            .any(|name| name == wanted.as_bytes())
    };
    match end_point {
        Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
            let binding = ChannelBinding::tls_server_end_point(end_point);
            Ok((SCRAM_SHA_256_PLUS, binding))
        }
        Some(_) if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        None if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(ConnectError::Method("SASL without SCRAM-SHA-256")),
    }
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

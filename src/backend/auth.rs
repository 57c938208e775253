//! The login, as the server asks for it: nothing, a password, its md5 form, SCRAM-SHA-256 (with channel binding over TLS).

use std::io;

use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};

use super::error::{ConnectError, HangUp, Phase, ProtocolError};
use super::target::Target;
use super::wire::{Message, SMALL, Wire, take_i32, take_text};
use crate::dsn::HostPort;
use crate::pgwire::fields::ServerMessage;
use crate::pgwire::frontend;

// The codes of Authentication messages (PostgreSQL, `src/include/libpq/protocol.h`).
const OK: i32 = 0;
const KERBEROS_V5: i32 = 2;
const CLEARTEXT: i32 = 3;
const MD5: i32 = 5;
const GSS: i32 = 7;
const SSPI: i32 = 9;
const SASL: i32 = 10;
const SASL_CONTINUE: i32 = 11;
const SASL_FINAL: i32 = 12;

/// Answers the server until it says that we are in.
pub(super) async fn log_in(wire: &mut Wire, target: &Target) -> Result<(), ConnectError> {
    loop {
        let (code, body) = request(wire, &target.host).await?;
        let answer = match code {
            OK => return Ok(()),
            CLEARTEXT => frontend::password(password(target, "cleartext")?)?,
            MD5 => {
                let salt = body.first_chunk::<4>();
                let salt = *salt.ok_or_else(|| malformed(&target.host))?;
                let password = password(target, "md5")?;
                let hash = md5_hash(target.user.as_bytes(), password, salt);
                frontend::password(hash.as_bytes())?
            }
            SASL => {
                scram(wire, target, &body).await?;
                continue;
            }
            other => return Err(unsupported(target, name_of(other))),
        };
        send(wire, &target.host, &answer).await?;
    }
}

/// The next Authentication message: its code and what follows.
async fn request(wire: &mut Wire, host: &HostPort) -> Result<(i32, bytes::Bytes), ConnectError> {
    loop {
        let message = wire.receive(SMALL).await.map_err(|end| lost(host, end))?;
        match message.tag {
            b'R' => {
                let code = take_i32(&mut &message.body[..]).ok_or_else(|| malformed(host))?;
                return Ok((code, message.body.slice(4..)));
            }
            _ => refuse_or_ignore(host, &message)?,
        }
    }
}

/// An error ends the login; a notice and the news that the server speaks no newer protocol change nothing.
fn refuse_or_ignore(host: &HostPort, message: &Message) -> Result<(), ConnectError> {
    match message.tag {
        b'E' => Err(ConnectError::Rejected(Box::new(ServerMessage::parse(
            &message.body,
        )))),
        b'N' | b'v' => Ok(()),
        tag => {
            let expected = "an authentication request";
            Err(lost(
                host,
                ProtocolError::Unexpected { tag, expected }.into(),
            ))
        }
    }
}

async fn scram(wire: &mut Wire, target: &Target, mechanisms: &[u8]) -> Result<(), ConnectError> {
    let host = &target.host;
    let failed = |source: io::Error| ConnectError::Scram {
        host: host.clone(),
        source,
    };
    let (mechanism, binding) = choose(wire, target, mechanisms)?;
    let password = password(target, mechanism)?;
    let mut exchange = ScramSha256::new(password, binding);
    let first = frontend::sasl_initial_response(mechanism, exchange.message())?;
    send(wire, host, &first).await?;
    let (code, challenge) = request(wire, host).await?;
    expect(host, code, SASL_CONTINUE)?;
    exchange.update(&challenge).map_err(failed)?;
    let answer = frontend::sasl_response(exchange.message())?;
    send(wire, host, &answer).await?;
    // The server's proof is not optional: without it an impostor could wave us through.
    let (code, proof) = request(wire, host).await?;
    expect(host, code, SASL_FINAL)?;
    exchange.finish(&proof).map_err(failed)
}

/// The strongest mechanism both sides can do. Without TLS, or where the certificate's signature has no defined binding, we
/// say that we cannot bind; where only the server cannot, we say that we could have, so that a man in the middle who took
/// the offer away is found out (RFC 5802 §6).
fn choose(
    wire: &Wire,
    target: &Target,
    mechanisms: &[u8],
) -> Result<(&'static str, ChannelBinding), ConnectError> {
    let mut rest = mechanisms;
    let mut offered = Vec::new();
    while let Some(name) = take_text(&mut rest) {
        if !name.is_empty() {
            offered.push(String::from_utf8_lossy(name));
        }
    }
    let offers = |name: &str| offered.iter().any(|offer| offer == name);
    match wire.stream.server_end_point() {
        Some(end_point) if offers(SCRAM_SHA_256_PLUS) => {
            let binding = ChannelBinding::tls_server_end_point(end_point);
            Ok((SCRAM_SHA_256_PLUS, binding))
        }
        Some(_) if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unrequested())),
        None if offers(SCRAM_SHA_256) => Ok((SCRAM_SHA_256, ChannelBinding::unsupported())),
        _ => Err(unsupported(target, offered.join(", "))),
    }
}

fn password<'a>(target: &'a Target, method: &'static str) -> Result<&'a [u8], ConnectError> {
    match &target.password {
        Some(password) => Ok(password.expose().as_bytes()),
        None => Err(ConnectError::PasswordNeeded {
            host: target.host.clone(),
            method,
        }),
    }
}

async fn send(wire: &mut Wire, host: &HostPort, bytes: &[u8]) -> Result<(), ConnectError> {
    wire.send(bytes).await.map_err(|end| lost(host, end))
}

fn expect(host: &HostPort, code: i32, expected: i32) -> Result<(), ConnectError> {
    if code == expected {
        return Ok(());
    }
    let expected = "the next step of SCRAM";
    Err(lost(
        host,
        ProtocolError::Unexpected {
            tag: b'R',
            expected,
        }
        .into(),
    ))
}

fn lost(host: &HostPort, source: HangUp) -> ConnectError {
    ConnectError::Lost {
        host: host.clone(),
        phase: Phase::Login,
        source,
    }
}

fn malformed(host: &HostPort) -> ConnectError {
    lost(host, ProtocolError::Malformed { tag: b'R' }.into())
}

fn unsupported(target: &Target, method: String) -> ConnectError {
    ConnectError::UnsupportedAuth {
        host: target.host.clone(),
        method,
    }
}

fn name_of(code: i32) -> String {
    match code {
        KERBEROS_V5 => "Kerberos V5".to_owned(),
        GSS => "GSSAPI".to_owned(),
        SSPI => "SSPI".to_owned(),
        other => format!("method {other}"),
    }
}

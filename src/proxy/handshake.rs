//! From an accepted connection to a login: TLS, startup, cancel requests.
//!
//! Functions that take the stream and return the next thing. Bytes are read exactly, never beyond the packet, so that
//! nothing sent in clear before TLS is ever taken for part of the protected session (as CVE-2021-23214 was). A client may
//! also begin with TLS at once (libpq 17, `sslnegotiation=direct`).

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::error::{Class, ClientError};
use crate::pgwire::{
    CancelKey, StartupError, StartupPacket, StartupParameters, parse_startup, startup_length,
};
use crate::tls::{ServerTls, Stream};

/// What the connection is for.
#[derive(Debug)]
pub(super) enum Login {
    /// A session.
    Session {
        /// The stream, encrypted if the client asked.
        stream: Stream,
        /// What SCRAM is bound to on it, where it can be.
        end_point: Option<Arc<[u8]>>,
        /// The protocol's minor version that the client asked for.
        minor: u16,
        /// What the client sent.
        parameters: StartupParameters,
    },
    /// Cancel somebody's query.
    Cancel {
        /// Whose.
        key: CancelKey,
        /// Closed when the request is over: who waits for that, as libpq does, may trust that it hits nothing later.
        stream: Stream,
    },
}

/// Why a login went no further.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    /// The connection failed or ended.
    #[error("the client's connection failed")]
    Io(#[from] io::Error),
    /// The packet cannot be read.
    #[error(transparent)]
    Startup(#[from] StartupError),
    /// SSLRequest after TLS, or twice.
    #[error("encryption was requested twice")]
    Twice,
}

impl ClientError for HandshakeError {
    fn class(&self) -> Class {
        match self {
            HandshakeError::Startup(StartupError::Version { .. }) => Class::Unsupported,
            _ => Class::Protocol,
        }
    }
}

/// Reads up to the StartupMessage. On an error that the client can be told, its stream comes back with it.
pub(super) async fn handshake(
    mut stream: Stream,
    tls: &ServerTls,
) -> Result<Login, (HandshakeError, Option<Stream>)> {
    let mut asked_gss = false;
    let mut end_point = None;
    let gone = |error: io::Error| (HandshakeError::Io(error), None);
    if stream.begins_with_tls().await.map_err(gone)? {
        let encrypted = tls.accept_direct(stream).await.map_err(gone)?;
        (stream, end_point) = (encrypted.stream, encrypted.end_point);
    }
    loop {
        let packet = match read_packet(&mut stream).await {
            Ok(packet) => packet,
            Err(error @ HandshakeError::Io(_)) => return Err((error, None)),
            Err(error) => return Err((error, Some(stream))),
        };
        match packet {
            StartupPacket::Ssl if stream.is_tls() => {
                return Err((HandshakeError::Twice, Some(stream)));
            }
            StartupPacket::Ssl => {
                stream.write_all(b"S").await.map_err(gone)?;
                let encrypted = tls.accept(stream).await.map_err(gone)?;
                (stream, end_point) = (encrypted.stream, encrypted.end_point);
            }
            StartupPacket::Gss if asked_gss => return Err((HandshakeError::Twice, Some(stream))),
            StartupPacket::Gss => {
                asked_gss = true;
                stream.write_all(b"N").await.map_err(gone)?;
            }
            StartupPacket::Cancel(key) => return Ok(Login::Cancel { key, stream }),
            StartupPacket::Session {
                minor, parameters, ..
            } => {
                return Ok(Login::Session {
                    stream,
                    end_point,
                    minor,
                    parameters,
                });
            }
        }
    }
}

async fn read_packet(stream: &mut Stream) -> Result<StartupPacket, HandshakeError> {
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let length = startup_length(head)?;
    let mut body = vec![0; length - head.len()];
    stream.read_exact(&mut body).await?;
    Ok(parse_startup(&body)?)
}

//! What a client sends before there are tags: SSLRequest, GSSENCRequest, CancelRequest, StartupMessage.
//!
//! Source: PostgreSQL `src/include/libpq/pqcomm.h` and `src/backend/tcop/backend_startup.c`.

use std::fmt;

use super::frame::cstr;

/// The newest minor version of protocol 3 that is spoken here, towards clients and towards servers.
pub const MINOR: u16 = 2;

/// No secret of a cancel key is longer (PostgreSQL documentation, "BackendKeyData").
pub const MAX_SECRET: usize = 256;

/// PostgreSQL's own limit of a startup packet (`MAX_STARTUP_PACKET_LENGTH`).
pub const MAX_STARTUP: usize = 10_000;

const CANCEL: (u16, u16) = (1234, 5678);
const SSL: (u16, u16) = (1234, 5679);
const GSS: (u16, u16) = (1234, 5680);

/// The two values that identify whose query is to be cancelled.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CancelKey {
    /// What BackendKeyData called the process id.
    pub process_id: i32,
    /// The secret; four bytes up to protocol 3.0, up to 256 from 3.2 on.
    pub secret: Box<[u8]>,
}

impl fmt::Debug for CancelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CancelKey({}, [hidden])", self.process_id)
    }
}

/// The parameters of a StartupMessage, in the client's order.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct StartupParameters(pub Vec<(String, String)>);

impl StartupParameters {
    /// The value of a parameter; the last one counts, as for PostgreSQL.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .rev()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

impl fmt::Debug for StartupParameters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are the client's own text; names are enough to follow a log.
        f.debug_list()
            .entries(self.0.iter().map(|(name, _)| name))
            .finish()
    }
}

/// A packet that opens a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupPacket {
    /// May we speak TLS?
    Ssl,
    /// May we speak GSSAPI encryption?
    Gss,
    /// Cancel somebody's query; no answer is expected.
    Cancel(CancelKey),
    /// Open a session.
    Session {
        /// Protocol version, major.
        major: u16,
        /// Protocol version, minor.
        minor: u16,
        /// user, database, options, run-time parameters.
        parameters: StartupParameters,
    },
}

/// A startup packet that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StartupError {
    /// The length field is below eight or above [`MAX_STARTUP`].
    #[error("invalid length of startup packet ({0} bytes)")]
    Length(u32),
    /// The parameters are not pairs of NUL-terminated strings followed by one NUL.
    #[error("invalid startup packet layout: expected terminator as last byte")]
    Layout,
    /// A parameter is not UTF-8.
    #[error("startup parameters must be UTF-8")]
    Encoding,
    /// Protocol version 2 or older, or one from the future's next major.
    #[error("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.{MINOR}")]
    Version {
        /// Protocol version, major.
        major: u16,
        /// Protocol version, minor.
        minor: u16,
    },
}

/// The length of the packet that starts with these four bytes, itself included.
///
/// # Errors
/// [`StartupError::Length`].
pub fn startup_length(head: [u8; 4]) -> Result<usize, StartupError> {
    let declared = u32::from_be_bytes(head);
    match usize::try_from(declared) {
        Ok(length) if (8..=MAX_STARTUP).contains(&length) => Ok(length),
        _ => Err(StartupError::Length(declared)),
    }
}

/// Reads a packet without its four bytes of length.
///
/// # Errors
/// See [`StartupError`].
pub fn parse_startup(body: &[u8]) -> Result<StartupPacket, StartupError> {
    let Some((&[a, b, c, d], rest)) = body.split_first_chunk::<4>() else {
        return Err(StartupError::Layout);
    };
    let version = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match version {
        SSL => Ok(StartupPacket::Ssl),
        GSS => Ok(StartupPacket::Gss),
        CANCEL => parse_cancel(rest),
        (3, minor) => Ok(StartupPacket::Session {
            major: 3,
            minor,
            parameters: parse_parameters(rest)?,
        }),
        (major, minor) => Err(StartupError::Version { major, minor }),
    }
}

fn parse_cancel(body: &[u8]) -> Result<StartupPacket, StartupError> {
    let Some((process_id, secret)) = body.split_first_chunk::<4>() else {
        return Err(StartupError::Layout);
    };
    if secret.is_empty() || secret.len() > MAX_SECRET {
        return Err(StartupError::Layout);
    }
    Ok(StartupPacket::Cancel(CancelKey {
        process_id: i32::from_be_bytes(*process_id),
        secret: secret.into(),
    }))
}

fn parse_parameters(mut body: &[u8]) -> Result<StartupParameters, StartupError> {
    let mut parameters = Vec::new();
    loop {
        let (name, rest) = cstr(body).ok_or(StartupError::Layout)?;
        if name.is_empty() {
            return if rest.is_empty() {
                Ok(StartupParameters(parameters))
            } else {
                Err(StartupError::Layout)
            };
        }
        let (value, rest) = cstr(rest).ok_or(StartupError::Layout)?;
        let text =
            |bytes: &[u8]| String::from_utf8(bytes.to_vec()).map_err(|_| StartupError::Encoding);
        parameters.push((text(name)?, text(value)?));
        body = rest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_startup_message_is_pairs_and_a_terminator() {
        let packet = parse_startup(b"\0\x03\0\0user\0me\0database\0db\0\0").unwrap();
        let StartupPacket::Session {
            major: 3,
            minor: 0,
            parameters,
        } = packet
        else {
            panic!("{packet:?}")
        };
        assert_eq!(parameters.value("user"), Some("me"));
        assert_eq!(parameters.value("database"), Some("db"));
        assert_eq!(format!("{parameters:?}"), r#"["user", "database"]"#);
    }

    #[test]
    fn requests_are_told_apart() {
        assert_eq!(parse_startup(b"\x04\xd2\x16\x2f"), Ok(StartupPacket::Ssl));
        assert_eq!(parse_startup(b"\x04\xd2\x16\x30"), Ok(StartupPacket::Gss));
        let cancel = parse_startup(b"\x04\xd2\x16\x2e\0\0\0\x07\x01\x02\x03\x04").unwrap();
        assert_eq!(
            cancel,
            StartupPacket::Cancel(CancelKey {
                process_id: 7,
                secret: Box::from([1, 2, 3, 4])
            })
        );
    }

    #[test]
    fn lengths_are_checked_before_anything_is_reserved() {
        assert_eq!(startup_length([0, 0, 0, 7]), Err(StartupError::Length(7)));
        assert_eq!(
            startup_length([0xff; 4]),
            Err(StartupError::Length(u32::MAX))
        );
        assert_eq!(startup_length([0, 0, 0, 8]), Ok(8));
    }

    #[test]
    fn old_and_future_protocols_are_refused() {
        assert_eq!(
            parse_startup(b"\0\x02\0\0"),
            Err(StartupError::Version { major: 2, minor: 0 })
        );
    }

    proptest! {
        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse_startup(&body);
        }
    }
}

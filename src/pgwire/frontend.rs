//! Messages that poolwatch itself sends to PostgreSQL: opening, logging in, cancelling, asking, ending.

use std::io;

use bytes::{BufMut, BytesMut};
use postgres_protocol::message::frontend;

/// The request code of CancelRequest: 1234 in the high half where a version would stand, 5678 in the low.
const CANCEL_REQUEST: i32 = (1234 << 16) | 5678;
/// The request code of SSLRequest, whole message.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Terminate: the polite end of a connection.
pub const TERMINATE: [u8; 5] = *b"X\0\0\0\x04";

/// A text cannot be sent, in practice because it holds a zero byte.
#[derive(Debug, thiserror::Error)]
#[error("the {what} cannot be sent to PostgreSQL")]
pub struct EncodeError {
    /// What could not be sent; never its content.
    pub what: &'static str,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// StartupMessage, protocol 3.0, with these parameters (`user`, `database` …).
pub fn startup<'a>(
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<BytesMut, EncodeError> {
    built("startup parameter", |out| {
        frontend::startup_message(parameters, out)
    })
}

/// SSLRequest: may this connection be encrypted?
pub fn ssl_request() -> [u8; 8] {
    SSL_REQUEST
}

/// CancelRequest for the backend with this process id. The key is 4 bytes up to PostgreSQL 17, up to 256 from 18 on
/// (protocol 3.2).
pub fn cancel_request(process_id: i32, key: &[u8]) -> BytesMut {
    let length = 12 + key.len();
    let mut out = BytesMut::with_capacity(length);
    out.put_u32(length as u32);
    out.put_i32(CANCEL_REQUEST);
    out.put_i32(process_id);
    out.put_slice(key);
    out
}

/// Query: a simple query.
pub fn query(sql: &str) -> Result<BytesMut, EncodeError> {
    built("query", |out| frontend::query(sql, out))
}

/// PasswordMessage: the password itself, or its md5 form.
pub fn password(password: &[u8]) -> Result<BytesMut, EncodeError> {
    built("password", |out| frontend::password_message(password, out))
}

/// SASLInitialResponse: the mechanism chosen and its first message.
pub fn sasl_initial_response(mechanism: &str, data: &[u8]) -> Result<BytesMut, EncodeError> {
    built("SASL response", |out| {
        frontend::sasl_initial_response(mechanism, data, out)
    })
}

/// SASLResponse: the next message of the exchange.
pub fn sasl_response(data: &[u8]) -> Result<BytesMut, EncodeError> {
    built("SASL response", |out| frontend::sasl_response(data, out))
}

/// CopyFail: poolwatch never feeds a COPY of its own.
pub fn copy_fail(reason: &str) -> Result<BytesMut, EncodeError> {
    built("reason", |out| frontend::copy_fail(reason, out))
}

fn built(
    what: &'static str,
    write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
) -> Result<BytesMut, EncodeError> {
    let mut out = BytesMut::new();
    write(&mut out).map_err(|source| EncodeError { what, source })?;
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_before_the_login_have_their_codes() {
        let mut expected = BytesMut::new();
        frontend::ssl_request(&mut expected);
        assert_eq!(ssl_request(), expected[..]);
        expected.clear();
        frontend::cancel_request(42, 0x0102_0304, &mut expected);
        assert_eq!(cancel_request(42, &[1, 2, 3, 4]), expected);
    }

    #[test]
    fn a_long_cancel_key_is_counted_in_the_length() {
        let message = cancel_request(7, &[9; 32]);
        assert_eq!(message.len(), 44);
        assert_eq!(message[..4], [0, 0, 0, 44]);
    }

    #[test]
    fn a_zero_byte_is_refused_without_telling_the_text() {
        let error = query("select 'secret\0'").unwrap_err();
        assert_eq!(error.to_string(), "the query cannot be sent to PostgreSQL");
        assert!(startup([("user", "a\0b")]).is_err());
        assert!(password(b"x\0y").is_err());
    }

    #[test]
    fn terminate_is_what_the_library_builds() {
        let mut expected = BytesMut::new();
        frontend::terminate(&mut expected);
        assert_eq!(TERMINATE, expected[..]);
    }
}

//! Messages that poolwatch itself owes a client: built here, byte by byte, so that lengths are filled in one place.

use super::Outbox;
use super::frame::backend;

/// How grave an error is for the client's connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the connection stays.
    Error,
    /// The connection ends.
    Fatal,
}

impl Severity {
    fn text(self) -> &'static str {
        match self {
            Severity::Error => "ERROR",
            Severity::Fatal => "FATAL",
        }
    }
}

/// A buffer of replies to one client.
#[derive(Debug, Default)]
pub struct Replies(Outbox);

impl Replies {
    /// The bytes to send.
    pub fn bytes(&self) -> &[u8] {
        self.0.bytes()
    }

    /// Whether there is nothing to send.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets the first `count` bytes, which were sent.
    pub fn consume(&mut self, count: usize) {
        self.0.consume(count);
    }

    /// Appends messages of a server's as they are.
    pub fn pass(&mut self, messages: &[u8]) {
        self.0.extend(messages);
    }

    /// AuthenticationOk.
    pub fn authentication_ok(&mut self) -> &mut Self {
        self.message(b'R', |body| body.extend_from_slice(&0_i32.to_be_bytes()))
    }

    /// AuthenticationCleartextPassword.
    pub fn authentication_cleartext_password(&mut self) -> &mut Self {
        self.message(b'R', |body| body.extend_from_slice(&3_i32.to_be_bytes()))
    }

    /// AuthenticationMD5Password.
    pub fn authentication_md5_password(&mut self, salt: [u8; 4]) -> &mut Self {
        self.message(b'R', |body| {
            body.extend_from_slice(&5_i32.to_be_bytes());
            body.extend_from_slice(&salt);
        })
    }

    /// AuthenticationSASL: the mechanisms, best first.
    pub fn authentication_sasl(&mut self, mechanisms: &[&str]) -> &mut Self {
        self.message(b'R', |body| {
            body.extend_from_slice(&10_i32.to_be_bytes());
            for mechanism in mechanisms {
                push_cstr(body, mechanism);
            }
            body.push(0);
        })
    }

    /// AuthenticationSASLContinue.
    pub fn authentication_sasl_continue(&mut self, data: &[u8]) -> &mut Self {
        self.message(b'R', |body| {
            body.extend_from_slice(&11_i32.to_be_bytes());
            body.extend_from_slice(data);
        })
    }

    /// AuthenticationSASLFinal.
    pub fn authentication_sasl_final(&mut self, data: &[u8]) -> &mut Self {
        self.message(b'R', |body| {
            body.extend_from_slice(&12_i32.to_be_bytes());
            body.extend_from_slice(data);
        })
    }

    /// ParameterStatus.
    pub fn parameter_status(&mut self, name: &str, value: &str) -> &mut Self {
        self.message(backend::PARAMETER_STATUS, |body| {
            push_cstr(body, name);
            push_cstr(body, value);
        })
    }

    /// BackendKeyData.
    pub fn backend_key_data(&mut self, process_id: i32, secret: &[u8]) -> &mut Self {
        self.message(b'K', |body| {
            body.extend_from_slice(&process_id.to_be_bytes());
            body.extend_from_slice(secret);
        })
    }

    /// NegotiateProtocolVersion: the newest minor version that is spoken here, and the options that are not known.
    pub fn negotiate_protocol_version(&mut self, minor: u16, unknown: &[&str]) -> &mut Self {
        self.message(b'v', |body| {
            body.extend_from_slice(&(3 << 16 | i32::from(minor)).to_be_bytes());
            body.extend_from_slice(
                &i32::try_from(unknown.len())
                    .unwrap_or(i32::MAX)
                    .to_be_bytes(),
            );
            for name in unknown {
                push_cstr(body, name);
            }
        })
    }

    /// ReadyForQuery; `status` is `I`, `T` or `E`.
    pub fn ready_for_query(&mut self, status: u8) -> &mut Self {
        self.message(backend::READY_FOR_QUERY, |body| body.push(status))
    }

    /// ErrorResponse with the fields that every client expects.
    pub fn error(
        &mut self,
        severity: Severity,
        sqlstate: &str,
        message: &str,
        hint: Option<&str>,
    ) -> &mut Self {
        self.message(backend::ERROR, |body| {
            for (field, text) in [
                (b'S', severity.text()),
                (b'V', severity.text()),
                (b'C', sqlstate),
                (b'M', message),
            ] {
                body.push(field);
                push_cstr(body, text);
            }
            if let Some(hint) = hint {
                body.push(b'H');
                push_cstr(body, hint);
            }
            body.push(0);
        })
    }

    /// ParameterDescription with this body.
    pub fn parameter_description(&mut self, parameters: &[u8]) -> &mut Self {
        self.message(backend::PARAMETER_DESCRIPTION, |body| {
            body.extend_from_slice(parameters);
        })
    }

    /// ErrorResponse with these fields, which come in pieces.
    pub fn error_of(&mut self, fields: &[&[u8]]) -> &mut Self {
        self.message(backend::ERROR, |body| {
            for piece in fields {
                body.extend_from_slice(piece);
            }
        })
    }

    pub(super) fn message(&mut self, tag: u8, fill: impl FnOnce(&mut Vec<u8>)) -> &mut Self {
        self.0.message(tag, 0, fill);
        self
    }
}

/// Appends a string and its NUL; a NUL inside ends it early rather than forging a field.
pub(super) fn push_cstr(body: &mut Vec<u8>, text: &str) {
    let clean = text.split('\0').next().unwrap_or_default();
    body.extend_from_slice(clean.as_bytes());
    body.push(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_count_themselves_but_not_the_tag() {
        let mut replies = Replies::default();
        replies.ready_for_query(b'I');
        assert_eq!(replies.bytes(), b"Z\0\0\0\x05I");
    }

    #[test]
    fn mechanisms_end_with_an_empty_one() {
        let mut replies = Replies::default();
        replies.authentication_sasl(&["A", "B"]);
        assert_eq!(replies.bytes(), b"R\0\0\0\x0d\0\0\0\x0aA\0B\0\0");
    }

    #[test]
    fn a_nul_in_a_message_forges_no_field() {
        let mut replies = Replies::default();
        replies.error(Severity::Error, "XX000", "a\0Mb", None);
        assert_eq!(
            replies.bytes(),
            b"E\0\0\0\x1dSERROR\0VERROR\0CXX000\0Ma\0\0"
        );
    }
}

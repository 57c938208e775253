//! The fields of ErrorResponse and NoticeResponse.

use super::frame::cstr;

/// What a server said. Fields that are missing are empty; nothing here panics on what a broken server sends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerMessage {
    /// `ERROR`, `FATAL`, `PANIC` or a notice's level, never translated (the field `V`, since PostgreSQL 9.6).
    pub severity: String,
    /// The SQLSTATE.
    pub code: String,
    /// The primary message.
    pub message: String,
    /// The detail.
    pub detail: String,
    /// The hint.
    pub hint: String,
}

impl ServerMessage {
    /// Reads a message's body.
    pub fn parse(mut body: &[u8]) -> Self {
        let mut found = Self::default();
        while let Some((&field, rest)) = body.split_first() {
            let Some((text, next)) = cstr(rest) else {
                break;
            };
            let text = String::from_utf8_lossy(text).into_owned();
            match field {
                b'V' => found.severity = text,
                b'S' if found.severity.is_empty() => found.severity = text,
                b'C' => found.code = text,
                b'M' => found.message = text,
                b'D' => found.detail = text,
                b'H' => found.hint = text,
                _ => {}
            }
            body = next;
        }
        found
    }

    /// The primary message, or that a broken server sent none: an error never reads as nothing.
    pub fn said(&self) -> &str {
        if self.message.is_empty() {
            "the server reports an error without a message"
        } else {
            &self.message
        }
    }

    /// Whether the server ends the connection after this.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_severity_that_is_not_translated_counts() {
        let message = ServerMessage::parse(b"SFATAL\xc3\xa9\0VFATAL\0C57P01\0Mbye\0\0");
        assert!(message.is_fatal());
        assert_eq!(
            (message.code.as_str(), message.message.as_str()),
            ("57P01", "bye")
        );
    }

    #[test]
    fn an_error_without_a_message_still_says_something() {
        assert!(!ServerMessage::parse(b"SFATAL\0").said().is_empty());
        assert_eq!(ServerMessage::parse(b"Mbye\0\0").said(), "bye");
    }

    proptest! {
        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = ServerMessage::parse(&body);
        }
    }
}

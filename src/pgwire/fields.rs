//! The fields of ErrorResponse and NoticeResponse.
//!
//! The body is a list of (one byte, NUL-terminated text), ended by a zero byte; see "Error and Notice Message Fields" in
//! PostgreSQL's protocol documentation. Reading is tolerant: unknown fields are passed over, a missing end is an end, and
//! text that is not UTF-8 (messages come in the server's encoding until `client_encoding` is settled) is shown as far as
//! it can be.

use std::fmt;

/// What PostgreSQL says in an error or a notice.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ServerMessage {
    /// `ERROR`, `FATAL`, `NOTICE` …, never translated where the server is 9.6 or newer.
    pub severity: String,
    /// The SQLSTATE, five characters.
    pub code: String,
    /// The primary text, one line.
    pub message: String,
    /// More about the problem.
    pub detail: Option<String>,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where in the query, counted in characters from 1, as the server wrote it.
    pub position: Option<String>,
    /// The call stack of PL/pgSQL and the like.
    pub context: Option<String>,
    /// The schema concerned.
    pub schema: Option<String>,
    /// The table concerned.
    pub table: Option<String>,
    /// The column concerned.
    pub column: Option<String>,
    /// The constraint concerned.
    pub constraint: Option<String>,
    /// The function in PostgreSQL's source that reported it.
    pub routine: Option<String>,
}

impl ServerMessage {
    /// Reads the body of an ErrorResponse or NoticeResponse.
    pub fn parse(body: &[u8]) -> Self {
        let mut read = Self::default();
        let mut translated_severity = String::new();
        let mut rest = body;
        while let Some((&field, tail)) = rest.split_first() {
            if field == 0 {
                break;
            }
            let end = memchr::memchr(0, tail).unwrap_or(tail.len());
            let text = || String::from_utf8_lossy(&tail[..end]).into_owned();
            match field {
                b'S' => translated_severity = text(),
                b'V' => read.severity = text(),
                b'C' => read.code = text(),
                b'M' => read.message = text(),
                b'D' => read.detail = Some(text()),
                b'H' => read.hint = Some(text()),
                b'P' => read.position = Some(text()),
                b'W' => read.context = Some(text()),
                b's' => read.schema = Some(text()),
                b't' => read.table = Some(text()),
                b'c' => read.column = Some(text()),
                b'n' => read.constraint = Some(text()),
                b'R' => read.routine = Some(text()),
                _ => {}
            }
            rest = tail.get(end + 1..).unwrap_or_default();
        }
        if read.severity.is_empty() {
            read.severity = translated_severity;
        }
        read
    }

    /// Whether the server ends the connection after this message.
    pub fn is_fatal(&self) -> bool {
        matches!(self.severity.as_str(), "FATAL" | "PANIC")
    }
}

impl fmt::Display for ServerMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.message.is_empty() {
            write!(f, "{} {} without a text", self.severity, self.code)
        } else {
            f.write_str(&self.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn body(fields: &[(u8, &str)]) -> Vec<u8> {
        let mut body = Vec::new();
        for (field, text) in fields {
            body.push(*field);
            body.extend_from_slice(text.as_bytes());
            body.push(0);
        }
        body.push(0);
        body
    }

    #[test]
    fn an_error_as_postgresql_sends_it() {
        let read = ServerMessage::parse(&body(&[
            (b'S', "FATAL"),
            (b'V', "FATAL"),
            (b'C', "3D000"),
            (b'M', "database \"x\" does not exist"),
            (b'F', "postinit.c"),
            (b'L', "885"),
            (b'R', "InitPostgres"),
        ]));
        assert_eq!(read.code, "3D000");
        assert_eq!(read.to_string(), "database \"x\" does not exist");
        assert_eq!(read.routine.as_deref(), Some("InitPostgres"));
        assert_eq!(read.detail, None);
        assert!(read.is_fatal());
    }

    #[test]
    fn the_untranslated_severity_wins_wherever_it_stands() {
        let read = ServerMessage::parse(&body(&[(b'V', "FATAL"), (b'S', "FATALE")]));
        assert!(read.is_fatal());
        let old = ServerMessage::parse(&body(&[(b'S', "FATAL")]));
        assert!(old.is_fatal());
        let error = ServerMessage::parse(&body(&[(b'S', "FATAL"), (b'V', "ERROR")]));
        assert!(!error.is_fatal());
    }

    #[test]
    fn a_cut_body_gives_what_is_there() {
        let read = ServerMessage::parse(b"C57P01\0Mterminat");
        assert_eq!(
            (read.code.as_str(), read.message.as_str()),
            ("57P01", "terminat")
        );
        assert_eq!(ServerMessage::parse(b"M"), ServerMessage::default());
    }

    #[test]
    fn bytes_that_are_not_utf8_are_shown() {
        let read = ServerMessage::parse(b"Mcaf\xe9\0\0");
        assert_eq!(read.message, "caf\u{fffd}");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let read = ServerMessage::parse(&bytes);
            let _ = read.to_string();
        }

        #[test]
        fn what_was_written_is_read(code in "[0-9A-Z]{5}", message in "[^\0]{0,80}", detail in "[^\0]{0,80}") {
            let read = ServerMessage::parse(&body(&[(b'C', &code), (b'M', &message), (b'D', &detail)]));
            prop_assert_eq!(read.code, code);
            prop_assert_eq!(read.message, message);
            prop_assert_eq!(read.detail, Some(detail));
        }
    }
}

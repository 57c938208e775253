//! What a client answers while it logs in. All of it comes under the tag `p`; what was asked decides how it is read.

use super::frame::cstr;

/// SASLInitialResponse: the mechanism that the client chose, and its first message unless it wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaslInitialResponse<'a> {
    /// The mechanism's name.
    pub mechanism: &'a [u8],
    /// The first message; `None` where its length is -1.
    pub data: Option<&'a [u8]>,
}

impl<'a> SaslInitialResponse<'a> {
    /// Reads the body of the message; `None` if it is none.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        let (mechanism, rest) = cstr(body)?;
        let (length, data) = rest.split_first_chunk::<4>()?;
        let data = match i32::from_be_bytes(*length) {
            -1 if data.is_empty() => None,
            length if usize::try_from(length) == Ok(data.len()) => Some(data),
            _ => return None,
        };
        Some(Self { mechanism, data })
    }
}

/// PasswordMessage: one string, and nothing behind it.
pub fn password(body: &[u8]) -> Option<&[u8]> {
    cstr(body)
        .filter(|(_, rest)| rest.is_empty())
        .map(|(text, _)| text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_first_answer_names_its_mechanism() {
        let body = b"SCRAM-SHA-256\0\0\0\0\x03n,,";
        let expected = SaslInitialResponse {
            mechanism: b"SCRAM-SHA-256",
            data: Some(b"n,,"),
        };
        assert_eq!(SaslInitialResponse::parse(body), Some(expected));
        let asked = SaslInitialResponse::parse(b"X\0\xff\xff\xff\xff").unwrap();
        assert_eq!(asked.data, None);
        for broken in [
            &b"SCRAM-SHA-256"[..],
            b"SCRAM-SHA-256\0\0\0\0",
            b"SCRAM-SHA-256\0\0\0\0\x04n,,",
            b"SCRAM-SHA-256\0\0\0\0\x02n,,",
            b"X\0\xff\xff\xff\xffn",
            b"X\0\xff\xff\xff\xfe",
            b"X\0\x7f\xff\xff\xff",
        ] {
            assert_eq!(SaslInitialResponse::parse(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn a_password_is_one_string() {
        assert_eq!(password(b"secret\0"), Some(&b"secret"[..]));
        assert_eq!(password(b"\0"), Some(&b""[..]));
        assert_eq!(password(b"secret"), None);
        assert_eq!(password(b"a\0b\0"), None);
    }

    proptest! {
        #[test]
        fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = (SaslInitialResponse::parse(&body), password(&body));
        }
    }
}

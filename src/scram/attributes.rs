//! The `x=value` attributes that SCRAM's messages are made of.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Takes `name=value` from the front; the comma behind it is taken too.
pub(super) fn take<'a>(text: &mut &'a str, name: char) -> Option<&'a str> {
    let value = text.strip_prefix(name)?.strip_prefix('=')?;
    let (value, rest) = value.split_once(',').unwrap_or((value, ""));
    *text = rest;
    Some(value)
}

/// Whether the text is a list of attributes as extensions are: a letter, `=`, a value. None at all is one too.
pub(super) fn are_extensions(text: &str) -> bool {
    text.is_empty()
        || text.split(',').all(|attribute| {
            let mut characters = attribute.chars();
            characters.next().is_some_and(|c| c.is_ascii_alphabetic())
                && characters.next() == Some('=')
        })
}

/// A nonce is printable ASCII without a comma (RFC 5802 §7).
pub(super) fn is_nonce(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

pub(super) fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}

pub(super) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Exactly 32 bytes in base64, as every key, proof and signature is.
pub(super) fn decode_32(text: &str) -> Option<[u8; 32]> {
    decode(text)?.try_into().ok()
}

/// A nonce of ours, as long as PostgreSQL's: 18 bytes, 24 letters.
pub(super) fn nonce() -> String {
    encode(&rand::random::<[u8; 18]>())
}

//! A text that cannot be printed: passwords, tokens, cancel keys.
//!
//! There is no `Display`, `Debug` hides the content, and `Serialize` is not implemented, so a secret reaches a log or
//! an answer only where somebody wrote [`Secret::expose`]. [`Key`] is the same for the 32 bytes of a SCRAM key.

use subtle::ConstantTimeEq;

/// A text that must not appear in a log, a label or an answer. Comparing two takes the same time whatever they hold, as
/// long as they are equally long.
#[derive(Clone, Default)]
pub struct Secret(Box<str>);

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for Secret {}

impl Secret {
    /// Wraps a text.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// The text itself. Call this only to hand it to a peer that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether the secret is the empty text.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self::new(text)
    }
}

/// 32 secret bytes: what SCRAM-SHA-256 makes of a password.
#[derive(Clone)]
pub struct Key([u8; 32]);

impl Key {
    /// Wraps bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes themselves, to compute with.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[hidden]")
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Key {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_content() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret:?}"), "[hidden]");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{:?}", Key::new([7; 32])), "[hidden]");
    }

    #[test]
    fn secrets_are_equal_where_their_content_is() {
        assert_eq!(Secret::new("a"), Secret::new("a"));
        assert_ne!(Secret::new("a"), Secret::new("b"));
        assert_ne!(Secret::new("a"), Secret::new("ab"));
        assert_eq!(Key::new([7; 32]), Key::new([7; 32]));
        assert_ne!(Key::new([7; 32]), Key::new([8; 32]));
    }
}

//! Text that must not be seen.

use std::fmt;
use std::sync::Arc;

use subtle::ConstantTimeEq;

/// A key, token or password.
///
/// `Debug` and `Display` show `[redacted]`; the text itself is only reached through
/// [`expose`](Self::expose), so that every use of it can be found. Clones share one copy.
/// Comparing takes the same time wherever two texts of equal length differ.
#[derive(Clone)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Keeps `text` out of sight.
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// A new random secret with 256 bits of entropy, as 64 hexadecimal digits.
    pub fn random() -> Self {
        use fmt::Write;
        let mut text = String::with_capacity(64);
        for byte in rand::random::<[u8; 32]>() {
            let _ = write!(text, "{byte:02x}");
        }
        Self::new(text)
    }

    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text's bytes.
    pub fn expose_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// Whether `shown` is the secret; only its length can be learnt from the time this takes.
    pub fn matches(&self, shown: &str) -> bool {
        self.0.as_bytes().ct_eq(shown.as_bytes()).into()
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.matches(&other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_display_shows_the_text() {
        let secret = Secret::new("hunter2");
        assert_eq!(
            format!("{secret} {secret:?} {:#?}", Some(&secret)).matches("hunter2").count(),
            0
        );
    }

    #[test]
    fn only_the_same_text_matches() {
        let secret = Secret::new("hunter2");
        assert!(secret.matches("hunter2"));
        assert!(!secret.matches("hunter3"));
        assert!(!secret.matches("hunter"));
        assert!(!secret.matches(""));
        assert_eq!(secret, secret.clone());
    }

    #[test]
    fn random_secrets_are_long_and_differ() {
        let (one, other) = (Secret::random(), Secret::random());
        assert_eq!(one.expose().len(), 64);
        assert_ne!(one, other);
    }
}

//! Text that never shows: connection tokens and access tokens (architecture A9).
//!
//! Invariant: neither `Debug` nor `Display` of a [`Secret`] writes any of its characters.

use core::fmt;

/// Holds a secret text; only [`Secret::expose`] gives it out.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Gives the text itself, to be put on the wire or compared, never to be logged.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

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
    fn shows_nothing() {
        let secret = Secret::new("token-1");
        assert_eq!(format!("{secret} {secret:?} {:#?}", Some(&secret)).matches("token").count(), 0);
        assert_eq!(secret.expose(), "token-1");
    }
}

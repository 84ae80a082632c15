//! Texts that must never be written anywhere: connection tokens, keys, access tokens.
//!
//! Why a type: `Debug` and `Display` of anything that holds a secret are called in places nobody looks at (a trace
//! field, an error's source chain). A [`Secret`] prints as `[redacted]` in all of them.
//!
//! Invariant: the only way to the text is [`Secret::expose`], so that `grep expose` lists every use (architecture A9).

use std::fmt;

/// A text that prints as `[redacted]` (architecture, invariant A9).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Secret(Box<str>);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<Box<str>>) -> Self {
        Self(text.into())
    }

    /// Gives the text itself, for the one place that must send or derive from it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Tells whether nothing is inside.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Compares in a time that does not depend on where the texts differ.
    pub fn equals(&self, other: &str) -> bool {
        let (left, right) = (self.0.as_bytes(), other.as_bytes());
        left.len() == right.len() && left.iter().zip(right).fold(0u8, |sum, (a, b)| sum | (a ^ b)) == 0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text.into_boxed_str())
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a9_prints_redacted_everywhere() {
        let secret = Secret::new("open sesame");
        let nested = Some(vec![("key", secret.clone())]);
        for text in [format!("{secret}"), format!("{secret:?}"), format!("{nested:?}"), format!("{nested:#?}")] {
            assert!(text.contains("[redacted]") && !text.contains("sesame"), "{text}");
        }
        assert_eq!(secret.expose(), "open sesame");
    }

    #[test]
    fn compares_whole_texts() {
        let secret = Secret::new("abc");
        assert!(secret.equals("abc"));
        for other in ["ab", "abcd", "abd", "", "ABC"] {
            assert!(!secret.equals(other), "{other}");
        }
    }
}

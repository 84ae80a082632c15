//! Digests that name routes and backends in connection tokens.
//!
//! Why: a token must find its route and backend again after a reload and on another node, where indices differ, and must
//! tell nobody the address of a backend (rule A1). The digest of what makes the thing itself does both.
//!
//! Invariant: equal configuration gives equal digests on every node and in every version of the same digest format.

use std::fmt;

use ring::digest::{Context, SHA256};

/// The first 8 bytes of a SHA-256 over labelled, length-prefixed fields.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest([u8; 8]);

impl Digest {
    /// The number of bytes of a digest.
    pub const BYTES: usize = 8;

    /// Digests `fields` under `label`, which separates kinds and versions from one another.
    pub fn of<'a>(label: &'a str, fields: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut context = Context::new(&SHA256);
        for field in std::iter::once(label.as_bytes()).chain(fields) {
            context.update(&(field.len() as u64).to_be_bytes());
            context.update(field);
        }
        let whole = context.finish();
        let mut bytes = [0; Self::BYTES];
        bytes.iter_mut().zip(whole.as_ref()).for_each(|(to, from)| *to = *from);
        Self(bytes)
    }

    /// Takes the bytes that [`Self::to_bytes`] gave.
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }

    /// The bytes, as a token holds them.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn er_a1_digests_separate_fields_and_labels() {
        let of = |label, fields: &[&str]| Digest::of(label, fields.iter().map(|field| field.as_bytes()));
        assert_eq!(of("a", &["b", "c"]), of("a", &["b", "c"]));
        assert_ne!(of("a", &["b", "c"]), of("a", &["bc"]));
        assert_ne!(of("a", &["b", "c"]), of("ab", &["c"]));
        assert_eq!(Digest::from_bytes(of("a", &[]).to_bytes()), of("a", &[]));
    }

    #[test]
    fn er_a1_digests_are_stable_between_versions() {
        assert_eq!(Digest::of("hubgate", [b"x".as_slice()]).to_string(), "e4869dc60e8dff90");
    }
}

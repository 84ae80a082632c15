//! Request paths, normalised once and then used for matching and forwarding alike.
//!
//! Why: a gateway that matches one reading of a path and forwards another can be walked around. Kestrel decodes a path
//! (except `%2F`), removes dot segments and compares without letter case; a [`NormalPath`] is exactly that reading,
//! made once per request (rule B1).
//!
//! Two forms are kept. [`NormalPath::folded`] is the decoded path in upper case: every comparison uses it.
//! [`NormalPath::as_str`] is what goes to the backend: dot segments gone, escapes of unreserved characters undone,
//! other escapes as they came, so that a backend which decodes as Kestrel does reads the very path that was matched.
//!
//! Invariant: both forms have the same number of segments, and decoding [`NormalPath::as_str`] and folding it gives
//! [`NormalPath::folded`] again. What other servers could read differently carries an [`Ambiguity`].

use std::borrow::Cow;

use thiserror::Error;

/// Why a request path cannot be used at all; answered 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// It does not begin with a slash (`*`, or the authority form).
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// It holds a byte outside of printable ASCII, which Kestrel refuses as well.
    #[error("the path holds a byte outside of printable ASCII")]
    NotAscii,
}

/// What makes a path readable in two ways; 400 on hub routes and refusing routes (rule B1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Ambiguity {
    /// An encoded slash: some servers decode it, Kestrel does not.
    #[error("the path holds an encoded slash")]
    EncodedSlash,
    /// A backslash, plain or encoded: some servers take it for a slash.
    #[error("the path holds a backslash")]
    Backslash,
    /// An encoded NUL, where some servers end the path.
    #[error("the path holds a NUL")]
    Nul,
    /// More `..` segments than there were segments to leave.
    #[error("the path leaves the root")]
    AboveRoot,
}

/// A request path in the one reading that is matched and forwarded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NormalPath {
    forward: Box<str>,
    folded: Box<str>,
    ambiguity: Option<Ambiguity>,
}

impl NormalPath {
    /// Normalises the path of a request target (without query) as Kestrel does (rule B1).
    ///
    /// # Errors
    /// [`Error`] where no server of the reference would take the path either.
    pub fn parse(raw: &str) -> Result<Self, Error> {
        if !raw.starts_with('/') {
            return Err(Error::NotAbsolute);
        }
        if !raw.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Error::NotAscii);
        }
        if !raw.contains(['%', '\\']) && !raw.contains("/.") {
            return Ok(Self { forward: raw.into(), folded: raw.to_ascii_uppercase().into(), ambiguity: None });
        }
        let mut ambiguity = None;
        let mut kept: Vec<Segment> = Vec::new();
        let mut ends_in_directory = false;
        for part in raw.split('/').skip(1) {
            let segment = Segment::parse(part, &mut ambiguity);
            ends_in_directory = matches!(&*segment.decoded, "." | "..");
            match &*segment.decoded {
                "." => {}
                ".." if kept.pop().is_none() => ambiguity = ambiguity.or(Some(Ambiguity::AboveRoot)),
                ".." => {}
                _ => kept.push(segment),
            }
        }
        let (mut forward, mut folded) = (String::with_capacity(raw.len()), String::with_capacity(raw.len()));
        for segment in &kept {
            forward.push('/');
            forward.push_str(&segment.forward);
            folded.push('/');
            folded.extend(segment.decoded.chars().map(upper));
        }
        if ends_in_directory || kept.is_empty() {
            forward.push('/');
            folded.push('/');
        }
        Ok(Self { forward: forward.into(), folded: folded.into(), ambiguity })
    }

    /// The path to send to the backend, percent-encoded.
    pub fn as_str(&self) -> &str {
        &self.forward
    }

    /// The decoded path in upper case, for comparing only.
    pub fn folded(&self) -> &str {
        &self.folded
    }

    /// What other servers may read differently, if anything (rule B1).
    pub fn ambiguity(&self) -> Option<Ambiguity> {
        self.ambiguity
    }

    /// The path as a hub's: folded, without one trailing slash (`/hub/` is `/hub`, the root is empty).
    ///
    /// Source: signalr-wire §2 (letter case and one trailing slash do not count).
    pub fn hub(&self) -> &str {
        self.folded.strip_suffix('/').unwrap_or(&self.folded)
    }

    /// The hub ([`Self::hub`] form) whose `negotiate` endpoint this is, or `None`.
    pub fn negotiate_hub(&self) -> Option<&str> {
        self.hub().strip_suffix("/NEGOTIATE")
    }

    /// Tells whether this path is `prefix` or lies beneath it, by whole segments; a trailing slash of `prefix` does
    /// not count.
    pub fn is_within(&self, prefix: &NormalPath) -> bool {
        self.folded.strip_prefix(prefix.hub()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// Tells whether both are the same hub path (letter case and one trailing slash aside).
    pub fn is_same_hub(&self, other: &NormalPath) -> bool {
        self.hub() == other.hub()
    }

    /// The forwarded path with the segments of `prefix` replaced by `replacement` (given without trailing slash).
    ///
    /// Call it only when [`Self::is_within`] holds for `prefix`; else the path comes back unchanged.
    pub fn replace_prefix<'a>(&'a self, prefix: &NormalPath, replacement: &str) -> Cow<'a, str> {
        if !self.is_within(prefix) {
            return Cow::Borrowed(&self.forward);
        }
        let segments = prefix.hub().matches('/').count();
        let rest = self.forward.match_indices('/').nth(segments).and_then(|(at, _)| self.forward.get(at..));
        let path = format!("{}{}", replacement, rest.unwrap_or_default());
        Cow::Owned(if path.is_empty() { "/".to_owned() } else { path })
    }

    /// What a server that decodes `%2F` and takes a backslash for a slash would read, if that differs.
    ///
    /// Used to keep such a spelling from walking around a refusing route.
    pub fn other_reading(&self) -> Option<NormalPath> {
        self.ambiguity?;
        let mut plain = String::with_capacity(self.forward.len());
        let mut rest: &str = &self.forward;
        while let Some(at) = rest.find(['%', '\\']) {
            let (before, tail) = rest.split_at(at);
            plain.push_str(before);
            let escape = tail.get(..3).unwrap_or_default();
            let (text, used) = match escape {
                _ if tail.starts_with('\\') => ("/", 1),
                _ if escape.eq_ignore_ascii_case("%2f") || escape.eq_ignore_ascii_case("%5c") => ("/", 3),
                _ => ("%", 1),
            };
            plain.push_str(text);
            rest = tail.get(used..).unwrap_or_default();
        }
        plain.push_str(rest);
        let end = plain.find("%00").unwrap_or(plain.len());
        plain.truncate(end);
        NormalPath::parse(&plain).ok()
    }
}

/// One segment in both forms.
struct Segment {
    forward: String,
    decoded: String,
}

impl Segment {
    /// Decodes as Kestrel does: valid UTF-8 escapes are undone, `%2F` and anything invalid stays as it is.
    fn parse(raw: &str, ambiguity: &mut Option<Ambiguity>) -> Self {
        let bytes = raw.as_bytes();
        let (mut forward, mut decoded) = (String::with_capacity(raw.len()), String::with_capacity(raw.len()));
        let mut at = 0;
        while let Some(&byte) = bytes.get(at) {
            let found = if byte == b'%' { escaped_char(bytes, at) } else { Some((char::from(byte), 1)) };
            let (used, plain) = match found {
                Some(('/', used)) => (used, None),
                Some((character, used)) => (used, Some(character)),
                None => (1, Some('%')),
            };
            let spelling = raw.get(at..at + used).unwrap_or_default();
            match plain {
                None => *ambiguity = ambiguity.or(Some(Ambiguity::EncodedSlash)),
                Some('\\') => *ambiguity = ambiguity.or(Some(Ambiguity::Backslash)),
                Some('\0') => *ambiguity = ambiguity.or(Some(Ambiguity::Nul)),
                Some(_) => {}
            }
            match plain {
                Some(character) => decoded.push(character),
                None => decoded.push_str("%2F"),
            }
            match plain {
                Some(character) if is_unreserved(character) => forward.push(character),
                _ if found.is_none() => forward.push_str("%25"),
                _ => forward.push_str(spelling),
            }
            at += used;
        }
        Self { forward, decoded }
    }
}

/// The character that the escapes at `at` stand for and how many bytes they take; `None` when they are no valid UTF-8.
fn escaped_char(bytes: &[u8], at: usize) -> Option<(char, usize)> {
    let first = escaped_byte(bytes, at)?;
    let length = match first {
        0x00..=0x7f => return Some((char::from(first), 3)),
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return None,
    };
    let mut encoded = [0u8; 4];
    for (index, slot) in encoded.iter_mut().enumerate().take(length) {
        *slot = escaped_byte(bytes, at + 3 * index)?;
    }
    let text = std::str::from_utf8(encoded.get(..length)?).ok()?;
    Some((text.chars().next()?, 3 * length))
}

fn escaped_byte(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |offset: usize| bytes.get(at + offset).and_then(|&byte| char::from(byte).to_digit(16));
    if bytes.get(at) != Some(&b'%') {
        return None;
    }
    u8::try_from(digit(1)? * 16 + digit(2)?).ok()
}

fn is_unreserved(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '.' | '_' | '~')
}

/// The simple upper case that .NET's ordinal comparison uses: one character for one, none from outside into ASCII.
fn upper(character: char) -> char {
    let mut many = character.to_uppercase();
    match (many.next(), many.next()) {
        (Some(one), None) if character.is_ascii() || !one.is_ascii() => one,
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(raw: &str) -> NormalPath {
        NormalPath::parse(raw).expect(raw)
    }

    #[test]
    fn er_b1_decodes_and_removes_dot_segments_as_kestrel_does() {
        for (raw, forward, folded) in [
            ("/", "/", "/"),
            ("/chat", "/chat", "/CHAT"),
            ("/a/./b/../c", "/a/c", "/A/C"),
            ("/a/%2e%2E/c", "/c", "/C"),
            ("/a/b/..", "/a/", "/A/"),
            ("/a/b/.", "/a/b/", "/A/B/"),
            ("/a//../b", "/a/b", "/A/B"),
            ("/%63hat", "/chat", "/CHAT"),
            ("/a%20b", "/a%20b", "/A B"),
            ("/a%2cb", "/a%2cb", "/A,B"),
            ("/a,b", "/a,b", "/A,B"),
            ("/a%3Fb", "/a%3Fb", "/A?B"),
            ("/%C3%A4", "/%C3%A4", "/Ä"),
            ("/%C3%84", "/%C3%84", "/Ä"),
            ("/%25zz", "/%25zz", "/%ZZ"),
            ("/%zz", "/%25zz", "/%ZZ"),
            ("/%ff", "/%25ff", "/%FF"),
            ("/%", "/%25", "/%"),
            ("/.well-known/x", "/.well-known/x", "/.WELL-KNOWN/X"),
            ("/...", "/...", "/..."),
            ("//a//b/", "//a//b/", "//A//B/"),
        ] {
            let path = path(raw);
            assert_eq!((path.as_str(), path.folded()), (forward, folded), "{raw}");
            assert_eq!(path.ambiguity(), None, "{raw}");
        }
    }

    #[test]
    fn er_b1_marks_what_others_read_differently() {
        for (raw, ambiguity, other) in [
            ("/a%2Fb", Ambiguity::EncodedSlash, "/A/B"),
            ("/x/..%2fhub", Ambiguity::EncodedSlash, "/HUB"),
            ("/a\\b", Ambiguity::Backslash, "/A/B"),
            ("/a%5Cb", Ambiguity::Backslash, "/A/B"),
            ("/hub%00.png", Ambiguity::Nul, "/HUB"),
            ("/../hub", Ambiguity::AboveRoot, "/HUB"),
            ("/a/%2e%2e/../hub", Ambiguity::AboveRoot, "/HUB"),
        ] {
            let path = path(raw);
            assert_eq!(path.ambiguity(), Some(ambiguity), "{raw}");
            assert_eq!(path.other_reading().as_ref().map(NormalPath::folded), Some(other), "{raw}");
        }
        assert_eq!(path("/a/../b").other_reading(), None);
    }

    #[test]
    fn er_b1_refuses_what_is_no_path() {
        assert_eq!(NormalPath::parse("*"), Err(Error::NotAbsolute));
        assert_eq!(NormalPath::parse(""), Err(Error::NotAbsolute));
        assert_eq!(NormalPath::parse("/ä"), Err(Error::NotAscii));
        assert_eq!(NormalPath::parse("/a b"), Err(Error::NotAscii));
    }

    #[test]
    fn er_b1_matches_whole_segments_without_letter_case() {
        let prefix = path("/App");
        for inside in ["/app", "/APP/", "/app/x", "/%61pp/x"] {
            assert!(path(inside).is_within(&prefix), "{inside}");
        }
        for outside in ["/", "/apple", "/ap", "/x/app", "/app%2Fx", "//app"] {
            assert!(!path(outside).is_within(&prefix), "{outside}");
        }
        assert!(path("/anything").is_within(&path("/")));
    }

    #[test]
    fn er_b1_letters_outside_ascii_never_fold_into_ascii() {
        assert_ne!(path("/%C4%B1").folded(), path("/I").folded());
        assert_ne!(path("/%C5%BF").folded(), path("/S").folded());
    }

    #[test]
    fn hub_and_negotiate_paths() {
        assert_eq!(path("/Chat/").hub(), "/CHAT");
        assert_eq!(path("/chat//").hub(), "/CHAT/");
        assert_eq!(path("/HUB/Negotiate").negotiate_hub(), Some("/HUB"));
        assert_eq!(path("/hub/negotiate/").negotiate_hub(), Some("/HUB"));
        assert_eq!(path("/negotiate").negotiate_hub(), Some(""));
        assert_eq!(path("/").hub(), "");
        assert_eq!(path("/hub/renegotiate").negotiate_hub(), None);
        assert!(path("/chat").is_same_hub(&path("/CHAT/")));
    }

    #[test]
    fn replaces_the_matched_segments_only() {
        for (raw, prefix, replacement, expected) in [
            ("/app/x%2fy", "/app", "", "/x%2fy"),
            ("/app", "/app", "", "/"),
            ("/app/", "/app/", "", "/"),
            ("/%61pp/x", "/app", "/other", "/other/x"),
            ("/x", "/", "/v1", "/v1/x"),
            ("/", "/", "/v1", "/v1/"),
            ("/elsewhere", "/app", "/other", "/elsewhere"),
        ] {
            assert_eq!(path(raw).replace_prefix(&path(prefix), replacement), expected, "{raw}");
        }
    }

    proptest! {
        #[test]
        fn er_b1_forwarded_path_reads_the_same_again(raw in "/([a-c./%25EfF0\\\\~,]|%2[eEfF]|%C3%A4|/){0,24}") {
            let once = NormalPath::parse(&raw).expect("printable");
            let twice = NormalPath::parse(once.as_str()).expect("printable");
            prop_assert_eq!(once.folded(), twice.folded());
            prop_assert_eq!(once.as_str(), twice.as_str());
            prop_assert_eq!(once.folded().matches('/').count(), once.as_str().matches('/').count());
        }

        #[test]
        fn er_b1_never_panics(raw in "\\PC{0,40}") {
            let _ = NormalPath::parse(&raw).map(|path| path.other_reading());
        }
    }
}

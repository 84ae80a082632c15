//! Query strings: read as ASP.NET Core reads them, changed without touching any other byte.
//!
//! Why: the three parameters of SignalR travel in a query that otherwise belongs to the application. Names are compared
//! decoded and without letter case, repeated ones are joined by a comma (signalr-wire §2, rule B6), and what goes to
//! the hub differs from what came only where a parameter was replaced or removed.
//!
//! Invariant: a secret never leaves through [`Query::redacted`]: only values of names on the allow-list are kept
//! (rule A8).

use std::borrow::Cow;
use std::fmt::Write as _;

/// Names whose values may be logged (rule A8); everything else is a secret until proven otherwise.
const LOGGED_NAMES: [&str; 4] = ["negotiateVersion", "useStatefulReconnect", "webTransport", "_"];

/// The longest parameter name that a log line repeats.
const LOGGED_NAME_CHARS_MAX: usize = 40;

/// What a client asks for with `negotiateVersion` (signalr-wire §3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NegotiateVersion {
    /// The parameter is absent: version 0.
    Absent,
    /// A 32-bit integer, negative ones and ones above 1 too.
    Number(i32),
    /// Anything else, as received (decoded, joined): the hub answers with an error.
    Invalid(String),
}

/// A query string without its question mark.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    /// Wraps what stands behind the question mark (empty if there is none).
    pub fn new(raw: &'a str) -> Self {
        Self(raw)
    }

    /// The bytes as received.
    pub fn as_str(&self) -> &'a str {
        self.0
    }

    /// The raw `name` and `value` of each parameter, in order, empty parts left out.
    pub fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.parts().filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
    }

    /// The decoded value of `name`: repeated ones joined by a comma, empty ones left out of the joining.
    ///
    /// `None` if the parameter is absent; an empty text if it is only ever empty.
    pub fn value(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut joined: Option<Cow<'a, str>> = None;
        for (_, raw) in self.pairs().filter(|(raw_name, _)| is_named(raw_name, name)) {
            let value = decode(raw);
            joined = Some(match joined {
                Some(before) if value.is_empty() => before,
                Some(before) if !before.is_empty() => Cow::Owned(format!("{before},{value}")),
                _ => value,
            });
        }
        joined
    }

    /// The connection token that the client presents, `None` if there is none or an empty one.
    pub fn id(&self) -> Option<Cow<'a, str>> {
        self.value("id").filter(|id| !id.is_empty())
    }

    /// The access token of clients that cannot send `Authorization` (signalr-wire §14.1); an empty one is none.
    pub fn access_token(&self) -> Option<Cow<'a, str>> {
        self.value("access_token").filter(|token| !token.is_empty())
    }

    /// The negotiate version asked for, by .NET's rules for integers.
    pub fn negotiate_version(&self) -> NegotiateVersion {
        let Some(text) = self.value("negotiateVersion") else { return NegotiateVersion::Absent };
        let digits = text.trim_matches(is_dotnet_blank);
        let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
        match digits.parse() {
            Ok(number) if unsigned.bytes().all(|byte| byte.is_ascii_digit()) => NegotiateVersion::Number(number),
            _ => NegotiateVersion::Invalid(text.into_owned()),
        }
    }

    /// Tells whether stateful reconnect is asked for; anything unparsable is `false` (signalr-wire §3.1).
    pub fn use_stateful_reconnect(&self) -> bool {
        self.value("useStatefulReconnect").is_some_and(|text| text.trim().eq_ignore_ascii_case("true"))
    }

    /// Tells whether WebTransport is asked for (rule H2): "1" or "true".
    pub fn web_transport(&self) -> bool {
        self.value("webTransport").is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true"))
    }

    /// A copy where each `(name, Some(value))` is replaced and each `(name, None)` removed (rule B6).
    ///
    /// A replacement stands where the first parameter of that name stood, or at the end; further ones of the name go.
    /// Values must be unreserved characters: they are written as they are. All other bytes stay as they were.
    pub fn edited(&self, edits: &[(&str, Option<&str>)]) -> String {
        let mut written = vec![false; edits.len()];
        let mut out = String::with_capacity(self.0.len() + 64);
        let mut first = true;
        let mut push = |text: &str, value: Option<&str>| {
            if !std::mem::take(&mut first) {
                out.push('&');
            }
            out.push_str(text);
            if let Some(value) = value {
                out.push('=');
                out.push_str(value);
            }
        };
        for part in self.parts() {
            let name = part.split_once('=').map_or(part, |(name, _)| name);
            let edit = edits.iter().zip(&mut written).find(|((edited, _), _)| is_named(name, edited));
            match edit {
                None => push(part, None),
                Some(((_, None), _)) => {}
                Some(((edited, Some(value)), done)) => {
                    if !std::mem::replace(done, true) {
                        push(edited, Some(value));
                    }
                }
            }
        }
        for ((name, value), done) in edits.iter().zip(written) {
            if let (Some(value), false) = (value, done) {
                push(name, Some(value));
            }
        }
        out
    }

    /// The query for a log line: only allow-listed names keep their value (rule A8).
    pub fn redacted(&self) -> String {
        let mut out = String::new();
        for part in self.parts().filter(|part| !part.is_empty()) {
            let separator = if out.is_empty() { "" } else { "&" };
            let kept = part.split_once('=').filter(|(name, _)| is_plain(name));
            let _ = match kept {
                Some((name, value)) if is_logged(name) && is_plain(value) => write!(out, "{separator}{name}={value}"),
                Some((name, _)) => write!(out, "{separator}{name}=…"),
                None => write!(out, "{separator}…"),
            };
        }
        out
    }

    fn parts(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let parts = if self.0.is_empty() { None } else { Some(self.0.split('&')) };
        parts.into_iter().flatten()
    }
}

impl std::fmt::Debug for Query<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Query({})", self.redacted())
    }
}

/// Undoes percent-encoding and `+` as ASP.NET Core does: what is no valid escape stays as it is.
pub fn decode(raw: &str) -> Cow<'_, str> {
    if !raw.contains(['%', '+']) {
        return Cow::Borrowed(raw);
    }
    let bytes = raw.as_bytes();
    let mut decoded = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = bytes.get(at + 1..at + 3).filter(|_| byte == b'%').and_then(hex_byte);
        at += if escape.is_some() { 3 } else { 1 };
        decoded.push(escape.unwrap_or(if byte == b'+' { b' ' } else { byte }));
    }
    Cow::Owned(match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(_) => raw.to_owned(),
    })
}

/// Percent-encodes everything that is not unreserved, for values that come from elsewhere.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02X}");
        }
    }
    out
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u8::from_str_radix(text, 16).ok()
}

fn is_named(raw: &str, name: &str) -> bool {
    decode(raw).eq_ignore_ascii_case(name)
}

fn is_logged(raw: &str) -> bool {
    LOGGED_NAMES.iter().any(|name| is_named(raw, name))
}

fn is_plain(text: &str) -> bool {
    text.len() <= LOGGED_NAME_CHARS_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
}

/// The blanks that .NET's `int.TryParse` skips.
fn is_dotnet_blank(character: char) -> bool {
    matches!(character, '\t'..='\r' | ' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn er_b6_reads_the_id_by_the_wire_rules() {
        for (raw, expected) in [
            ("id=T", Some("T")),
            ("ID=T", Some("T")),
            ("%69d=T", Some("T")),
            ("a=b&id=T&c", Some("T")),
            ("id=&id=T", Some("T")),
            ("id=T&id=", Some("T")),
            ("id=A&Id=B", Some("A,B")),
            ("id=%41", Some("A")),
            ("id=+T", Some(" T")),
            ("id=%20T", Some(" T")),
            ("id=a=b", Some("a=b")),
            ("id=%zz", Some("%zz")),
            ("id=", None),
            ("id", None),
            ("", None),
            ("ids=T&xid=T", None),
        ] {
            assert_eq!(Query::new(raw).id().as_deref(), expected, "{raw}");
        }
    }

    #[test]
    fn er_b6_reads_the_negotiate_version_as_dotnet_does() {
        for (raw, number) in [
            ("negotiateVersion=1", 1),
            ("NegotiateVersion=1", 1),
            ("negotiateVersion=%2B1", 1),
            ("negotiateVersion=01", 1),
            ("negotiateVersion=-0", 0),
            ("negotiateVersion=+1+", 1),
            ("negotiateVersion=-5", -5),
            ("negotiateVersion=2147483647", i32::MAX),
        ] {
            assert_eq!(Query::new(raw).negotiate_version(), NegotiateVersion::Number(number), "{raw}");
        }
        for (raw, text) in [
            ("negotiateVersion=", ""),
            ("negotiateVersion=1.0", "1.0"),
            ("negotiateVersion=0x1", "0x1"),
            ("negotiateVersion=1e0", "1e0"),
            ("negotiateVersion=%E2%88%921", "−1"),
            ("negotiateVersion=%D9%A1", "١"),
            ("negotiateVersion=2147483648", "2147483648"),
            ("negotiateVersion=1&negotiateVersion=1", "1,1"),
            ("negotiateVersion=1&NegotiateVersion=1", "1,1"),
            ("negotiateVersion=%2B", "+"),
        ] {
            assert_eq!(Query::new(raw).negotiate_version(), NegotiateVersion::Invalid(text.to_owned()), "{raw}");
        }
        assert_eq!(Query::new("x=1").negotiate_version(), NegotiateVersion::Absent);
    }

    #[test]
    fn er_b6_reads_use_stateful_reconnect_as_dotnet_does() {
        for raw in ["useStatefulReconnect=true", "UseStatefulReconnect=True", "useStatefulReconnect=+TRUE%20"] {
            assert!(Query::new(raw).use_stateful_reconnect(), "{raw}");
        }
        for raw in [
            "",
            "useStatefulReconnect=1",
            "useStatefulReconnect=",
            "useStatefulReconnect=true&useStatefulReconnect=true",
        ] {
            assert!(!Query::new(raw).use_stateful_reconnect(), "{raw}");
        }
    }

    #[test]
    fn er_b6_replaces_and_never_appends_a_second_one() {
        for (raw, expected) in [
            ("id=old", "id=new"),
            ("a=%41&ID=old&b", "a=%41&id=new&b"),
            ("id=old&x=1&%69d=old2", "id=new&x=1"),
            ("useStatefulReconnect=true&x=1", "x=1&id=new"),
            ("", "id=new"),
            ("x", "x&id=new"),
            ("&&x=1&", "&&x=1&&id=new"),
            ("useStatefulReconnect=true", "id=new"),
        ] {
            let edited = Query::new(raw).edited(&[("id", Some("new")), ("useStatefulReconnect", None)]);
            assert_eq!(edited, expected, "{raw}");
        }
        assert_eq!(Query::new("id=x").edited(&[("id", None)]), "");
    }

    #[test]
    fn er_a8_only_allow_listed_names_keep_their_value() {
        for (raw, expected) in [
            ("id=SECRET&negotiateVersion=1", "id=…&negotiateVersion=1"),
            ("Access_Token=SECRET", "Access_Token=…"),
            ("%61ccess_token=SECRET", "…"),
            ("SECRET", "…"),
            ("NEGOTIATEVERSION=1&_=17", "NEGOTIATEVERSION=1&_=17"),
            ("negotiateVersion=1%0ASECRET", "negotiateVersion=…"),
            ("user=x&id=", "user=…&id=…"),
            ("id%3dSECRET=1", "…"),
        ] {
            let redacted = Query::new(raw).redacted();
            assert_eq!(redacted, expected, "{raw}");
            assert!(!redacted.contains("SECRET") && !format!("{:?}", Query::new(raw)).contains("SECRET"));
        }
    }

    proptest! {
        #[test]
        fn edits_keep_all_other_bytes(raw in "[a-d&=%+]{0,30}") {
            let edited = Query::new(&raw).edited(&[("id", Some("T"))]);
            let expected = if raw.is_empty() { "id=T".to_owned() } else { format!("{raw}&id=T") };
            prop_assert_eq!(edited, expected);
        }

        #[test]
        fn after_an_edit_exactly_the_new_value_is_read(raw in "([iI]d|%69d|x|=|&|%|a){0,16}") {
            let edited = Query::new(&raw).edited(&[("id", Some("T"))]);
            let id = Query::new(&edited).id();
            prop_assert_eq!(id.as_deref(), Some("T"));
        }

        #[test]
        fn encoding_round_trips(text in "\\PC{0,20}") {
            let encoded = encode(&text);
            prop_assert_eq!(decode(&encoded), text);
        }
    }
}

//! One pass over JSON text without building values: tokens, skipping, decoding of strings.
//!
//! Strings are not required to be UTF-8 while they are skipped (signalr-wire §8.4: invalid UTF-8 in an argument is a
//! binding failure), only when they are decoded.
//!
//! Invariant: every function moves forward only, and no input makes it recurse or allocate beyond the input's length.

use core::ops::Range;
use std::borrow::Cow;

use super::plain::unquoted_len;
use crate::limits::NESTING_MAX;

/// The text is no JSON, is nested too deep, or stops early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    /// Position of the byte that is wrong, or the length of the input.
    pub(crate) at: usize,
    pub(crate) expected: Expected,
}

/// What should have come instead. A whole word: in results it shares its place with words of other variants, and bytes within
/// them are copied in pieces, which processors cannot forward from the store before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum Expected {
    Value,
    PropertyName,
    /// A property name behind a comma, where the object ended.
    NoTrailingComma,
    Colon,
    /// A comma or a closing bracket.
    EndOfValue,
    /// Something behind the digits that may follow a number.
    EndOfNumber,
    /// The rest of a string, number or literal that was begun; or less nesting.
    Other,
}

/// Why a string cannot be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecodeError {
    LoneSurrogate,
    InvalidUtf8,
}

/// What a value begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Object,
    Array,
    String,
    Number,
    True,
    False,
    Null,
}

impl Kind {
    /// Name of a whole value: `Array`, `Object`, …
    pub(crate) const fn value_name(self) -> &'static str {
        match self {
            Self::Object => "Object",
            Self::Array => "Array",
            Self::String => "String",
            Self::Number => "Number",
            Self::True => "True",
            Self::False => "False",
            Self::Null => "Null",
        }
    }

    /// Name of its first token: `StartArray`, `StartObject`, …
    pub(crate) const fn token_name(self) -> &'static str {
        match self {
            Self::Object => "StartObject",
            Self::Array => "StartArray",
            other => other.value_name(),
        }
    }
}

/// The inside of a string token, quotes excluded.
#[derive(Debug, Clone)]
pub(crate) struct Text<'a> {
    raw: &'a [u8],
    /// How many escapes it holds; a whole word for the reason of [`Expected`].
    escapes: usize,
}

impl<'a> Text<'a> {
    /// Whether the string is `expected`; a string that cannot be decoded is no name.
    pub(crate) fn is(&self, expected: &str) -> bool {
        if self.escapes > 0 {
            self.decode().is_ok_and(|text| text == expected)
        } else {
            self.raw == expected.as_bytes()
        }
    }

    /// The text as bytes, if it is valid UTF-8 and free of escapes.
    pub(crate) fn plain(&self) -> Option<&'a [u8]> {
        let plain = self.escapes == 0 && (self.raw.is_ascii() || core::str::from_utf8(self.raw).is_ok());
        plain.then_some(self.raw)
    }

    /// The text itself.
    pub(crate) fn decode(&self) -> Result<Cow<'a, str>, DecodeError> {
        let raw = core::str::from_utf8(self.raw).map_err(|_| DecodeError::InvalidUtf8)?;
        if self.escapes > 0 { unescape(raw).map(Cow::Owned) } else { Ok(Cow::Borrowed(raw)) }
    }
}

/// Walks over JSON text.
#[derive(Debug, Clone)]
pub(crate) struct Scanner<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(crate) const fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    pub(crate) const fn position(&self) -> usize {
        self.at
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    const fn error<T>(&self, expected: Expected) -> Result<T, SyntaxError> {
        Err(SyntaxError { at: self.at, expected })
    }

    #[inline]
    pub(crate) fn skip_space(&mut self) {
        // Nearly everybody writes compact JSON.
        if self.peek().is_some_and(|next| next > b' ') {
            return;
        }
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Skips space and the opening bracket `open`.
    pub(crate) fn enter(&mut self, open: u8) -> Result<(), SyntaxError> {
        self.expect(open, Expected::Value)
    }

    fn expect(&mut self, wanted: u8, expected: Expected) -> Result<(), SyntaxError> {
        if self.accept(wanted) { Ok(()) } else { self.error(expected) }
    }

    /// Skips space, and the byte `wanted` if it follows.
    pub(crate) fn accept(&mut self, wanted: u8) -> bool {
        self.skip_space();
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    /// Skips space and tells what kind of value follows.
    pub(crate) fn kind(&mut self) -> Result<Kind, SyntaxError> {
        self.skip_space();
        match self.peek() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            Some(b'n') => Ok(Kind::Null),
            _ => self.error(Expected::Value),
        }
    }

    /// Goes to the next member of the object whose brace was skipped; `None` behind its end. `first` tells whether
    /// it is the first one. The value follows behind the colon.
    pub(crate) fn next_member(&mut self, first: bool) -> Result<Option<Text<'a>>, SyntaxError> {
        if self.accept(b'}') {
            return Ok(None);
        }
        if !first {
            self.expect(b',', Expected::EndOfValue)?;
        }
        self.member_name(!first).map(Some)
    }

    /// Goes to the next element of the array whose bracket was skipped; false behind its end.
    pub(crate) fn next_element(&mut self, first: bool) -> Result<bool, SyntaxError> {
        if self.accept(b']') {
            return Ok(false);
        }
        if !first {
            self.expect(b',', Expected::EndOfValue)?;
        }
        Ok(true)
    }

    /// Skips space and a string.
    pub(crate) fn string(&mut self) -> Result<Text<'a>, SyntaxError> {
        self.expect(b'"', Expected::Value)?;
        let start = self.at;
        let mut escapes = 0;
        loop {
            self.at += unquoted_len(self.input.get(self.at..).unwrap_or_default());
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    escapes += 1;
                    self.escape()?;
                }
                _ => return self.error(Expected::Other),
            }
        }
        let raw = self.input.get(start..self.at).unwrap_or_default();
        self.at += 1;
        Ok(Text { raw, escapes })
    }

    fn escape(&mut self) -> Result<(), SyntaxError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 1,
            Some(b'u') => {
                let digits = self.input.get(self.at + 1..self.at + 5);
                if !digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit)) {
                    return self.error(Expected::Other);
                }
                self.at += 5;
            }
            _ => return self.error(Expected::Other),
        }
        Ok(())
    }

    /// Skips space and a number inside a container, and gives its text.
    pub(crate) fn number(&mut self) -> Result<&'a str, SyntaxError> {
        self.number_before_end(false)
    }

    /// The same; `may_end` tells whether the input may end behind it.
    pub(crate) fn number_before_end(&mut self, may_end: bool) -> Result<&'a str, SyntaxError> {
        self.skip_space();
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            Some(b'0') => self.at += 1,
            _ => self.digits()?,
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        let delimited = match self.peek() {
            None => may_end,
            Some(next) => matches!(next, b' ' | b'\t' | b'\n' | b'\r' | b',' | b']' | b'}'),
        };
        if !delimited {
            return self.error(Expected::EndOfNumber);
        }
        let text = self.input.get(start..self.at).unwrap_or_default();
        core::str::from_utf8(text).map_err(|_| SyntaxError { at: start, expected: Expected::Other })
    }

    fn digits(&mut self) -> Result<(), SyntaxError> {
        let rest = self.input.get(self.at..).unwrap_or_default();
        let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += digits;
        if digits == 0 { self.error(Expected::Other) } else { Ok(()) }
    }

    /// Skips the literal `true`, `false` or `null`.
    pub(crate) fn literal(&mut self, literal: &str) -> Result<(), SyntaxError> {
        self.skip_space();
        let rest = self.input.get(self.at..).unwrap_or_default();
        if !rest.starts_with(literal.as_bytes()) {
            return self.error(Expected::Other);
        }
        self.at += literal.len();
        Ok(())
    }

    /// Skips space and one value of any kind that stands inside `depth` open containers; gives its bounds.
    pub(crate) fn value(&mut self, depth: usize) -> Result<Range<usize>, SyntaxError> {
        self.skip_space();
        let start = self.at;
        let mut open = Containers::new(depth);
        loop {
            // A value is due here.
            match self.kind()? {
                Kind::Object => {
                    self.at += 1;
                    self.open(&mut open, true)?;
                    if !self.accept(b'}') {
                        self.member_name(false)?;
                        continue;
                    }
                    open.pop();
                }
                Kind::Array => {
                    self.at += 1;
                    self.open(&mut open, false)?;
                    if !self.accept(b']') {
                        continue;
                    }
                    open.pop();
                }
                Kind::String => {
                    self.string()?;
                }
                Kind::Number => {
                    self.number_before_end(depth == 0 && open.innermost().is_none())?;
                }
                Kind::True => self.literal("true")?,
                Kind::False => self.literal("false")?,
                Kind::Null => self.literal("null")?,
            }
            if self.close(&mut open)? {
                return Ok(start..self.at);
            }
        }
    }

    fn open(&self, open: &mut Containers, object: bool) -> Result<(), SyntaxError> {
        if open.push(object) { Ok(()) } else { self.error(Expected::Other) }
    }

    /// Skips a property name and its colon. `behind_comma` tells what the fault is if the object ends here.
    #[inline(always)]
    fn member_name(&mut self, behind_comma: bool) -> Result<Text<'a>, SyntaxError> {
        self.skip_space();
        match self.peek() {
            Some(b'"') => {}
            Some(b'}') if behind_comma => return self.error(Expected::NoTrailingComma),
            _ => return self.error(Expected::PropertyName),
        }
        let name = self.string()?;
        self.expect(b':', Expected::Colon)?;
        Ok(name)
    }

    /// Behind a value: closes what ends here. True when the outermost value is complete, false when another value
    /// is due.
    fn close(&mut self, open: &mut Containers) -> Result<bool, SyntaxError> {
        loop {
            let Some(object) = open.innermost() else { return Ok(true) };
            if self.accept(b',') {
                if object {
                    self.member_name(true)?;
                }
                return Ok(false);
            }
            self.expect(if object { b'}' } else { b']' }, Expected::EndOfValue)?;
            open.pop();
        }
    }
}

/// The open containers of a value, one bit each.
#[derive(Debug)]
struct Containers {
    objects: u64,
    len: usize,
    len_max: usize,
}

impl Containers {
    const fn new(depth: usize) -> Self {
        Self { objects: 0, len: 0, len_max: NESTING_MAX.saturating_sub(depth) }
    }

    const fn push(&mut self, object: bool) -> bool {
        if self.len >= self.len_max {
            return false;
        }
        self.objects = (self.objects << 1) | (object as u64);
        self.len += 1;
        true
    }

    const fn pop(&mut self) {
        self.objects >>= 1;
        self.len = self.len.saturating_sub(1);
    }

    const fn innermost(&self) -> Option<bool> {
        if self.len == 0 { None } else { Some(self.objects & 1 == 1) }
    }
}

/// Undoes the escapes of a string that was scanned before, so that they are known to be well formed.
fn unescape(raw: &str) -> Result<String, DecodeError> {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, behind)) = rest.split_once('\\') {
        text.push_str(plain);
        let mut chars = behind.chars();
        let simple = match chars.next() {
            Some('b') => '\u{8}',
            Some('f') => '\u{C}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('u') => {
                let (decoded, left) = unicode(chars.as_str())?;
                text.push(decoded);
                rest = left;
                continue;
            }
            Some(other) => other,
            None => break,
        };
        text.push(simple);
        rest = chars.as_str();
    }
    text.push_str(rest);
    Ok(text)
}

/// Reads the digits behind `\u`, and the second escape of a pair.
fn unicode(behind: &str) -> Result<(char, &str), DecodeError> {
    let (unit, rest) = unit(behind).ok_or(DecodeError::LoneSurrogate)?;
    if let Some(decoded) = char::from_u32(unit) {
        return Ok((decoded, rest));
    }
    let second = rest.strip_prefix("\\u").and_then(self::unit);
    match second {
        Some((low @ 0xDC00..=0xDFFF, rest)) if unit < 0xDC00 => {
            let code = 0x1_0000 + ((unit - 0xD800) << 10) + (low - 0xDC00);
            char::from_u32(code).map(|decoded| (decoded, rest)).ok_or(DecodeError::LoneSurrogate)
        }
        _ => Err(DecodeError::LoneSurrogate),
    }
}

fn unit(text: &str) -> Option<(u32, &str)> {
    let (digits, rest) = text.split_at_checked(4)?;
    Some((u32::from_str_radix(digits, 16).ok()?, rest))
}

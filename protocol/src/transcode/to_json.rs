//! MessagePack values to JSON, token by token.
//!
//! Invariant: one loop with a stack of at most [`NESTING_MAX`] entries; a declared length is only counted down, and
//! ends with the input at the latest; every text goes through the escaping of [`crate::json::write_string`].

use super::hints::{Hint, Place};
use super::time::{self, Timestamp};
use super::{Error, PropertyNames, Rules};
use crate::json::{write_lossy, write_string};
use crate::limits::NESTING_MAX;
use crate::messagepack::value::{Cursor, Head};

/// Type of the timestamp extension.
const TIMESTAMP: i8 = -1;

/// A container that is being written.
struct Open<'a> {
    /// Values (of an array) or pairs (of a map) in all, and how many were begun.
    len: u32,
    begun: u32,
    /// How many were written: fewer than begun where a gap is left out.
    written: u32,
    shape: Shape<'a>,
    place: Option<&'a Place>,
}

#[derive(Clone, Copy)]
enum Shape<'a> {
    /// Array to array.
    Array,
    /// Map to object; its keys are names of members.
    Members,
    /// Map to object; its keys are data.
    Dictionary,
    /// Array to object, with these members.
    Tuple(&'a [String]),
}

/// Appends the value that `encoded` is, which stands inside `depth` containers of the envelope.
pub(super) fn value(
    encoded: &[u8],
    depth: usize,
    place: Option<&Place>,
    rules: &Rules,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut cursor = Cursor::new(encoded);
    next_value(&mut cursor, depth, place, rules, bytes_max, out)?;
    if cursor.position() == encoded.len() { Ok(()) } else { Err(Error::Malformed) }
}

/// Appends the value that follows, and moves behind it; moves anywhere when that fails.
pub(super) fn next_value<'a>(
    cursor: &mut Cursor<'_>,
    depth: usize,
    place: Option<&'a Place>,
    rules: &'a Rules,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut walk = Walk { cursor, stack: Vec::new(), rules, out };
    let mut place = place;
    loop {
        let head = walk.cursor.read_head().ok_or(Error::Malformed)?;
        match (head, place.and_then(|place| place.hint.as_ref())) {
            (Head::Str(len), None) => walk.text(len)?,
            (Head::Nil, _) => walk.out.extend_from_slice(b"null"),
            (Head::Array(2), Some(hint @ Hint::DateOffset)) => {
                walk.date_offset().ok_or(Error::Hint { hint: hint.name() })?;
            }
            (Head::Array(_) | Head::Map(_), _) => walk.open(head, depth, place)?,
            (head, None) => walk.scalar(head)?,
            (head, Some(hint)) => walk.hinted(head, hint)?.ok_or(Error::Hint { hint: hint.name() })?,
        }
        if walk.out.len() > bytes_max {
            return Err(Error::TooLarge { bytes_max });
        }
        match walk.next()? {
            Some(next) => place = next,
            None => return Ok(()),
        }
    }
}

struct Walk<'a, 'i, 'o> {
    cursor: &'o mut Cursor<'i>,
    stack: Vec<Open<'a>>,
    rules: &'a Rules,
    out: &'o mut Vec<u8>,
}

impl<'a> Walk<'a, '_, '_> {
    fn open(&mut self, head: Head, depth: usize, place: Option<&'a Place>) -> Result<(), Error> {
        if self.stack.len() + depth >= NESTING_MAX {
            return Err(Error::TooDeep);
        }
        let (len, shape) = match (head, place.and_then(|place| place.hint.as_ref())) {
            (Head::Array(len), None) => (len, Shape::Array),
            (Head::Array(len), Some(Hint::Tuple(names))) => (len, Shape::Tuple(names)),
            (Head::Map(len), None) => (len, Shape::Members),
            (Head::Map(len), Some(Hint::Dictionary | Hint::IntegerKeys)) => (len, Shape::Dictionary),
            (_, Some(hint)) => return Err(Error::Hint { hint: hint.name() }),
            (_, None) => return Err(Error::Malformed),
        };
        self.out.push(if matches!(shape, Shape::Array) { b'[' } else { b'{' });
        self.stack.push(Open { len, begun: 0, written: 0, shape, place });
        Ok(())
    }

    /// Behind a value: closes what ends here, and goes to the next value, whose place it gives; `None` at the end.
    fn next(&mut self) -> Result<Option<Option<&'a Place>>, Error> {
        loop {
            let Some(top) = self.stack.last_mut() else { return Ok(None) };
            if top.begun == top.len {
                self.out.push(if matches!(top.shape, Shape::Array) { b']' } else { b'}' });
                self.stack.pop();
                continue;
            }
            let index = top.begun;
            top.begun += 1;
            if let Shape::Tuple(names) = top.shape {
                let name = usize::try_from(index).ok().and_then(|index| names.get(index));
                let name = name.ok_or(Error::Hint { hint: "tuple" })?;
                if name.is_empty() {
                    // A gap, which JSON does not have.
                    self.cursor.skip().ok_or(Error::Malformed)?;
                    continue;
                }
                comma(&mut top.written, self.out);
                write_string(name, self.out);
                self.out.push(b':');
                return Ok(Some(top.place.and_then(|place| place.member(name))));
            }
            comma(&mut top.written, self.out);
            let place = top.place;
            if matches!(top.shape, Shape::Array) {
                return Ok(Some(place.and_then(|place| place.element(index))));
            }
            let members = matches!(top.shape, Shape::Members);
            return self.key(members, place).map(Some);
        }
    }

    /// Writes a key and its colon; gives the place of its value.
    fn key(&mut self, is_member: bool, place: Option<&'a Place>) -> Result<Option<&'a Place>, Error> {
        let digits;
        let name = match self.cursor.read_head().ok_or(Error::Malformed)? {
            Head::Str(len) => {
                let bytes = self.cursor.bytes(len).ok_or(Error::Malformed)?;
                if is_member && place.is_none() && self.rules.property_names == PropertyNames::Keep {
                    write_lossy(bytes, self.out);
                    self.out.push(b':');
                    return Ok(None);
                }
                let name = String::from_utf8_lossy(bytes);
                if is_member {
                    write_string(&self.rules.property_names.in_json(&name), self.out);
                    self.out.push(b':');
                    return Ok(place.and_then(|place| place.member(&name)));
                }
                name
            }
            Head::Uint(number) => {
                digits = number.to_string();
                digits.as_str().into()
            }
            Head::Int(number) => {
                digits = number.to_string();
                digits.as_str().into()
            }
            _ => return Err(Error::Key),
        };
        write_string(&name, self.out);
        self.out.push(b':');
        Ok(place.and_then(|place| place.member(&name)))
    }

    #[inline(always)]
    fn scalar(&mut self, head: Head) -> Result<(), Error> {
        match head {
            Head::Bool(value) => self.out.extend_from_slice(if value { b"true" } else { b"false" }),
            Head::Uint(value) => print(&value, self.out),
            Head::Int(value) => print(&value, self.out),
            Head::F32(value) if value.is_finite() => print(&value, self.out),
            Head::F64(value) if value.is_finite() => print(&value, self.out),
            Head::F32(_) | Head::F64(_) => return Err(Error::NotFinite),
            Head::Str(len) => self.text(len)?,
            Head::Bin(len) => base64(self.cursor.bytes(len).ok_or(Error::Malformed)?, self.out),
            Head::Ext(TIMESTAMP, len) => {
                let text = self.timestamp(len)?.and_then(Timestamp::to_text).ok_or(Error::DateRange)?;
                self.put_date(&text, "Z");
            }
            Head::Ext(extension_type, _) => return Err(Error::Extension { extension_type }),
            Head::Nil | Head::Array(_) | Head::Map(_) => return Err(Error::Malformed),
        }
        Ok(())
    }

    /// What is no UTF-8 is replaced, as the readers of MessagePack do.
    #[inline]
    fn text(&mut self, len: u32) -> Result<(), Error> {
        write_lossy(self.cursor.bytes(len).ok_or(Error::Malformed)?, self.out);
        Ok(())
    }

    fn timestamp(&mut self, len: u32) -> Result<Option<Timestamp>, Error> {
        let data = self.cursor.bytes(len).ok_or(Error::Malformed)?;
        Ok(Timestamp::from_extension(data))
    }

    /// A value that is no container and not nil, by its hint; `None` when it is not what the hint says.
    fn hinted(&mut self, head: Head, hint: &Hint) -> Result<Option<()>, Error> {
        if let Head::Str(len) = head {
            let bytes = self.cursor.bytes(len).ok_or(Error::Malformed)?;
            return Ok(core::str::from_utf8(bytes).ok().and_then(|text| hinted_text(text, hint, self.out)));
        }
        if let Some(number) = integer(head) {
            return Ok(hinted_integer(number, hint, self.out));
        }
        match (head, hint) {
            (Head::Bin(_), Hint::Bytes) | (Head::Ext(TIMESTAMP, _), Hint::Date) => self.scalar(head)?,
            (Head::F32(_) | Head::F64(_), Hint::Float) => match head {
                Head::F32(value) if value.is_finite() => print(&value, self.out),
                Head::F64(value) if value.is_finite() => print(&value, self.out),
                Head::F32(value) => self.out.extend_from_slice(named_float(value.into())),
                Head::F64(value) => self.out.extend_from_slice(named_float(value)),
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }
        Ok(Some(()))
    }

    /// The two elements of a `DateTimeOffset`.
    fn date_offset(&mut self) -> Option<()> {
        let Head::Ext(TIMESTAMP, len) = self.cursor.head()? else { return None };
        let text = self.timestamp(len).ok()??.to_text()?;
        let minutes = integer(self.cursor.head()?).filter(|minutes| minutes.abs() <= 14 * 60)?;
        let sign = if minutes < 0 { '-' } else { '+' };
        let minutes = minutes.abs();
        self.put_date(&text, &format!("{sign}{:02}:{:02}", minutes / 60, minutes % 60));
        Some(())
    }

    fn put_date(&mut self, text: &str, suffix: &str) {
        self.out.push(b'"');
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(suffix.as_bytes());
        self.out.push(b'"');
    }
}

fn hinted_text(text: &str, hint: &Hint, out: &mut Vec<u8>) -> Option<()> {
    match hint {
        Hint::Decimal if is_decimal(text) => out.extend_from_slice(text.as_bytes()),
        Hint::Enum(names) => print(&enum_number(text, names)?, out),
        Hint::Flags(names) => {
            let mut number = 0i64;
            for name in text.split(',') {
                number |= enum_number(name.trim(), names)?;
            }
            print(&number, out);
        }
        _ => return None,
    }
    Some(())
}

fn hinted_integer(number: i64, hint: &Hint, out: &mut Vec<u8>) -> Option<()> {
    let text = match hint {
        Hint::Enum(_) | Hint::Flags(_) | Hint::Float => {
            print(&number, out);
            return Some(());
        }
        Hint::Day => time::day_to_text(number)?,
        Hint::Time => time::time_of_day_to_text(number)?,
        Hint::TimeSpan => time::span_to_text(number),
        Hint::Char => char::from_u32(u16::try_from(number).ok()?.into())?.to_string(),
        _ => return None,
    };
    write_string(&text, out);
    Some(())
}

fn enum_number(name: &str, names: &[(String, i64)]) -> Option<i64> {
    let known = names.iter().find(|(known, _)| known == name);
    // Values without a name are written as the text of their number.
    known.map(|(_, number)| *number).or_else(|| name.parse().ok())
}

/// Whether the text is a JSON number without exponent.
fn is_decimal(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = match digits.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (digits, None),
    };
    let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    plain(whole) && (whole == "0" || !whole.starts_with('0')) && fraction.is_none_or(plain)
}

fn integer(head: Head) -> Option<i64> {
    match head {
        Head::Uint(value) => i64::try_from(value).ok(),
        Head::Int(value) => Some(value),
        _ => None,
    }
}

fn named_float(value: f64) -> &'static [u8] {
    if value.is_nan() {
        b"\"NaN\""
    } else if value > 0.0 {
        b"\"Infinity\""
    } else {
        b"\"-Infinity\""
    }
}

fn base64(data: &[u8], out: &mut Vec<u8>) {
    use base64::Engine as _;
    let mut text = [0; 1024];
    out.push(b'"');
    // Blocks of a multiple of three bytes: padding comes at the very end only.
    for block in data.chunks(768) {
        if let Ok(len) = base64::engine::general_purpose::STANDARD.encode_slice(block, &mut text) {
            out.extend_from_slice(text.get(..len).unwrap_or_default());
        }
    }
    out.push(b'"');
}

/// Writes the shortest text of a number.
fn print<T: serde::Serialize>(number: &T, out: &mut Vec<u8>) {
    // Writing a finite number to memory cannot fail.
    let _infallible = serde_json::to_writer(out, number);
}

fn comma(written: &mut u32, out: &mut Vec<u8>) {
    if *written > 0 {
        out.push(b',');
    }
    *written += 1;
}

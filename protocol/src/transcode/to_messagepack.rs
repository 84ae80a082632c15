//! JSON values to MessagePack, token by token.
//!
//! How many values a container holds is known at its end only: one byte is kept for its head, and widened, by moving
//! what stands behind it, when sixteen or more came. Counting ahead would read every value twice for the sake of the
//! few long containers (measured in the workspace's benches).
//!
//! Invariant: one loop with a stack of at most [`NESTING_MAX`] entries; nothing is reserved for what is only announced.

use super::hints::{Hint, Place};
use super::time;
use super::{Error, PropertyNames, Rules};
use crate::json::scan::{DecodeError, Kind, Scanner, SyntaxError};
use crate::limits::NESTING_MAX;
use crate::messagepack::value::{
    write_bin, write_bool, write_f64, write_int, write_nil, write_str, write_str_bytes, write_uint,
};

/// A container that is being written.
struct Open<'a> {
    /// Position of its head in the output.
    head: usize,
    /// Values (of an array) or pairs (of a map) written so far.
    count: u32,
    shape: Shape<'a>,
    place: Option<&'a Place>,
}

#[derive(Clone, Copy)]
enum Shape<'a> {
    /// Array to array.
    Array,
    /// Object to map; its keys are names of members.
    Members,
    /// Object to map; its keys are data.
    Dictionary,
    /// Object to map with integer keys.
    IntegerKeys,
    /// Object to array, with these members.
    Tuple(&'a [String]),
}

impl From<SyntaxError> for Error {
    fn from(_: SyntaxError) -> Self {
        Self::Malformed
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::LoneSurrogate => Self::LoneSurrogate,
            DecodeError::InvalidUtf8 => Self::InvalidUtf8,
        }
    }
}

/// Appends the value that `text` is, which stands inside `depth` containers of the envelope.
pub(super) fn value(
    text: &[u8],
    depth: usize,
    place: Option<&Place>,
    rules: &Rules,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut scanner = Scanner::new(text);
    next_value(&mut scanner, depth, place, rules, bytes_max, out)?;
    scanner.skip_space();
    if scanner.position() == text.len() { Ok(()) } else { Err(Error::Malformed) }
}

/// Appends the value that follows, and moves behind it; moves anywhere when that fails.
pub(super) fn next_value<'a>(
    scanner: &mut Scanner<'_>,
    depth: usize,
    place: Option<&'a Place>,
    rules: &'a Rules,
    bytes_max: usize,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let mut walk = Walk { scanner, stack: Vec::new(), rules, out };
    let mut place = place;
    loop {
        match walk.scanner.kind()? {
            kind @ (Kind::Object | Kind::Array) => walk.open(kind, depth, place)?,
            kind => walk.scalar(kind, place.and_then(|place| place.hint.as_ref()))?,
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
    scanner: &'o mut Scanner<'i>,
    stack: Vec<Open<'a>>,
    rules: &'a Rules,
    out: &'o mut Vec<u8>,
}

impl<'a> Walk<'a, '_, '_> {
    fn open(&mut self, kind: Kind, depth: usize, place: Option<&'a Place>) -> Result<(), Error> {
        if self.stack.len() + depth >= NESTING_MAX {
            return Err(Error::TooDeep);
        }
        let shape = match (kind, place.and_then(|place| place.hint.as_ref())) {
            (Kind::Array, None) => Shape::Array,
            (Kind::Object, None) => Shape::Members,
            (Kind::Object, Some(Hint::Dictionary)) => Shape::Dictionary,
            (Kind::Object, Some(Hint::IntegerKeys)) => Shape::IntegerKeys,
            (Kind::Object, Some(Hint::Tuple(names))) => Shape::Tuple(names),
            (_, Some(hint)) => return Err(Error::Hint { hint: hint.name() }),
            (_, None) => return Err(Error::Malformed),
        };
        self.scanner.enter(if kind == Kind::Array { b'[' } else { b'{' })?;
        self.stack.push(Open { head: self.out.len(), count: 0, shape, place });
        self.out.push(0);
        Ok(())
    }

    /// Behind a value: closes what ends here, and goes to the next value, whose place it gives; `None` at the end.
    fn next(&mut self) -> Result<Option<Option<&'a Place>>, Error> {
        loop {
            let Some(top) = self.stack.last_mut() else { return Ok(None) };
            if matches!(top.shape, Shape::Array) {
                if self.scanner.next_element(top.count == 0)? {
                    let place = top.place.and_then(|place| place.element(top.count));
                    top.count += 1;
                    return Ok(Some(place));
                }
            } else if let Some(name) = self.scanner.next_member(top.count == 0)? {
                if matches!(top.shape, Shape::Members)
                    && top.place.is_none()
                    && self.rules.property_names == PropertyNames::Keep
                    && let Some(plain) = name.plain()
                {
                    write_str_bytes(plain, self.out);
                    top.count += 1;
                    return Ok(Some(None));
                }
                let name = name.decode()?;
                match top.shape {
                    Shape::Members => write_str(&self.rules.property_names.declared(&name), self.out),
                    Shape::IntegerKeys => integer_key(&name, self.out).ok_or(Error::Hint { hint: "integer-keys" })?,
                    Shape::Tuple(names) => {
                        // Members that are left out, and the gaps between, are nil.
                        while names.get(to_usize(top.count)).ok_or(Error::Hint { hint: "tuple" })? != &*name {
                            write_nil(self.out);
                            top.count += 1;
                        }
                    }
                    Shape::Array | Shape::Dictionary => write_str(&name, self.out),
                }
                top.count += 1;
                return Ok(Some(top.place.and_then(|place| place.member(&name))));
            }
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(top) = self.stack.pop() else { return };
        let is_array = matches!(top.shape, Shape::Array | Shape::Tuple(_));
        let (short, long) = if is_array { (0x90, 0xDC) } else { (0x80, 0xDE) };
        match (top.count, u16::try_from(top.count)) {
            (0..=15, _) => overwrite(self.out, top.head, &[short | top.count.to_le_bytes()[0]]),
            (_, Ok(count)) => {
                let [high, low] = count.to_be_bytes();
                widen(self.out, top.head, &[long, high, low]);
            }
            (count, Err(_)) => {
                let [a, b, c, d] = count.to_be_bytes();
                widen(self.out, top.head, &[long + 1, a, b, c, d]);
            }
        }
    }

    fn scalar(&mut self, kind: Kind, hint: Option<&Hint>) -> Result<(), Error> {
        match (kind, hint) {
            (Kind::Null, _) => {
                self.scanner.literal("null")?;
                write_nil(self.out);
            }
            (_, Some(hint)) => return self.hinted(kind, hint).ok_or(Error::Hint { hint: hint.name() }),
            (Kind::True, _) => {
                self.scanner.literal("true")?;
                write_bool(true, self.out);
            }
            (Kind::False, _) => {
                self.scanner.literal("false")?;
                write_bool(false, self.out);
            }
            (Kind::Number, _) => {
                let text = self.scanner.number_before_end(self.stack.is_empty())?;
                number(text, self.out)?;
            }
            _ => {
                let text = self.scanner.string()?;
                match text.plain() {
                    Some(plain) => write_str_bytes(plain, self.out),
                    None => write_str(&text.decode()?, self.out),
                }
            }
        }
        Ok(())
    }

    /// A value that is no container and not null, by its hint; `None` when it is not what the hint says.
    fn hinted(&mut self, kind: Kind, hint: &Hint) -> Option<()> {
        if kind == Kind::Number {
            let text = self.scanner.number_before_end(self.stack.is_empty()).ok()?;
            return hinted_number(text, hint, self.out);
        }
        if kind != Kind::String {
            return None;
        }
        let text = self.scanner.string().ok()?.decode().ok()?;
        hinted_text(&text, hint, self.out)
    }
}

fn hinted_number(text: &str, hint: &Hint, out: &mut Vec<u8>) -> Option<()> {
    match hint {
        Hint::Decimal if !text.contains(['e', 'E']) => write_str(text, out),
        Hint::Float => write_f64(text.parse().ok().filter(|value: &f64| value.is_finite())?, out),
        Hint::Enum(names) => {
            let number: i64 = text.parse().ok()?;
            match names.iter().find(|(_, known)| *known == number) {
                Some((name, _)) => write_str(name, out),
                None => write_str(text, out),
            }
        }
        Hint::Flags(names) => write_str(&flags_to_text(text.parse().ok()?, names), out),
        _ => return None,
    }
    Some(())
}

fn hinted_text(text: &str, hint: &Hint, out: &mut Vec<u8>) -> Option<()> {
    use base64::Engine as _;
    match hint {
        Hint::Bytes => write_bin(&base64::engine::general_purpose::STANDARD.decode(text).ok()?, out),
        Hint::Date => {
            let (mut timestamp, offset) = time::parse_date(text)?;
            timestamp.seconds -= i64::from(offset.unwrap_or(0)) * 60;
            timestamp.to_extension(out);
        }
        Hint::DateOffset => {
            let (timestamp, offset) = time::parse_date(text)?;
            out.push(0x92);
            timestamp.to_extension(out);
            write_int(offset.unwrap_or(0).into(), out);
        }
        Hint::Day => write_int(time::parse_day(text)?, out),
        Hint::Time => write_int(time::parse_time_of_day(text)?, out),
        Hint::TimeSpan => write_int(time::parse_span(text)?, out),
        Hint::Float => write_f64(named_float(text)?, out),
        Hint::Char => {
            let mut units = text.encode_utf16();
            let unit = units.next()?;
            if units.next().is_some() {
                return None;
            }
            write_uint(unit.into(), out);
        }
        // Hubs may write enumerations and decimals as text in JSON too.
        Hint::Enum(_) | Hint::Flags(_) | Hint::Decimal => write_str(text, out),
        _ => return None,
    }
    Some(())
}

fn named_float(text: &str) -> Option<f64> {
    match text {
        "NaN" => Some(f64::NAN),
        "Infinity" => Some(f64::INFINITY),
        "-Infinity" => Some(f64::NEG_INFINITY),
        _ => None,
    }
}

/// As .NET writes flags: the names whose bits are all set, greatest first taken away, in ascending order; the number
/// when bits are left over.
fn flags_to_text(number: i64, names: &[(String, i64)]) -> String {
    if let Some((name, _)) = names.iter().find(|(_, known)| *known == number) {
        return name.clone();
    }
    let mut sorted: Vec<&(String, i64)> = names.iter().filter(|(_, known)| *known != 0).collect();
    sorted.sort_by_key(|(_, known)| known.cast_unsigned());
    let (mut left, mut found) = (number, Vec::new());
    for (name, known) in sorted.into_iter().rev() {
        if left & known == *known {
            left &= !known;
            found.push(name.as_str());
        }
    }
    if left != 0 || found.is_empty() {
        return number.to_string();
    }
    found.reverse();
    found.join(", ")
}

/// A number without a hint: an integer if it is written as one and fits, else a 64-bit float.
fn number(text: &str, out: &mut Vec<u8>) -> Result<(), Error> {
    if text == "-0" {
        // Only floats have it, and ASP.NET Core writes theirs so.
        write_f64(-0.0, out);
        return Ok(());
    }
    if write_integer(text, out).is_some() {
        return Ok(());
    }
    let value: f64 = text.parse().map_err(|_| Error::Malformed)?;
    if !value.is_finite() {
        return Err(Error::NumberRange);
    }
    // Longer integers are floats only where that loses no digit, as with those that floats are written as.
    if !text.contains(['.', 'e', 'E']) && value.to_string() != text {
        return Err(Error::NumberRange);
    }
    write_f64(value, out);
    Ok(())
}

fn write_integer(text: &str, out: &mut Vec<u8>) -> Option<()> {
    if let Ok(value) = text.parse::<u64>() {
        write_uint(value, out);
    } else {
        write_int(text.parse().ok()?, out);
    }
    Some(())
}

/// A key in the form that numbers are written as keys: without zeros in front.
fn integer_key(name: &str, out: &mut Vec<u8>) -> Option<()> {
    let digits = name.strip_prefix('-').unwrap_or(name);
    let plain = digits == "0" || !digits.starts_with(['0', '+']);
    if plain { write_integer(name, out) } else { None }
}

fn overwrite(out: &mut [u8], at: usize, bytes: &[u8]) {
    if let Some(place) = out.get_mut(at..at + bytes.len()) {
        place.copy_from_slice(bytes);
    }
}

/// Puts `bytes` in the place of the one byte at `at`, and moves what stands behind it.
fn widen(out: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let (old, more) = (out.len(), bytes.len().saturating_sub(1));
    out.resize(old + more, 0);
    if at < old {
        out.copy_within(at + 1..old, at + 1 + more);
    }
    overwrite(out, at, bytes);
}

fn to_usize(count: u32) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

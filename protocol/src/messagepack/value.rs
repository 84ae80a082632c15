//! Single MessagePack values: the smallest encodings, and a cursor that reads and skips them.
//!
//! Lengths above `u32::MAX`, which the format cannot hold, are cut to it; no message may be that long.

use bytes::BufMut;

/// Appends nil.
pub fn write_nil<B: BufMut>(out: &mut B) {
    out.put_u8(0xC0);
}

/// Appends a boolean.
pub fn write_bool<B: BufMut>(value: bool, out: &mut B) {
    out.put_u8(if value { 0xC3 } else { 0xC2 });
}

/// Appends an integer in its smallest encoding.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "each arm holds only values that fit")]
pub fn write_int<B: BufMut>(value: i64, out: &mut B) {
    match value {
        0.. => write_uint(value.unsigned_abs(), out),
        -32..=-1 => out.put_i8(value as i8),
        -128..=-33 => {
            out.put_u8(0xD0);
            out.put_i8(value as i8);
        }
        -32_768..=-129 => {
            out.put_u8(0xD1);
            out.put_i16(value as i16);
        }
        -2_147_483_648..=-32_769 => {
            out.put_u8(0xD2);
            out.put_i32(value as i32);
        }
        _ => {
            out.put_u8(0xD3);
            out.put_i64(value);
        }
    }
}

/// Appends an unsigned integer in its smallest encoding.
#[allow(clippy::cast_possible_truncation, reason = "each arm holds only values that fit")]
pub fn write_uint<B: BufMut>(value: u64, out: &mut B) {
    match value {
        0..=0x7F => out.put_u8(value as u8),
        0x80..=0xFF => {
            out.put_u8(0xCC);
            out.put_u8(value as u8);
        }
        0x100..=0xFFFF => {
            out.put_u8(0xCD);
            out.put_u16(value as u16);
        }
        0x1_0000..=0xFFFF_FFFF => {
            out.put_u8(0xCE);
            out.put_u32(value as u32);
        }
        _ => {
            out.put_u8(0xCF);
            out.put_u64(value);
        }
    }
}

/// Appends a 64-bit float.
pub fn write_f64<B: BufMut>(value: f64, out: &mut B) {
    out.put_u8(0xCB);
    out.put_f64(value);
}

/// Appends a string.
pub fn write_str<B: BufMut>(text: &str, out: &mut B) {
    write_str_bytes(text.as_bytes(), out);
}

/// Appends a string that is known to be UTF-8.
pub(crate) fn write_str_bytes<B: BufMut>(text: &[u8], out: &mut B) {
    let len = declared(text.len());
    match len {
        0..=31 => out.put_u8(0xA0 | low_byte(len)),
        32..=0xFF => out.put_slice(&[0xD9, low_byte(len)]),
        _ => put_long(0xDA, len, out),
    }
    out.put_slice(text);
}

/// Appends binary data.
pub fn write_bin<B: BufMut>(data: &[u8], out: &mut B) {
    let len = declared(data.len());
    match len {
        0..=0xFF => out.put_slice(&[0xC4, low_byte(len)]),
        _ => put_long(0xC5, len, out),
    }
    out.put_slice(data);
}

/// Appends the head of an array of `len` elements.
pub fn write_array_len<B: BufMut>(len: usize, out: &mut B) {
    match declared(len) {
        len @ 0..=15 => out.put_u8(0x90 | low_byte(len)),
        len => put_long(0xDC, len, out),
    }
}

/// Appends the head of a map of `len` pairs.
pub fn write_map_len<B: BufMut>(len: usize, out: &mut B) {
    match declared(len) {
        len @ 0..=15 => out.put_u8(0x80 | low_byte(len)),
        len => put_long(0xDE, len, out),
    }
}

fn declared(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn low_byte(len: u32) -> u8 {
    u8::try_from(len & 0xFF).unwrap_or_default()
}

/// Appends the 16-bit form with `code`, or the 32-bit form with the code behind it.
fn put_long<B: BufMut>(code: u8, len: u32, out: &mut B) {
    match u16::try_from(len) {
        Ok(len) => {
            out.put_u8(code);
            out.put_u16(len);
        }
        Err(_) => {
            out.put_u8(code + 1);
            out.put_u32(len);
        }
    }
}

/// What the first bytes of a value announce.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Head {
    /// nil.
    Nil,
    /// A boolean.
    Bool(bool),
    /// An integer that is not negative.
    Uint(u64),
    /// A negative integer.
    Int(i64),
    /// A 32-bit float.
    F32(f32),
    /// A 64-bit float.
    F64(f64),
    /// A string of that many bytes, which follow.
    Str(u32),
    /// Binary data of that many bytes, which follow.
    Bin(u32),
    /// An extension of that type and that many bytes, which follow.
    Ext(i8, u32),
    /// An array of that many values, which follow.
    Array(u32),
    /// A map of that many pairs, which follow.
    Map(u32),
}

/// Walks over encoded values.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at the front of `input`.
    #[must_use]
    pub const fn new(input: &'a [u8]) -> Self {
        Self { input, at: 0 }
    }

    /// How many bytes were read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The first byte of the next value.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    /// Reads the head of the next value; `None` at the end of the input and for the unused code 0xC1.
    pub fn head(&mut self) -> Option<Head> {
        let mut next = self.clone();
        let head = next.read_head()?;
        *self = next;
        Some(head)
    }

    /// Reads the `len` bytes that a head announced.
    pub fn bytes(&mut self, len: u32) -> Option<&'a [u8]> {
        let end = self.at.checked_add(usize::try_from(len).ok()?)?;
        let bytes = self.input.get(self.at..end)?;
        self.at = end;
        Some(bytes)
    }

    /// Skips one value with all it holds. Needs neither recursion nor a stack: only how many values are still due.
    /// `None`, and no move, when the input ends before.
    pub fn skip(&mut self) -> Option<()> {
        let mut next = self.clone();
        let mut due = 1u64;
        while due > 0 {
            due -= 1;
            match next.read_head()? {
                Head::Str(len) | Head::Bin(len) | Head::Ext(_, len) => {
                    next.bytes(len)?;
                }
                Head::Array(len) => due += u64::from(len),
                Head::Map(len) => due += 2 * u64::from(len),
                _ => {}
            }
            // Each value due takes a byte at least: a lie about a length ends here, not after 2³² steps.
            if due > u64::try_from(next.input.len() - next.at).ok()? {
                return None;
            }
        }
        *self = next;
        Some(())
    }

    /// As [`Cursor::head`], but moves anywhere when there is none.
    #[inline(always)]
    pub(crate) fn read_head(&mut self) -> Option<Head> {
        let code = self.u8()?;
        Some(match code {
            0x00..=0x7F => Head::Uint(u64::from(code)),
            0x80..=0x8F => Head::Map(u32::from(code & 0x0F)),
            0x90..=0x9F => Head::Array(u32::from(code & 0x0F)),
            0xA0..=0xBF => Head::Str(u32::from(code & 0x1F)),
            0xC0 => Head::Nil,
            0xC1 => return None,
            0xC2 | 0xC3 => Head::Bool(code == 0xC3),
            0xC4 => Head::Bin(self.u8()?.into()),
            0xC5 => Head::Bin(self.u16()?.into()),
            0xC6 => Head::Bin(self.u32()?),
            0xC7..=0xC9 => {
                let len = match code {
                    0xC7 => self.u8()?.into(),
                    0xC8 => self.u16()?.into(),
                    _ => self.u32()?,
                };
                Head::Ext(i8::from_be_bytes([self.u8()?]), len)
            }
            0xCA => Head::F32(f32::from_be_bytes(self.array()?)),
            0xCB => Head::F64(f64::from_be_bytes(self.array()?)),
            0xCC => Head::Uint(self.u8()?.into()),
            0xCD => Head::Uint(self.u16()?.into()),
            0xCE => Head::Uint(self.u32()?.into()),
            0xCF => Head::Uint(u64::from_be_bytes(self.array()?)),
            0xD0 => signed(i8::from_be_bytes(self.array()?).into()),
            0xD1 => signed(i16::from_be_bytes(self.array()?).into()),
            0xD2 => signed(i32::from_be_bytes(self.array()?).into()),
            0xD3 => signed(i64::from_be_bytes(self.array()?)),
            0xD4..=0xD8 => Head::Ext(i8::from_be_bytes([self.u8()?]), 1 << (code - 0xD4)),
            0xD9 => Head::Str(self.u8()?.into()),
            0xDA => Head::Str(self.u16()?.into()),
            0xDB => Head::Str(self.u32()?),
            0xDC => Head::Array(self.u16()?.into()),
            0xDD => Head::Array(self.u32()?),
            0xDE => Head::Map(self.u16()?.into()),
            0xDF => Head::Map(self.u32()?),
            0xE0..=0xFF => Head::Int(i8::from_be_bytes([code]).into()),
        })
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let bytes = self.input.get(self.at..)?.first_chunk::<N>()?;
        self.at += N;
        Some(*bytes)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }
}

fn signed(value: i64) -> Head {
    u64::try_from(value).map_or(Head::Int(value), Head::Uint)
}

/// Name of a value's first byte in the format's specification, as the reference writes it in errors.
#[must_use]
pub const fn code_name(code: u8) -> &'static str {
    match code {
        0x00..=0x7F => "positive fixint",
        0x80..=0x8F => "fixmap",
        0x90..=0x9F => "fixarray",
        0xA0..=0xBF => "fixstr",
        0xC0 => "nil",
        0xC1 => "(never used)",
        0xC2 => "false",
        0xC3 => "true",
        0xC4 => "bin 8",
        0xC5 => "bin 16",
        0xC6 => "bin 32",
        0xC7 => "ext 8",
        0xC8 => "ext 16",
        0xC9 => "ext 32",
        0xCA => "float 32",
        0xCB => "float 64",
        0xCC => "uint 8",
        0xCD => "uint 16",
        0xCE => "uint 32",
        0xCF => "uint 64",
        0xD0 => "int 8",
        0xD1 => "int 16",
        0xD2 => "int 32",
        0xD3 => "int 64",
        0xD4 => "fixext 1",
        0xD5 => "fixext 2",
        0xD6 => "fixext 4",
        0xD7 => "fixext 8",
        0xD8 => "fixext 16",
        0xD9 => "str 8",
        0xDA => "str 16",
        0xDB => "str 32",
        0xDC => "array 16",
        0xDD => "array 32",
        0xDE => "map 16",
        0xDF => "map 32",
        0xE0..=0xFF => "negative fixint",
    }
}

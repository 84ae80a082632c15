//! Escaping of strings as the reference does it (signalr-wire §8.9).

use bytes::BufMut;

use super::plain::literal_len;

/// Appends `text` as a JSON string with its quotes, escaped as by the reference: short forms, upper-case hex, every
/// character above U+FFFF as two escapes, most others literally.
pub fn write_string<B: BufMut>(text: &str, out: &mut B) {
    out.put_u8(b'"');
    let mut rest = text;
    while let Some((plain, next, behind)) = split_at_escape(rest) {
        out.put_slice(plain.as_bytes());
        escape(next, out);
        rest = behind;
    }
    out.put_slice(rest.as_bytes());
    out.put_u8(b'"');
}

/// Appends `text`, which need not be UTF-8, as [`write_string`] does; what is no UTF-8 becomes U+FFFD.
pub(crate) fn write_lossy(text: &[u8], out: &mut Vec<u8>) {
    if literal_len(text) == text.len() {
        out.push(b'"');
        out.extend_from_slice(text);
        out.push(b'"');
        return;
    }
    write_string(&String::from_utf8_lossy(text), out);
}

/// Splits `text` before and behind its first character that must be escaped.
fn split_at_escape(text: &str) -> Option<(&str, char, &str)> {
    let at = first_candidate(text.as_bytes())?;
    let (mut from, tail) = (at, text.get(at..)?);
    for next in tail.chars() {
        let behind = from + next.len_utf8();
        if must_escape(next) {
            return Some((text.get(..from)?, next, text.get(behind..)?));
        }
        from = behind;
    }
    None
}

/// Position of the first byte that begins a character which may need an escape; always a character boundary.
fn first_candidate(bytes: &[u8]) -> Option<usize> {
    Some(literal_len(bytes)).filter(|len| *len < bytes.len())
}

fn must_escape(next: char) -> bool {
    match next {
        '"' | '\\' => true,
        '\0'..='\u{1F}' | '\u{7F}'..='\u{9F}' => true,
        ' '..='\u{7E}' => false,
        '\u{A0}' | '\u{1680}' | '\u{2000}'..='\u{200A}' | '\u{2028}' | '\u{2029}' => true,
        '\u{202F}' | '\u{205F}' | '\u{3000}' | '\u{FEFF}' => true,
        '\u{E000}'..='\u{F8FF}' | '\u{FDD0}'..='\u{FDEF}' | '\u{FFFE}' | '\u{FFFF}' => true,
        _ => next > '\u{FFFF}',
    }
}

fn escape<B: BufMut>(next: char, out: &mut B) {
    let short = match next {
        '\u{8}' => b'b',
        '\t' => b't',
        '\n' => b'n',
        '\u{C}' => b'f',
        '\r' => b'r',
        '"' => b'"',
        '\\' => b'\\',
        _ => {
            let mut units = [0u16; 2];
            for unit in next.encode_utf16(&mut units) {
                unicode_escape(*unit, out);
            }
            return;
        }
    };
    out.put_slice(&[b'\\', short]);
}

fn unicode_escape<B: BufMut>(unit: u16, out: &mut B) {
    out.put_slice(b"\\u");
    for shift in [12, 8, 4, 0] {
        let digit = u8::try_from((unit >> shift) & 0xF).unwrap_or_default();
        out.put_u8(if digit < 10 { b'0' + digit } else { b'A' + digit - 10 });
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;

    fn escaped(text: &str) -> String {
        let mut out = BytesMut::new();
        write_string(text, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn escapes_as_the_reference_does() {
        for (text, expected) in [
            ("a/'<>&+=`", r#""a/'<>&+=`""#),
            ("\u{8}\t\n\u{C}\r\"\\", r#""\b\t\n\f\r\"\\""#),
            ("\u{B}\u{1E}\u{7F}\u{85}", "\"\\u000B\\u001E\\u007F\\u0085\""),
            ("äמ\u{200B}\u{202E}", "\"äמ\u{200B}\u{202E}\""),
            ("\u{A0}\u{2028}\u{3000}\u{FEFF}\u{E000}", "\"\\u00A0\\u2028\\u3000\\uFEFF\\uE000\""),
            ("x😀y", "\"x\\uD83D\\uDE00y\""),
            ("0123456789abcdef0123456789abcde\"0123456789", r#""0123456789abcdef0123456789abcde\"0123456789""#),
            ("0123456789abcdef\"", r#""0123456789abcdef\"""#),
        ] {
            assert_eq!(escaped(text), expected);
        }
    }
}

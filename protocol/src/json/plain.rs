//! Finds the bytes of strings that need care, several at once.
//!
//! Most strings are short: words of eight bytes tell exactly where the first such byte stands. Behind the first two words
//! wider blocks are compared, so that long strings pass at several bytes a cycle.

const WORD: usize = 8;
const HALF: usize = WORD / 2;
const BLOCK: usize = 32;
const ONES: u64 = u64::from_ne_bytes([0x01; WORD]);
const HIGH: u64 = u64::from_ne_bytes([0x80; WORD]);
const UPPER_LETTERS: u64 = (ONES * b'a' as u64) << (8 * HALF);

/// How many bytes at the front are neither quote nor backslash nor control character.
pub(super) fn unquoted_len(bytes: &[u8]) -> usize {
    let in_word = |word: u64| below(word, 0x20) | equal(word, b'"') | equal(word, b'\\');
    let is = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\');
    len(bytes, in_word, is)
}

/// How many bytes at the front are ASCII letters that a JSON string may hold as they are.
pub(super) fn literal_len(bytes: &[u8]) -> usize {
    let in_word =
        |word: u64| (word & HIGH) | below(word, 0x20) | equal(word, b'"') | equal(word, b'\\') | equal(word, 0x7F);
    let is = |byte: u8| (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (byte >= 0x7F);
    len(bytes, in_word, is)
}

/// `in_word` sets the highest bit of the first such byte of a little-endian word, and none before it.
#[inline]
fn len(bytes: &[u8], in_word: impl Fn(u64) -> u64, is: impl Fn(u8) -> bool) -> usize {
    let mut rest = bytes;
    let mut len = 0;
    while let Some((word, behind)) = rest.split_first_chunk::<WORD>() {
        let found = in_word(u64::from_le_bytes(*word));
        if found != 0 {
            return len + usize::try_from(found.trailing_zeros() / 8).unwrap_or(0);
        }
        len += WORD;
        rest = behind;
        if len % (2 * WORD) == 0 {
            while let Some((block, behind)) = rest.split_first_chunk::<BLOCK>() {
                if block.iter().fold(false, |found, &byte| found | is(byte)) {
                    break;
                }
                len += BLOCK;
                rest = behind;
            }
        }
    }
    if let Some((half, behind)) = rest.split_first_chunk::<HALF>() {
        // The upper half is filled with letters.
        let found = in_word(u64::from(u32::from_le_bytes(*half)) | UPPER_LETTERS);
        if found != 0 {
            return len + usize::try_from(found.trailing_zeros() / 8).unwrap_or(0);
        }
        len += HALF;
        rest = behind;
    }
    len + rest.iter().position(|&byte| is(byte)).unwrap_or(rest.len())
}

/// Marks bytes below `limit`, which is at most 0x80; exact up to the first one.
const fn below(word: u64, limit: u8) -> u64 {
    word.wrapping_sub(ONES * limit as u64) & !word & HIGH
}

/// Marks bytes that are `byte`; exact up to the first one.
const fn equal(word: u64, byte: u8) -> u64 {
    below(word ^ (ONES * byte as u64), 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_judged_at_every_place() {
        // Words, blocks, half a word and single bytes.
        const LEN: usize = 103;
        for byte in 0..=u8::MAX {
            for at in 0..LEN {
                let mut text = [b'a'; LEN];
                text[at] = byte;
                if at + 1 < LEN {
                    // What stands behind does not matter.
                    text[at + 1] = 0;
                }
                let quoted = byte < 0x20 || byte == b'"' || byte == b'\\';
                let end = if at + 1 < LEN { at + 1 } else { LEN };
                assert_eq!(unquoted_len(&text), if quoted { at } else { end }, "{byte} at {at}");
                let special = quoted || byte >= 0x7F;
                assert_eq!(literal_len(&text), if special { at } else { end }, "{byte} at {at}");
            }
        }
    }
}

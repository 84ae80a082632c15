//! WebSocket frames as the load client and the bare hub need them, written here so that neither shares a line with the
//! gateway that they measure. Invariant: no frame over [`PAYLOAD_BYTES_MAX`] is ever waited for.

/// Opcode of a continuation frame.
pub(crate) const CONTINUATION: u8 = 0;
/// Opcode of a text frame.
pub(crate) const TEXT: u8 = 1;
/// Opcode of a binary frame.
pub(crate) const BINARY: u8 = 2;
/// Opcode of a close frame.
pub(crate) const CLOSE: u8 = 8;
/// Opcode of a ping frame.
pub(crate) const PING: u8 = 9;
/// Opcode of a pong frame.
pub(crate) const PONG: u8 = 10;

/// Largest payload, in bytes, that either side of a benchmark accepts.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 1 << 20;

/// What the first bytes of a frame say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// The frame's opcode, one of this module's constants unless the peer errs.
    pub(crate) opcode: u8,
    /// The masking key; a client's frames have one, a server's have none.
    pub(crate) mask: Option<[u8; 4]>,
    /// Bytes before the payload.
    pub(crate) header_bytes: usize,
    /// Bytes of payload.
    pub(crate) payload_bytes: usize,
}

/// A frame announced more than [`PAYLOAD_BYTES_MAX`] bytes.
#[derive(Debug, thiserror::Error)]
#[error("a frame of {0} bytes is over the limit of {PAYLOAD_BYTES_MAX}")]
pub(crate) struct FrameTooLong(u64);

/// Reads a frame header from the start of `bytes`; none while it is incomplete.
pub(crate) fn frame_header(bytes: &[u8]) -> Result<Option<FrameHeader>, FrameTooLong> {
    let Some(&[first, second]) = bytes.first_chunk() else { return Ok(None) };
    let rest = bytes.get(2..).unwrap_or_default();
    let (announced, length_bytes) = match second & 0x7f {
        126 => match rest.first_chunk() {
            Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
            None => return Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(length) => (u64::from_be_bytes(*length), 8),
            None => return Ok(None),
        },
        short => (u64::from(short), 0),
    };
    let payload_bytes = usize::try_from(announced).unwrap_or(usize::MAX);
    if payload_bytes > PAYLOAD_BYTES_MAX {
        return Err(FrameTooLong(announced));
    }
    let mut header_bytes = 2 + length_bytes;
    let mut mask = None;
    if second & 0x80 != 0 {
        let Some(key) = rest.get(length_bytes..).and_then(|rest| rest.first_chunk()) else { return Ok(None) };
        mask = Some(*key);
        header_bytes += 4;
    }
    Ok(Some(FrameHeader { opcode: first & 0x0f, mask, header_bytes, payload_bytes }))
}

/// Appends a final frame to `out`, masked when a key is given.
pub(crate) fn put_frame(out: &mut Vec<u8>, opcode: u8, mask: Option<[u8; 4]>, payload: &[u8]) {
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | opcode);
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(short), _) if short < 126 => out.push(mask_bit | short),
        (_, Ok(medium)) => {
            out.push(mask_bit | 126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(mask_bit | 127);
            out.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    if let Some(key) = mask {
        out.extend_from_slice(&key);
    }
    let start = out.len();
    out.extend_from_slice(payload);
    if let (Some(key), Some(copied)) = (mask, out.get_mut(start..)) {
        apply_mask(copied, key);
    }
}

/// Masks or unmasks a whole payload in place (RFC 6455 §5.3).
pub(crate) fn apply_mask(payload: &mut [u8], key: [u8; 4]) {
    let [a, b, c, d] = key;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let mut words = payload.chunks_exact_mut(8);
    for word in &mut words {
        if let Ok(bytes) = <[u8; 8]>::try_from(&*word) {
            word.copy_from_slice(&(u64::from_ne_bytes(bytes) ^ wide).to_ne_bytes());
        }
    }
    for (byte, key_byte) in words.into_remainder().iter_mut().zip(key.iter().cycle()) {
        *byte ^= key_byte;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_of_every_length_class_reads_back() {
        for length in [0, 1, 7, 125, 126, 65_535, 65_536, PAYLOAD_BYTES_MAX] {
            let payload: Vec<u8> = (0..length).map(|i| (i % 251) as u8).collect();
            for mask in [None, Some([1, 2, 3, 0x80])] {
                let mut bytes = Vec::new();
                put_frame(&mut bytes, TEXT, mask, &payload);
                let header = frame_header(&bytes).unwrap().unwrap();
                assert_eq!((header.opcode, header.payload_bytes, header.mask), (TEXT, length, mask));
                let mut read = bytes[header.header_bytes..].to_vec();
                if let Some(key) = mask {
                    assert!(length == 0 || read != payload, "masked bytes differ from the payload");
                    apply_mask(&mut read, key);
                }
                assert_eq!(read, payload);
                for cut in 0..header.header_bytes {
                    assert_eq!(frame_header(&bytes[..cut]).unwrap(), None);
                }
            }
        }
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_at_its_header() {
        let mut bytes = vec![0x81, 127];
        bytes.extend_from_slice(&(PAYLOAD_BYTES_MAX as u64 + 1).to_be_bytes());
        assert!(frame_header(&bytes).is_err());
    }
}

//! Server-Sent Events as SignalR uses them: one event carries whole hub messages (signalr-wire §5.2).
//!
//! [`write_event`] frames a payload as ASP.NET Core does; [`EventReader`] reads a stream that comes in any pieces.

use bytes::{Bytes, BytesMut};
use memchr::memchr;

/// The first bytes of a stream, flushed before any data: a comment that makes browsers fire `open`.
pub const PREAMBLE: &[u8] = b":\r\n";

/// Appends one event. A payload with line feeds becomes one `data:` line for each; a `\r` right before a line feed is
/// dropped unless the line holds nothing else.
pub fn write_event(out: &mut BytesMut, payload: &[u8]) {
    let mut rest = payload;
    while let Some(at) = memchr(b'\n', rest) {
        let (line, tail) = rest.split_at(at);
        let line = match line {
            [head @ .., b'\r'] if !head.is_empty() => head,
            other => other,
        };
        write_line(out, line);
        rest = tail.get(1..).unwrap_or_default();
        if rest.is_empty() {
            write_line(out, rest);
        }
    }
    if !rest.is_empty() {
        write_line(out, rest);
    }
    out.extend_from_slice(b"\r\n");
}

fn write_line(out: &mut BytesMut, line: &[u8]) {
    out.extend_from_slice(b"data: ");
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

/// An event over the reader's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {0} bytes")]
pub struct EventTooLong(pub usize);

/// Reads events from a stream that comes in any pieces: `\r\n`, `\n` or `\r` end a line; comments, `id`, `retry` and
/// unknown fields are passed over; an `event:` other than `message` hides its event, as in JavaScript.
#[derive(Debug)]
pub struct EventReader {
    line: BytesMut,
    data: BytesMut,
    has_data: bool,
    hidden: bool,
    after_cr: bool,
    event_bytes_max: usize,
}

impl EventReader {
    /// A reader that refuses events over `event_bytes_max` bytes.
    pub fn new(event_bytes_max: usize) -> Self {
        Self {
            line: BytesMut::new(),
            data: BytesMut::new(),
            has_data: false,
            hidden: false,
            after_cr: false,
            event_bytes_max,
        }
    }

    /// Takes in the next piece and appends the data of each finished event to `events`.
    ///
    /// # Errors
    /// [`EventTooLong`]; the stream cannot be read any further.
    pub fn feed(&mut self, piece: &[u8], events: &mut Vec<Bytes>) -> Result<(), EventTooLong> {
        let mut rest = piece;
        while !rest.is_empty() {
            if std::mem::take(&mut self.after_cr) && rest.first() == Some(&b'\n') {
                rest = rest.get(1..).unwrap_or_default();
                continue;
            }
            let Some(at) = memchr::memchr2(b'\r', b'\n', rest) else {
                self.line.extend_from_slice(rest);
                self.check()?;
                return Ok(());
            };
            let (line, tail) = rest.split_at(at);
            self.line.extend_from_slice(line);
            self.check()?;
            self.after_cr = tail.first() == Some(&b'\r');
            rest = tail.get(1..).unwrap_or_default();
            self.end_line(events);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), EventTooLong> {
        if self.line.len() + self.data.len() > self.event_bytes_max + 64 {
            return Err(EventTooLong(self.event_bytes_max));
        }
        Ok(())
    }

    fn end_line(&mut self, events: &mut Vec<Bytes>) {
        let line = self.line.split();
        if line.is_empty() {
            let data = self.data.split().freeze();
            if std::mem::take(&mut self.has_data) && !std::mem::take(&mut self.hidden) {
                events.push(data);
            }
            self.hidden = false;
            return;
        }
        let (field, value) = match memchr(b':', &line) {
            Some(at) => {
                let value = line.get(at + 1..).unwrap_or_default();
                (line.get(..at).unwrap_or_default(), value.strip_prefix(b" ").unwrap_or(value))
            }
            None => (&line[..], &[][..]),
        };
        match field {
            b"data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.extend_from_slice(b"\n");
                }
                self.data.extend_from_slice(value);
            }
            b"event" => self.hidden = value != b"message" && !value.is_empty(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn event(payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        write_event(&mut out, payload);
        out.to_vec()
    }

    #[test]
    fn events_are_framed_as_the_reference_does() {
        for (payload, wire) in [
            (&b"Hello"[..], &b"data: Hello\r\n\r\n"[..]),
            (b"", b"\r\n"),
            (b"Hello\nWorld", b"data: Hello\r\ndata: World\r\n\r\n"),
            (b"Hello\r\nWorld", b"data: Hello\r\ndata: World\r\n\r\n"),
            (b"Hello\n", b"data: Hello\r\ndata: \r\n\r\n"),
            (b"\r\n", b"data: \r\r\ndata: \r\n\r\n"),
            (b"Hello\rWorld", b"data: Hello\rWorld\r\n\r\n"),
        ] {
            assert_eq!(event(payload), wire, "{:?}", String::from_utf8_lossy(payload));
        }
    }

    fn read(wire: &[u8], step: usize) -> Vec<Bytes> {
        let (mut reader, mut events) = (EventReader::new(1 << 16), Vec::new());
        for piece in wire.chunks(step) {
            reader.feed(piece, &mut events).unwrap();
        }
        events
    }

    #[test]
    fn a_reader_takes_all_line_ends_comments_and_fields() {
        let wire =
            b":\r\nid: 3\rretry: 1\ndata:a\ndata: b\n\nevent: other\ndata: hidden\n\nevent: message\r\ndata: c\r\n\r\n";
        for step in [1, 2, 3, 1000] {
            assert_eq!(read(wire, step), [&b"a\nb"[..], b"c"], "pieces of {step}");
        }
    }

    #[test]
    fn an_endless_event_is_refused() {
        let (mut reader, mut events) = (EventReader::new(100), Vec::new());
        let mut fed = 0;
        while reader.feed(b"data: xxxxxxxxxx\n", &mut events).is_ok() {
            fed += 17;
            assert!(fed < 1000, "never refused");
        }
        assert!(events.is_empty());
    }

    proptest! {
        #[test]
        fn what_is_written_reads_the_same_in_every_split(payloads in prop::collection::vec("[a-z\u{1e}{}\":é ]{1,40}", 1..6), step in 1_usize..50) {
            let mut wire = PREAMBLE.to_vec();
            for payload in &payloads {
                wire.extend(event(payload.as_bytes()));
            }
            let got: Vec<_> = read(&wire, step);
            prop_assert_eq!(got, payloads.iter().map(|p| Bytes::from(p.clone())).collect::<Vec<_>>());
        }
    }
}

//! A Server-Sent Events stream as raw chunks, bytes and events.

use std::time::Duration;

use super::http::{Answer, Connection, Head, Request};
use super::{End, Error, show, within};

/// Answer to the request for an event stream.
#[derive(Debug)]
pub enum Subscription {
    /// 200 with `text/event-stream`.
    Open(Box<EventStream>),
    /// Anything else.
    Refused(Box<Answer>),
}

/// What came next on an event stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventItem {
    /// The bytes of one event or comment, the blank line that ends it included; a comment is one line.
    Event(Vec<u8>),
    /// The end of the stream.
    End(End),
}

/// An open event stream.
#[derive(Debug)]
pub struct EventStream {
    connection: Connection,
    /// Status line and headers of the answer.
    pub head: Head,
    /// Sizes of all chunks that have come.
    pub chunk_sizes: Vec<usize>,
    chunked: bool,
    bytes: Vec<u8>,
    end: Option<End>,
}

impl EventStream {
    /// Sends the request and reads the head of the answer.
    ///
    /// # Errors
    /// Those of the connection.
    pub async fn open(mut connection: Connection, request: &Request) -> Result<Subscription, Error> {
        connection.send(request).await?;
        let head = connection.head().await?;
        let is_stream = head.header("content-type").is_some_and(|kind| kind.starts_with("text/event-stream"));
        if head.status == 200 && is_stream {
            let chunked = head.header("transfer-encoding").is_some();
            let (chunk_sizes, bytes) = (Vec::new(), Vec::new());
            return Ok(Subscription::Open(Box::new(Self { connection, head, chunk_sizes, chunked, bytes, end: None })));
        }
        let (body, framing) = connection.body(&head, &request.method).await?;
        Ok(Subscription::Refused(Box::new(Answer { head, body, framing, interim: Vec::new() })))
    }

    /// Waits for the next event, comment or the end.
    ///
    /// # Errors
    /// [`Error::Late`] when nothing comes within `limit`.
    pub async fn next(&mut self, limit: Duration) -> Result<EventItem, Error> {
        within(limit, async {
            loop {
                if let Some(event) = self.take() {
                    return Ok(EventItem::Event(event));
                }
                if let Some(end) = self.end {
                    return Ok(EventItem::End(end));
                }
                self.read().await?;
            }
        })
        .await
    }

    /// Waits until `bytes` bytes of the body have come and are not yet taken, and takes them.
    ///
    /// # Errors
    /// [`Error::Late`] when they do not come within `limit`, [`Error::Ended`] when the stream ends before.
    pub async fn bytes(&mut self, count: usize, limit: Duration) -> Result<Vec<u8>, Error> {
        within(limit, async {
            while self.bytes.len() < count {
                if let Some(end) = self.end {
                    return Err(Error::Ended { end, received: show(&self.bytes) });
                }
                self.read().await?;
            }
            Ok(self.bytes.drain(..count).collect())
        })
        .await
    }

    /// The TCP connection below, for what is sent or done to it; after the last chunk it takes new requests.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Resets the TCP connection.
    pub fn reset(self) {
        self.connection.reset();
    }

    async fn read(&mut self) -> Result<(), Error> {
        let chunk = if self.chunked {
            self.connection.chunk().await
        } else if self.connection.buffer().is_empty() {
            self.connection.fill().await.map(|()| Some(self.connection.buffer().split().to_vec()))
        } else {
            Ok(Some(self.connection.buffer().split().to_vec()))
        };
        match chunk {
            Ok(Some(chunk)) => {
                self.chunk_sizes.push(chunk.len());
                self.bytes.extend_from_slice(&chunk);
            }
            Ok(None) => self.end = Some(End::LastChunk),
            Err(Error::Ended { end, .. }) => self.end = Some(end),
            Err(other) => return Err(other),
        }
        Ok(())
    }

    /// Takes a comment line or everything up to and with a blank line.
    fn take(&mut self) -> Option<Vec<u8>> {
        let end = if self.bytes.first() == Some(&b':') {
            position(&self.bytes, b"\n")? + 1
        } else if self.bytes.starts_with(b"\r\n") {
            2
        } else {
            position(&self.bytes, b"\r\n\r\n")? + 4
        };
        Some(self.bytes.drain(..end).collect())
    }
}

/// Joins the `data:` lines of an event by line feeds, as an event source does.
#[must_use]
pub fn data_of(event: &[u8]) -> Vec<u8> {
    let mut data: Vec<u8> = Vec::new();
    let mut first = true;
    for line in event.split(|&byte| byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if let Some(value) = line.strip_prefix(b"data:") {
            if !first {
                data.push(b'\n');
            }
            first = false;
            data.extend_from_slice(value.strip_prefix(b" ").unwrap_or(value));
        }
    }
    data
}

fn position(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_lines_are_joined() {
        assert_eq!(b"a\nb".to_vec(), data_of(b"data: a\r\ndata: b\r\n\r\n"));
        assert_eq!(b"\n".to_vec(), data_of(b"data: \r\ndata: \r\n\r\n"));
        assert_eq!(b" x".to_vec(), data_of(b"data:  x\r\n\r\n"));
    }
}

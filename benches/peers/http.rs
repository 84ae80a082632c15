//! Just enough HTTP/1.1 to negotiate and to upgrade: heads are read whole, bodies by `Content-Length` or in chunks.
//! Invariant: no more than [`HEAD_BYTES_MAX`] of head and [`BODY_BYTES_MAX`] of body are ever held.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

const HEAD_BYTES_MAX: usize = 16 * 1024;
const BODY_BYTES_MAX: usize = 64 * 1024;

/// Why an HTTP message could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the connection ended inside an HTTP message")]
    Ended,
    #[error("an HTTP message is over the limit")]
    TooLong,
    #[error("an HTTP message cannot be read")]
    Malformed,
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// The head of a request or an answer.
#[derive(Debug)]
pub(crate) struct Head {
    /// The first line without its end.
    pub(crate) start: String,
    fields: Vec<(String, String)>,
}

impl Head {
    /// The value of the first field of that name, which is given in lower case.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the comma-separated field names the token, in any case.
    pub(crate) fn has_token(&self, name: &str, token: &str) -> bool {
        self.field(name).is_some_and(|value| value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token)))
    }

    /// The status code of an answer; none when this is no answer.
    pub(crate) fn status(&self) -> Option<u16> {
        self.start.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.split("\r\n");
        let start = lines.next()?.to_owned();
        let fields = lines
            .map(|line| line.split_once(':').map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())))
            .collect::<Option<_>>()?;
        Some(Self { start, fields })
    }
}

/// Reads one head; none when the connection ended before its first byte. What follows the head stays in `inbox`.
pub(crate) async fn read_head(
    stream: &mut (impl AsyncRead + Unpin),
    inbox: &mut BytesMut,
) -> Result<Option<Head>, Error> {
    loop {
        if let Some(end) = inbox.windows(4).position(|window| window == b"\r\n\r\n") {
            let bytes = inbox.split_to(end);
            inbox.advance(4);
            let text = std::str::from_utf8(&bytes).map_err(|_| Error::Malformed)?;
            return Head::parse(text).map(Some).ok_or(Error::Malformed);
        }
        if inbox.len() > HEAD_BYTES_MAX {
            return Err(Error::TooLong);
        }
        inbox.reserve(2048);
        if stream.read_buf(inbox).await? == 0 {
            return if inbox.is_empty() { Ok(None) } else { Err(Error::Ended) };
        }
    }
}

/// Reads the body that belongs to `head`.
pub(crate) async fn read_body(
    head: &Head,
    stream: &mut (impl AsyncRead + Unpin),
    inbox: &mut BytesMut,
) -> Result<Vec<u8>, Error> {
    if head.has_token("transfer-encoding", "chunked") {
        return read_chunks(stream, inbox).await;
    }
    let length = match head.field("content-length") {
        Some(text) => text.parse().map_err(|_| Error::Malformed)?,
        None => 0,
    };
    take(length, stream, inbox).await
}

async fn read_chunks(stream: &mut (impl AsyncRead + Unpin), inbox: &mut BytesMut) -> Result<Vec<u8>, Error> {
    let mut body = Vec::new();
    loop {
        let line_bytes = loop {
            match inbox.windows(2).position(|window| window == b"\r\n") {
                Some(end) => break end,
                None => fill(stream, inbox).await?,
            }
        };
        let line = inbox.split_to(line_bytes);
        inbox.advance(2);
        let size = std::str::from_utf8(&line).ok().and_then(|text| usize::from_str_radix(text.trim(), 16).ok());
        let size = size.ok_or(Error::Malformed)?;
        let chunk = take(size, stream, inbox).await?;
        take(2, stream, inbox).await?;
        if chunk.is_empty() {
            return Ok(body);
        }
        body.extend_from_slice(&chunk);
        if body.len() > BODY_BYTES_MAX {
            return Err(Error::TooLong);
        }
    }
}

async fn take(length: usize, stream: &mut (impl AsyncRead + Unpin), inbox: &mut BytesMut) -> Result<Vec<u8>, Error> {
    if length > BODY_BYTES_MAX {
        return Err(Error::TooLong);
    }
    while inbox.len() < length {
        fill(stream, inbox).await?;
    }
    Ok(inbox.split_to(length).to_vec())
}

async fn fill(stream: &mut (impl AsyncRead + Unpin), inbox: &mut BytesMut) -> Result<(), Error> {
    if inbox.len() > BODY_BYTES_MAX {
        return Err(Error::TooLong);
    }
    inbox.reserve(2048);
    if stream.read_buf(inbox).await? == 0 { Err(Error::Ended) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_without_regard_to_case() {
        let head =
            Head::parse("HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade").unwrap();
        assert_eq!(head.status(), Some(101));
        assert_eq!(head.field("upgrade"), Some("websocket"));
        assert!(head.has_token("connection", "upgrade"));
        assert!(!head.has_token("connection", "close"));
    }

    #[test]
    fn a_field_without_a_colon_is_malformed() {
        assert!(Head::parse("HTTP/1.1 200 OK\r\nnonsense").is_none());
    }
}

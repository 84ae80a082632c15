//! The wire as the cases see it: raw HTTP/1.1, WebSocket frames, event streams, HTTP/2 streams, hub messages.
//!
//! Everything here is written for looking closely, not for speed: an answer keeps its exact status, header
//! values, chunk sizes and how its TCP connection ended. Invariant: nothing in this module knows what a
//! server should say; that is the cases' part. It shares no code with the gateway, so that an error in one
//! cannot hide in the other.

pub mod events;
pub mod frame;
pub mod http;
pub mod http2;
pub mod hub;
pub mod web_socket;

use std::fmt;
use std::time::Duration;

/// How a byte stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The peer closed its side in order (TCP FIN).
    Fin,
    /// The peer reset the connection (TCP RST).
    Reset,
    /// The last chunk of a chunked body was read; the TCP connection itself goes on.
    LastChunk,
    /// An HTTP/2 stream ended with END_STREAM.
    EndStream,
    /// An HTTP/2 stream was reset with this error code.
    ResetStream(u32),
}

impl fmt::Display for End {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fin => out.write_str("FIN"),
            Self::Reset => out.write_str("RST"),
            Self::LastChunk => out.write_str("LAST CHUNK"),
            Self::EndStream => out.write_str("END_STREAM"),
            Self::ResetStream(code) => write!(out, "RST_STREAM {code}"),
        }
    }
}

/// What went wrong while talking to a server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No TCP connection could be made.
    #[error("connecting to {address}: {cause}")]
    Connect {
        /// Host and port.
        address: String,
        /// The operating system's word.
        cause: std::io::Error,
    },
    /// Nothing came in time.
    #[error("nothing came within {0:?}")]
    Late(Duration),
    /// The stream ended in the middle of something.
    #[error("the connection ended with {end} after {received:?}")]
    Ended {
        /// How it ended.
        end: End,
        /// The bytes that had come and belong to nothing complete.
        received: String,
    },
    /// What came is not what the protocol of this layer allows.
    #[error("malformed: {0}")]
    Malformed(String),
    /// A write failed.
    #[error("writing: {0}")]
    Write(std::io::Error),
    /// HTTP/2 failed below the level of streams.
    #[error("HTTP/2: {0}")]
    Http2(#[from] h2::Error),
}

/// Waits for `what` at most `limit`.
///
/// # Errors
/// [`Error::Late`] when the time is over, else what the future says.
pub async fn within<T>(limit: Duration, what: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    tokio::time::timeout(limit, what).await.unwrap_or(Err(Error::Late(limit)))
}

/// Shows bytes as text where they are text, else as hex; long ones cut in the middle.
#[must_use]
pub fn show(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 300;
    let (head, cut) = match bytes.get(..SHOWN_MAX) {
        Some(head) if bytes.len() > SHOWN_MAX => (head, format!("… ({} bytes)", bytes.len())),
        _ => (bytes, String::new()),
    };
    match std::str::from_utf8(head) {
        Ok(text) => format!("{}{cut}", text.replace('\u{1e}', "␞")),
        Err(_) => format!("hex:{}{cut}", hex(head)),
    }
}

/// Writes bytes as lower-case hex digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

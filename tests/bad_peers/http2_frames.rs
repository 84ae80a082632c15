//! HTTP/2 frames by hand: a client that keeps none of the rules it does not want to keep (RFC 9113, RFC 7541).

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::connect;

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ACK: u8 = 1;

pub const CANCEL: u32 = 8;
pub const ENHANCE_YOUR_CALM: u32 = 11;

/// `SETTINGS_INITIAL_WINDOW_SIZE`.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// One frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// A header field, never indexed, never compressed.
pub fn field(name: &str, value: &str) -> Vec<u8> {
    assert!(name.len() < 127 && value.len() < 127, "one byte of length");
    let mut bytes = vec![0, name.len() as u8];
    bytes.extend_from_slice(name.as_bytes());
    bytes.push(value.len() as u8);
    bytes.extend_from_slice(value.as_bytes());
    bytes
}

/// The header block of a GET.
pub fn get(path: &str) -> Vec<u8> {
    [field(":method", "GET"), field(":scheme", "http"), field(":authority", "hub"), field(":path", path)].concat()
}

/// The header block of a WebSocket's extended CONNECT.
pub fn connect_web_socket(path: &str) -> Vec<u8> {
    let pseudo = [field(":method", "CONNECT"), field(":protocol", "websocket"), field(":scheme", "http")].concat();
    let rest = [field(":authority", "hub"), field(":path", path), field("sec-websocket-version", "13")].concat();
    [pseudo, rest].concat()
}

/// A frame that came.
#[derive(Debug, Clone)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The error code of RST_STREAM and GOAWAY.
    pub fn error_code(&self) -> Option<u32> {
        let at = match self.kind {
            RST_STREAM => 0,
            GOAWAY => 4,
            _ => return None,
        };
        Some(u32::from_be_bytes(*self.payload[at..].first_chunk()?))
    }
}

/// A connection.
pub struct Connection {
    pub stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects, sends preface and settings.
    pub async fn open(address: SocketAddr, initial_window: u32) -> Self {
        let mut stream = connect(address, None).await;
        let mut settings = INITIAL_WINDOW_SIZE.to_be_bytes().to_vec();
        settings.extend_from_slice(&initial_window.to_be_bytes());
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend_from_slice(&frame(SETTINGS, 0, 0, &settings));
        stream.write_all(&bytes).await.expect("sent");
        Self { stream, buffer: Vec::new() }
    }

    /// Sends bytes; false when the other side has gone.
    pub async fn send(&mut self, bytes: &[u8]) -> bool {
        timeout(crate::PATIENCE, self.stream.write_all(bytes)).await.expect("is read").is_ok()
    }

    /// The next frame; settings and pings are acknowledged on the way. Nothing at the end of the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.take() {
                if frame.kind == SETTINGS || frame.kind == PING {
                    if frame.flags & ACK == 0 {
                        let payload: &[u8] = if frame.kind == PING { &frame.payload } else { &[] };
                        self.send(&self::frame(frame.kind, ACK, 0, payload)).await;
                    }
                    continue;
                }
                return Some(frame);
            }
            let read = timeout(crate::PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("in time");
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    fn take(&mut self) -> Option<Frame> {
        let head = self.buffer.first_chunk::<9>()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (kind, flags) = (head[3], head[4]);
        let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let payload = self.buffer.get(9..9 + length)?.to_vec();
        self.buffer.drain(..9 + length);
        Some(Frame { kind, flags, stream, payload })
    }

    /// Reads to the end of the stream: the code of its GOAWAY.
    pub async fn to_go_away(&mut self) -> Option<u32> {
        let mut code = None;
        while let Some(frame) = self.next().await {
            if frame.kind == GOAWAY {
                code = frame.error_code();
            }
        }
        code
    }
}

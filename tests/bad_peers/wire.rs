//! A client as crude as possible: bytes of HTTP/1.1 and of WebSocket frames, written and read by hand.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// Ends a message of JSON and the handshake.
pub const END: char = '\u{1e}';

/// The handshake of the JSON protocol.
pub fn handshake() -> String {
    format!(r#"{{"protocol":"json","version":1}}{END}"#)
}

/// Connects; `receive_buffer` makes a client that stops reading fill up early.
pub async fn connect(address: SocketAddr, receive_buffer: Option<u32>) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    if let Some(bytes) = receive_buffer {
        socket.set_recv_buffer_size(bytes).expect("a receive buffer");
    }
    let stream = timeout(crate::PATIENCE, socket.connect(address)).await.expect("in time").expect("connects");
    stream.set_nodelay(true).expect("no delay");
    stream
}

/// An answer's status and body.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// Reads one answer with a length or in chunks.
///
/// # Errors
/// The stream's.
pub async fn read_answer(stream: &mut (impl AsyncReadExt + Unpin)) -> io::Result<Answer> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(at) = find(&bytes, b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head[9..12].parse().map_err(io::Error::other)?;
    let lower = head.to_ascii_lowercase();
    if lower.contains("transfer-encoding: chunked") {
        while find(&bytes[end - 2..], b"\r\n0\r\n\r\n").is_none() {
            if stream.read_buf(&mut bytes).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        return Ok(Answer { status, body: unchunk(&bytes[end..]) });
    }
    let length = lower.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    while bytes.len() < end + length.unwrap_or(0) {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Answer { status, body: String::from_utf8_lossy(&bytes[end..]).into_owned() })
}

fn unchunk(mut bytes: &[u8]) -> String {
    let mut body = Vec::new();
    while let Some(at) = find(bytes, b"\r\n") {
        let length = usize::from_str_radix(std::str::from_utf8(&bytes[..at]).expect("hex"), 16).expect("hex");
        if length == 0 {
            break;
        }
        body.extend_from_slice(&bytes[at + 2..at + 2 + length]);
        bytes = &bytes[at + 4 + length..];
    }
    String::from_utf8_lossy(&body).into_owned()
}

/// Where `needle` begins.
pub fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Sends a request without a body on a new connection and reads its answer.
pub async fn request(address: SocketAddr, method: &str, target: &str) -> Answer {
    let mut stream = connect(address, None).await;
    let head = format!("{method} {target} HTTP/1.1\r\nHost: hub\r\nContent-Length: 0\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("sent");
    timeout(crate::PATIENCE, read_answer(&mut stream)).await.expect("in time").expect("an answer")
}

/// Negotiates: connection token and public id.
pub async fn negotiate(address: SocketAddr, hub: &str) -> (String, String) {
    let answer = request(address, "POST", &format!("{hub}/negotiate?negotiateVersion=1")).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    (json_text(&answer.body, "connectionToken"), json_text(&answer.body, "connectionId"))
}

/// A string property of a flat JSON text without escapes.
pub fn json_text(json: &str, name: &str) -> String {
    let start = json.find(&format!("\"{name}\":\"")).unwrap_or_else(|| panic!("{name} in {json}")) + name.len() + 4;
    json[start..].split('"').next().expect("a string").to_owned()
}

/// Waits until the other side closes or resets, whatever it says before: what it said.
pub async fn read_to_end(stream: &mut (impl AsyncReadExt + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = async { while let Ok(1..) = stream.read_buf(&mut bytes).await {} };
    timeout(crate::PATIENCE, reading).await.expect("the other side closes");
    bytes
}

/// A frame as a client sends it. The key is zero, so that payloads are seen as they are.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        medium @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// A WebSocket of our own.
pub struct WebSocket {
    pub stream: TcpStream,
    /// As every client does; one that does not is as good as gone.
    pub answers_pings: bool,
    buffer: Vec<u8>,
}

/// A frame from a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        (self.first == 0x88).then(|| self.payload.first_chunk::<2>().map_or(1005, |code| u16::from_be_bytes(*code)))
    }

    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }
}

impl WebSocket {
    /// Opens a WebSocket at a target.
    pub async fn open(address: SocketAddr, target: &str, receive_buffer: Option<u32>) -> Self {
        let mut stream = connect(address, receive_buffer).await;
        let head = format!(
            "GET {target} HTTP/1.1\r\nHost: hub\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        let mut buffer = Vec::new();
        let end = loop {
            if let Some(at) = find(&buffer, b"\r\n\r\n") {
                break at + 4;
            }
            let read =
                timeout(crate::PATIENCE, stream.read_buf(&mut buffer)).await.expect("in time").expect("an answer");
            assert_ne!(read, 0, "the connection ended before its 101");
        };
        assert!(buffer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&buffer));
        buffer.drain(..end);
        Self { stream, answers_pings: true, buffer }
    }

    /// Negotiates and connects to a hub.
    pub async fn hub(address: SocketAddr, hub: &str, receive_buffer: Option<u32>) -> (Self, String) {
        let (token, id) = negotiate(address, hub).await;
        (Self::open(address, &format!("{hub}?id={token}"), receive_buffer).await, id)
    }

    /// The same behind its handshake.
    pub async fn shaken_hub(address: SocketAddr, hub: &str, receive_buffer: Option<u32>) -> (Self, String) {
        let (mut socket, id) = Self::hub(address, hub, receive_buffer).await;
        socket.text(&handshake()).await;
        assert_eq!(socket.frame().await.text(), format!("{{}}{END}"));
        (socket, id)
    }

    /// Sends a text message.
    pub async fn text(&mut self, text: &str) {
        self.raw(&frame(0x81, text.as_bytes())).await;
    }

    /// Sends bytes as they are; the other side may have given up already.
    pub async fn raw(&mut self, bytes: &[u8]) {
        let _refused_already = timeout(crate::PATIENCE, self.stream.write_all(bytes)).await.expect("is read");
    }

    /// The next frame.
    pub async fn frame(&mut self) -> Frame {
        self.next().await.expect("a frame before the end")
    }

    /// The next frame that is neither Ping nor Pong, or nothing at the end of the stream.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            if let [first, length, rest @ ..] = self.buffer.as_slice() {
                let (length, skip) = match length & 0x7F {
                    126 => (rest.first_chunk::<2>().map(|raw| u64::from(u16::from_be_bytes(*raw))), 4),
                    127 => (rest.first_chunk::<8>().map(|raw| u64::from_be_bytes(*raw)), 10),
                    short => (Some(u64::from(short)), 2),
                };
                if let Some(length) = length
                    && self.buffer.len() >= skip + length as usize
                {
                    let frame = Frame { first: *first, payload: self.buffer[skip..skip + length as usize].to_vec() };
                    self.buffer.drain(..skip + length as usize);
                    if frame.first == 0x89 {
                        if self.answers_pings {
                            self.raw(&self::frame(0x8A, &frame.payload)).await;
                        }
                        continue;
                    }
                    if frame.first == 0x8A {
                        continue;
                    }
                    return Some(frame);
                }
            }
            let read = timeout(crate::PATIENCE, self.stream.read_buf(&mut self.buffer)).await.expect("in time");
            if !matches!(read, Ok(1..)) {
                return None;
            }
        }
    }

    /// All messages until a close frame, and its code; 1006 where the stream ends without one. Fragments count as
    /// their message.
    pub async fn to_close(&mut self) -> (String, u16) {
        let mut said = String::new();
        while let Some(frame) = self.next().await {
            if let Some(code) = frame.close_code() {
                return (said, code);
            }
            if frame.first & 0x08 == 0 {
                said.push_str(&frame.text());
            }
        }
        (said, 1006)
    }
}

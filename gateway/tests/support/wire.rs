//! HTTP/1.1 and WebSocket bytes over one connection, read and written by hand.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::soon;

/// A frame of a WebSocket, unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub payload: Vec<u8>,
}

impl Frame {
    pub const TEXT: u8 = 1;
    pub const BINARY: u8 = 2;
    pub const CLOSE: u8 = 8;
    pub const PING: u8 = 9;
    pub const PONG: u8 = 10;

    pub fn new(opcode: u8, payload: impl AsRef<[u8]>) -> Self {
        Self { fin: true, opcode, payload: payload.as_ref().to_vec() }
    }

    pub fn text(payload: impl AsRef<[u8]>) -> Self {
        Self::new(Self::TEXT, payload)
    }

    pub fn close(code: u16) -> Self {
        Self::new(Self::CLOSE, code.to_be_bytes())
    }

    /// The code of a close frame.
    pub fn close_code(&self) -> Option<u16> {
        let code = self.payload.get(..2).filter(|_| self.opcode == Self::CLOSE)?;
        Some(u16::from_be_bytes([code[0], code[1]]))
    }

    pub fn as_text(&self) -> &str {
        std::str::from_utf8(&self.payload).unwrap()
    }

    /// The bytes on the wire; `mask` as clients do.
    pub fn bytes(&self, mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.fin) << 7 | self.opcode];
        let masked = u8::from(mask.is_some()) << 7;
        match self.payload.len() {
            len @ 0..126 => bytes.push(masked | len as u8),
            len @ 126..65_536 => {
                bytes.push(masked | 126);
                bytes.extend((len as u16).to_be_bytes());
            }
            len => {
                bytes.push(masked | 127);
                bytes.extend((len as u64).to_be_bytes());
            }
        }
        let key = mask.unwrap_or_default();
        bytes.extend(mask.into_iter().flatten());
        bytes.extend(self.payload.iter().enumerate().map(|(at, byte)| byte ^ key[at % 4]));
        bytes
    }
}

/// An answer to a request.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    pub status: u16,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    fn chunked(&self) -> bool {
        self.header("transfer-encoding").is_some_and(|value| value.contains("chunked"))
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Orderly,
    Reset,
}

#[derive(Debug)]
enum Io {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One connection, as client or server.
#[derive(Debug)]
pub struct Wire {
    io: Io,
    buffer: Vec<u8>,
    mask: Option<[u8; 4]>,
}

impl Wire {
    /// Connects as a client.
    pub async fn connect(address: SocketAddr) -> Self {
        let tcp = soon("a connect", TcpStream::connect(address)).await.unwrap();
        Self { io: Io::Tcp(tcp), buffer: Vec::new(), mask: Some([7, 77, 177, 5]) }
    }

    /// Takes over a client's TLS stream.
    pub fn tls(stream: TlsStream<TcpStream>) -> Self {
        Self { io: Io::Tls(Box::new(stream)), buffer: Vec::new(), mask: Some([7, 77, 177, 5]) }
    }

    /// Takes over an accepted connection.
    pub fn accepted(tcp: TcpStream) -> Self {
        Self { io: Io::Tcp(tcp), buffer: Vec::new(), mask: None }
    }

    /// The bare socket, where there is no TLS.
    pub fn tcp(&self) -> &TcpStream {
        match &self.io {
            Io::Tcp(tcp) => tcp,
            Io::Tls(tls) => tls.get_ref().0,
        }
    }

    pub async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        match &mut self.io {
            Io::Tcp(tcp) => tcp.write_all(bytes.as_ref()).await,
            Io::Tls(tls) => tls.write_all(bytes.as_ref()).await,
        }
    }

    pub async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        soon("a write", self.try_send(bytes)).await.unwrap();
    }

    /// Reads more; how the connection ended if it has.
    async fn more(&mut self) -> Option<Ended> {
        let read = match &mut self.io {
            Io::Tcp(tcp) => tcp.read_buf(&mut self.buffer).await,
            Io::Tls(tls) => tls.read_buf(&mut self.buffer).await,
        };
        match read {
            Ok(0) => Some(Ended::Orderly),
            Ok(_) => None,
            Err(_) => Some(Ended::Reset),
        }
    }

    async fn fill(&mut self, len: usize) -> bool {
        while self.buffer.len() < len {
            if self.more().await.is_some() {
                return false;
            }
        }
        true
    }

    pub async fn bytes(&mut self, len: usize) -> Vec<u8> {
        let whole = soon("bytes", self.fill(len)).await;
        assert!(whole, "the connection ended within {len} bytes: {:?}", String::from_utf8_lossy(&self.buffer));
        self.buffer.drain(..len).collect()
    }

    /// Bytes up to and with a delimiter; `None` at the end of the connection.
    async fn take_through(&mut self, delimiter: &[u8]) -> Option<Vec<u8>> {
        loop {
            let found = self.buffer.windows(delimiter.len()).position(|window| window == delimiter);
            if let Some(at) = found {
                return Some(self.buffer.drain(..at + delimiter.len()).collect());
            }
            if self.more().await.is_some() {
                return None;
            }
        }
    }

    /// The head of a request or answer with its empty line; `None` when the connection ends before it.
    pub async fn head(&mut self) -> Option<String> {
        let head = self.take_through(b"\r\n\r\n").await?;
        Some(String::from_utf8(head).unwrap())
    }

    /// The head of an answer; its body is left where it is.
    pub async fn answer_head(&mut self) -> Answer {
        let head = soon("an answer", self.head()).await.unwrap_or_else(|| panic!("no answer: {:?}", self.buffer));
        let (status, headers) = parse_head(&head);
        let status = status.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, headers, body: Vec::new() }
    }

    /// A whole answer.
    pub async fn answer(&mut self) -> Answer {
        let mut answer = self.answer_head().await;
        if answer.status == 204 || answer.status == 101 || answer.status == 304 {
            return answer;
        }
        if answer.chunked() {
            while let Some(chunk) = self.chunk().await {
                answer.body.extend(chunk);
            }
        } else if let Some(length) = answer.header("content-length") {
            let length = length.parse().unwrap();
            answer.body = self.bytes(length).await;
        } else {
            self.ended().await;
            answer.body = std::mem::take(&mut self.buffer);
        }
        answer
    }

    /// One chunk of a chunked body; `None` is its end.
    pub async fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = soon("a chunk", self.take_through(b"\r\n")).await.unwrap_or_else(|| panic!("the body broke off"));
        let line = String::from_utf8(line).unwrap();
        let length = usize::from_str_radix(line.split(';').next().unwrap().trim(), 16).unwrap();
        let mut chunk = self.bytes(length + 2).await;
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// A body of a request with this head.
    pub async fn request_body(&mut self, headers: &[(String, String)]) -> Vec<u8> {
        let value = |name: &str| headers.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_str());
        let mut body = Vec::new();
        if value("transfer-encoding").is_some() {
            while let Some(chunk) = self.chunk().await {
                body.extend(chunk);
            }
        } else if let Some(length) = value("content-length") {
            body = self.bytes(length.parse().unwrap()).await;
        }
        body
    }

    /// Sends a request on this connection and reads its answer.
    pub async fn request(&mut self, request: &str, body: impl AsRef<[u8]>) -> Answer {
        self.send(request_bytes(request, body.as_ref())).await;
        self.answer().await
    }

    /// The next frame, or `None` at the end of the connection.
    pub async fn frame_or_end(&mut self) -> Option<Frame> {
        match soon("a frame or the end", self.fill(2)).await {
            true => Some(self.frame().await),
            false => None,
        }
    }

    /// The next frame as the peer sent it.
    pub async fn frame(&mut self) -> Frame {
        let head = self.bytes(2).await;
        let length = match head[1] & 0x7F {
            126 => usize::from(u16::from_be_bytes(self.bytes(2).await.try_into().unwrap())),
            127 => u64::from_be_bytes(self.bytes(8).await.try_into().unwrap()) as usize,
            length => usize::from(length),
        };
        let key: Vec<u8> = if head[1] & 0x80 != 0 { self.bytes(4).await } else { vec![0; 4] };
        assert_eq!(head[1] & 0x80 != 0, self.mask.is_none(), "clients mask, servers do not");
        let mut payload = self.bytes(length).await;
        payload.iter_mut().enumerate().for_each(|(at, byte)| *byte ^= key[at % 4]);
        Frame { fin: head[0] & 0x80 != 0, opcode: head[0] & 0x7F, payload }
    }

    pub async fn send_frame(&mut self, frame: &Frame) {
        let bytes = frame.bytes(self.mask);
        self.send(bytes).await;
    }

    pub async fn send_text(&mut self, text: impl AsRef<[u8]>) {
        self.send_frame(&Frame::text(text)).await;
    }

    /// Waits for the end; what comes before it is kept in the buffer.
    pub async fn ended(&mut self) -> Ended {
        soon("the end of a connection", async {
            loop {
                if let Some(ended) = self.more().await {
                    return ended;
                }
            }
        })
        .await
    }

    /// Asserts that the connection ends and nothing comes before that.
    pub async fn ended_silently(&mut self) -> Ended {
        let ended = self.ended().await;
        assert!(self.buffer.is_empty(), "before the end came {:?}", String::from_utf8_lossy(&self.buffer));
        ended
    }

    /// All that comes until the end.
    pub async fn rest(&mut self) -> Vec<u8> {
        self.ended().await;
        std::mem::take(&mut self.buffer)
    }

    /// Cuts the connection so that the peer sees a reset.
    pub fn reset(self) {
        socket2::SockRef::from(self.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// First line and headers of a head; names in lower case.
pub fn parse_head(head: &str) -> (&str, Vec<(String, String)>) {
    let mut lines = head.trim_end().split("\r\n");
    let first = lines.next().unwrap();
    let headers = lines.map(|line| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_ascii_lowercase(), value.trim().to_owned())
    });
    (first, headers.collect())
}

/// `GET /path` with further header lines (`\n` between them) as bytes; `Host` and length are added.
pub fn request_bytes(request: &str, body: &[u8]) -> Vec<u8> {
    let mut lines = request.lines().map(str::trim);
    let mut bytes = format!("{} HTTP/1.1\r\n", lines.next().unwrap());
    let mut host = false;
    for line in lines.filter(|line| !line.is_empty()) {
        host |= line.to_ascii_lowercase().starts_with("host:");
        bytes += &format!("{line}\r\n");
    }
    if !host {
        bytes += "Host: front.test\r\n";
    }
    let method = bytes.split(' ').next().unwrap();
    if !body.is_empty() || method == "POST" || method == "PUT" {
        bytes += &format!("Content-Length: {}\r\n", body.len());
    }
    [bytes.as_bytes(), b"\r\n", body].concat()
}

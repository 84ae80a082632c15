//! HTTP/1.1 by hand: requests as odd as a case wants them, answers with everything that was on the wire.
//!
//! Invariant: no header is added, merged or hidden; only `Host` is written when a request brings none.

use std::fmt::Write as _;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::{End, Error, show};

/// Longest head that is read, in bytes.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A request as it is to be written.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method, in any letter case.
    pub method: String,
    /// The request target: path and query.
    pub target: String,
    /// The protocol version word, `HTTP/1.1` unless set otherwise.
    pub version: &'static str,
    /// Header names and values in order.
    pub headers: Vec<(String, String)>,
    /// The body and how it is framed.
    pub payload: Payload,
}

/// The body of a request.
#[derive(Debug, Clone)]
pub enum Payload {
    /// Neither a length nor chunks.
    Absent,
    /// With its `Content-Length`.
    Sized(Vec<u8>),
    /// One chunk for each element, and the last chunk.
    Chunked(Vec<Vec<u8>>),
}

impl Request {
    /// Makes a request without body and headers.
    #[must_use]
    pub fn new(method: &str, target: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            target: target.into(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            payload: Payload::Absent,
        }
    }

    /// Adds a header line.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets a body with `Content-Length`.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.payload = Payload::Sized(body.into());
        self
    }

    /// Sets a chunked body.
    #[must_use]
    pub fn chunks(mut self, chunks: Vec<Vec<u8>>) -> Self {
        self.payload = Payload::Chunked(chunks);
        self
    }

    /// Sets the version word of the request line.
    #[must_use]
    pub fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// Whether a header of that name is present.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Writes the head alone, the framing header of the payload included.
    #[must_use]
    pub fn head_bytes(&self, host: &str) -> Vec<u8> {
        let mut text = format!("{} {} {}\r\n", self.method, self.target, self.version);
        if !self.has("host") {
            let _ = write!(text, "Host: {host}\r\n");
        }
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        match &self.payload {
            Payload::Absent => {}
            Payload::Sized(body) => {
                let _ = write!(text, "Content-Length: {}\r\n", body.len());
            }
            Payload::Chunked(_) => text.push_str("Transfer-Encoding: chunked\r\n"),
        }
        text.push_str("\r\n");
        text.into_bytes()
    }

    /// Writes the whole request.
    #[must_use]
    pub fn to_bytes(&self, host: &str) -> Vec<u8> {
        let mut bytes = self.head_bytes(host);
        match &self.payload {
            Payload::Absent => {}
            Payload::Sized(body) => bytes.extend_from_slice(body),
            Payload::Chunked(chunks) => {
                for chunk in chunks {
                    bytes.extend_from_slice(&chunk_bytes(chunk));
                }
                bytes.extend_from_slice(b"0\r\n\r\n");
            }
        }
        bytes
    }
}

/// Writes one chunk of a chunked body.
#[must_use]
pub fn chunk_bytes(data: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{:x}\r\n", data.len()).into_bytes();
    bytes.extend_from_slice(data);
    bytes.extend_from_slice(b"\r\n");
    bytes
}

/// Status line and headers of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// The version word.
    pub version: String,
    /// The status code.
    pub status: u16,
    /// The reason phrase.
    pub reason: String,
    /// Header names as written, values trimmed.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// The first value of a header, by name without letter case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    fn parse(text: &str) -> Result<Self, Error> {
        let mut lines = text.split("\r\n");
        let status_line = lines.next().unwrap_or_default();
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|word| word.parse().ok());
        let (true, Some(status)) = (version.starts_with("HTTP/1."), status) else {
            return Err(Error::Malformed(format!("status line {status_line:?}")));
        };
        let mut headers = Vec::new();
        for line in lines.filter(|line| !line.is_empty()) {
            let Some((name, value)) = line.split_once(':') else {
                return Err(Error::Malformed(format!("header line {line:?}")));
            };
            headers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(Self { version: version.into(), status, reason: words.next().unwrap_or_default().into(), headers })
    }
}

/// How the body of an answer was framed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Framing {
    /// There was none, and no length was given.
    Absent,
    /// By `Content-Length`.
    Length,
    /// In chunks of these sizes, the last one not counted.
    Chunked(Vec<usize>),
    /// By the end of the connection.
    UntilClose,
}

/// A complete answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status line and headers.
    pub head: Head,
    /// The body without framing.
    pub body: Vec<u8>,
    /// How the body was framed.
    pub framing: Framing,
    /// Status codes of the interim answers that came before it.
    pub interim: Vec<u16>,
}

impl Answer {
    /// The body as text, for messages and JSON.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A line that shows status, type and body, as failures print it.
    #[must_use]
    pub fn brief(&self) -> String {
        format!("{} {} {:?}", self.head.status, self.head.header("content-type").unwrap_or("-"), show(&self.body))
    }
}

/// A TCP connection that speaks HTTP/1.1.
#[derive(Debug)]
pub struct Connection {
    reading: OwnedReadHalf,
    writing: Option<OwnedWriteHalf>,
    buffer: BytesMut,
    host: String,
}

impl Connection {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// [`Error::Connect`] when that fails.
    pub async fn open(address: &str) -> Result<Self, Error> {
        let stream =
            TcpStream::connect(address).await.map_err(|cause| Error::Connect { address: address.to_owned(), cause })?;
        Ok(Self::over(stream, address))
    }

    /// Connects with a receive buffer of about `bytes`, so that a reader that stops is felt soon.
    ///
    /// # Errors
    /// [`Error::Connect`] when that fails.
    pub async fn open_narrow(address: &str, bytes: u32) -> Result<Self, Error> {
        let failed = |cause| Error::Connect { address: address.to_owned(), cause };
        let target: std::net::SocketAddr =
            address.parse().map_err(|_| failed(std::io::Error::other("not an address with a port")))?;
        let socket = match target {
            std::net::SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4(),
            std::net::SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6(),
        }
        .map_err(failed)?;
        socket.set_recv_buffer_size(bytes).map_err(failed)?;
        let stream = socket.connect(target).await.map_err(failed)?;
        Ok(Self::over(stream, address))
    }

    fn over(stream: TcpStream, address: &str) -> Self {
        let _ = stream.set_nodelay(true);
        let (reading, writing) = stream.into_split();
        Self { reading, writing: Some(writing), buffer: BytesMut::new(), host: address.to_owned() }
    }

    /// Host and port this connection goes to.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Writes a request.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub async fn send(&mut self, request: &Request) -> Result<(), Error> {
        let bytes = request.to_bytes(&self.host);
        self.send_bytes(&bytes).await
    }

    /// Writes bytes as they are.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub async fn send_bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.writing()?.write_all(bytes).await.map_err(Error::Write)
    }

    /// Writes as much of `bytes` as goes at once and tells how much that was.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub async fn send_some(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.writing()?.write(bytes).await.map_err(Error::Write)
    }

    /// Writes a request in the background, for a body that the server may not take whole. Nothing else can be
    /// written on this connection afterwards.
    pub fn send_apart(&mut self, request: &Request) {
        let bytes = request.to_bytes(&self.host);
        if let Some(mut writing) = self.writing.take() {
            tokio::spawn(async move {
                let _ = writing.write_all(&bytes).await;
                // Without this the end of the task would end the sending side; the connection is the caller's.
                writing.forget();
            });
        }
    }

    fn writing(&mut self) -> Result<&mut OwnedWriteHalf, Error> {
        self.writing.as_mut().ok_or_else(|| Error::Write(std::io::Error::other("a body is being written")))
    }

    /// Reads the next head, an interim one too.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Malformed`].
    pub async fn head(&mut self) -> Result<Head, Error> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                let head = self.buffer.split_to(at + 4);
                return Head::parse(&String::from_utf8_lossy(&head));
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(Error::Malformed("a head that does not end".into()));
            }
            self.fill().await?;
        }
    }

    /// Reads a complete answer to a request of that method.
    ///
    /// # Errors
    /// [`Error::Ended`] when the body is broken off, or [`Error::Malformed`].
    pub async fn answer(&mut self, method: &str) -> Result<Answer, Error> {
        let mut interim = Vec::new();
        let head = loop {
            let head = self.head().await?;
            if head.status >= 200 || head.status == 101 {
                break head;
            }
            interim.push(head.status);
        };
        let (body, framing) = self.body(&head, method).await?;
        Ok(Answer { head, body, framing, interim })
    }

    /// Writes a request and reads its answer.
    ///
    /// # Errors
    /// Those of writing and reading.
    pub async fn exchange(&mut self, request: &Request) -> Result<Answer, Error> {
        self.send(request).await?;
        self.answer(&request.method).await
    }

    /// Reads the body that belongs to a head.
    ///
    /// # Errors
    /// [`Error::Ended`] when it is broken off, or [`Error::Malformed`].
    pub async fn body(&mut self, head: &Head, method: &str) -> Result<(Vec<u8>, Framing), Error> {
        let length = head.header("content-length");
        if method.eq_ignore_ascii_case("HEAD") || matches!(head.status, 100..=199 | 204 | 304) {
            let framing = if length.is_some() { Framing::Length } else { Framing::Absent };
            return Ok((Vec::new(), framing));
        }
        if head.header("transfer-encoding").is_some_and(|coding| coding.eq_ignore_ascii_case("chunked")) {
            let (mut body, mut sizes) = (Vec::new(), Vec::new());
            while let Some(chunk) = self.chunk().await? {
                sizes.push(chunk.len());
                body.extend_from_slice(&chunk);
            }
            return Ok((body, Framing::Chunked(sizes)));
        }
        if let Some(length) = length {
            let length: usize = length.parse().map_err(|_| Error::Malformed(format!("Content-Length {length:?}")))?;
            while self.buffer.len() < length {
                self.fill().await?;
            }
            return Ok((self.buffer.split_to(length).to_vec(), Framing::Length));
        }
        loop {
            match self.fill().await {
                Ok(()) => {}
                Err(Error::Ended { end: End::Fin, .. }) => {
                    return Ok((self.buffer.split().to_vec(), Framing::UntilClose));
                }
                Err(other) => return Err(other),
            }
        }
    }

    /// Reads one chunk of a chunked body; none is the last chunk.
    ///
    /// # Errors
    /// [`Error::Ended`] or [`Error::Malformed`].
    pub async fn chunk(&mut self) -> Result<Option<Vec<u8>>, Error> {
        let size = loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line = self.buffer.split_to(at + 2);
                let text = String::from_utf8_lossy(&line);
                let digits = text.trim();
                break usize::from_str_radix(digits, 16)
                    .map_err(|_| Error::Malformed(format!("chunk size {digits:?}")))?;
            }
            self.fill().await?;
        };
        while self.buffer.len() < size + 2 {
            self.fill().await?;
        }
        let data = self.buffer.split_to(size).to_vec();
        if self.buffer.get(..2) != Some(b"\r\n") {
            return Err(Error::Malformed("a chunk without its line end".into()));
        }
        self.buffer.advance(2);
        Ok((size > 0).then_some(data))
    }

    /// Reads more bytes into the buffer.
    ///
    /// # Errors
    /// [`Error::Ended`] with how the connection ended and what had come.
    pub async fn fill(&mut self) -> Result<(), Error> {
        let end = match self.reading.read_buf(&mut self.buffer).await {
            Ok(0) => End::Fin,
            Ok(_) => return Ok(()),
            Err(_) => End::Reset,
        };
        Err(Error::Ended { end, received: show(&self.buffer) })
    }

    /// The bytes that were read and not yet used.
    pub fn buffer(&mut self) -> &mut BytesMut {
        &mut self.buffer
    }

    /// Waits until the server ends the connection, whatever it sends before.
    ///
    /// # Errors
    /// [`Error::Late`] when it does not.
    pub async fn ended(&mut self, limit: Duration) -> Result<End, Error> {
        super::within(limit, async {
            loop {
                self.buffer.clear();
                match self.fill().await {
                    Ok(()) => {}
                    Err(Error::Ended { end, .. }) => return Ok(end),
                    Err(other) => return Err(other),
                }
            }
        })
        .await
    }

    /// Closes our sending side; reading goes on.
    pub async fn finish(&mut self) {
        if let Some(writing) = &mut self.writing {
            let _ = writing.shutdown().await;
        }
    }

    /// Resets the connection (RST instead of FIN).
    pub fn reset(self) {
        if let Some(writing) = self.writing {
            // Its drop would send FIN first.
            writing.forget();
        }
        let _ = socket2::SockRef::from(self.reading.as_ref()).set_linger(Some(Duration::ZERO));
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

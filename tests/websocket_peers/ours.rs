//! The codec under test on a socket: an echo server and a client, nothing but `hubgate_protocol::websocket`.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::websocket::{Incoming, MessageDecoder, OpCode, Sender, accept_key, write_close, write_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The longest message that the server takes.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// Starts an echo server.
pub async fn serve() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(echo(stream));
        }
    });
    address
}

async fn echo(mut stream: TcpStream) {
    let mut input = BytesMut::new();
    let head = loop {
        if let Some(at) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            break input.split_to(at + 4);
        }
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    };
    let head = String::from_utf8_lossy(&head).into_owned();
    let key = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("sec-websocket-key").then(|| value.trim().to_owned())
    });
    let accept = accept_key(key.expect("a key").as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    if stream.write_all(answer.as_bytes()).await.is_err() {
        return;
    }
    let mut decoder = MessageDecoder::new(Sender::Client, MESSAGE_BYTES_MAX);
    loop {
        let mut output = BytesMut::new();
        let over = loop {
            match decoder.decode(&mut input) {
                Ok(None) => break false,
                Ok(Some(Incoming::Text(text))) => write_frame(&mut output, true, OpCode::Text, None, &text),
                Ok(Some(Incoming::Binary(bytes))) => write_frame(&mut output, true, OpCode::Binary, None, &bytes),
                Ok(Some(Incoming::Ping(payload))) => write_frame(&mut output, true, OpCode::Pong, None, &payload),
                Ok(Some(Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Close(close))) => {
                    let close = close.as_ref().map(|(code, reason)| (*code, reason.as_str()));
                    write_close(&mut output, None, close);
                    break true;
                }
                Err(violation) => {
                    write_close(&mut output, None, Some((violation.close_code(), "")));
                    break true;
                }
            }
        };
        if stream.write_all(&output).await.is_err() {
            return;
        }
        if over {
            let _gone_already = stream.shutdown().await;
            // Reads to the end, so that the close frame is not lost to a reset.
            let mut rest = [0; 4096];
            while matches!(stream.read(&mut rest).await, Ok(1..)) {}
            return;
        }
        if !matches!(stream.read_buf(&mut input).await, Ok(1..)) {
            return;
        }
    }
}

/// A client whose frames are written and read by the codec.
pub struct Client {
    stream: TcpStream,
    input: BytesMut,
    decoder: MessageDecoder,
}

impl Client {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        let (stream, rest) = crate::raw::open(address).await;
        let decoder = MessageDecoder::new(Sender::Server, MESSAGE_BYTES_MAX);
        Self { stream, input: BytesMut::from(&rest[..]), decoder }
    }

    /// Sends a message in as many frames as there are pieces, and a Ping behind each but the last.
    pub async fn send(&mut self, opcode: OpCode, pieces: &[&[u8]]) {
        let mut output = BytesMut::new();
        for (number, piece) in pieces.iter().enumerate() {
            let opcode = if number == 0 { opcode } else { OpCode::Continuation };
            let last = number + 1 == pieces.len();
            write_frame(&mut output, last, opcode, Some([number as u8, 7, 0xA5, 0x80]), piece);
            if !last {
                write_frame(&mut output, true, OpCode::Ping, Some([1, 2, 3, 4]), &[number as u8]);
            }
        }
        self.stream.write_all(&output).await.expect("sent");
    }

    /// Sends a close frame.
    pub async fn close(&mut self, close: Option<(u16, &str)>) {
        let mut output = BytesMut::new();
        write_close(&mut output, Some([9, 8, 7, 6]), close);
        self.stream.write_all(&output).await.expect("sent");
    }

    /// What comes next.
    pub async fn next(&mut self) -> Incoming {
        loop {
            if let Some(incoming) = self.decoder.decode(&mut self.input).expect("a legal stream") {
                return incoming;
            }
            let read = tokio::time::timeout(crate::PATIENCE, self.stream.read_buf(&mut self.input)).await;
            assert!(matches!(read, Ok(Ok(1..))), "the stream ended: {read:?}");
        }
    }

    /// The next message, and how many Pongs came before it.
    pub async fn message(&mut self) -> (Incoming, Vec<Bytes>) {
        let mut pongs = Vec::new();
        loop {
            match self.next().await {
                Incoming::Pong(payload) => pongs.push(payload),
                other => return (other, pongs),
            }
        }
    }
}

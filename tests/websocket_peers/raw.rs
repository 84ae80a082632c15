//! A client without any codec: writes the bytes of a case, reads the frames that come.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cases::{Case, End};

/// What a server has answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    pub echoes: Vec<(u8, Vec<u8>)>,
    pub pongs: Vec<Vec<u8>>,
    /// The close frame's code, 1005 without one, 1006 where none came.
    pub code: u16,
}

/// Connects and upgrades: the stream, and bytes behind the 101.
pub async fn open(address: SocketAddr) -> (TcpStream, Vec<u8>) {
    let mut stream = TcpStream::connect(address).await.expect("connects");
    stream.set_nodelay(true).expect("no delay");
    let head = "GET /echo HTTP/1.1\r\nHost: peer\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..at]).to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 101 "), "{head}");
            assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
            bytes.drain(..at + 4);
            return (stream, bytes);
        }
        let read = timeout(crate::PATIENCE, stream.read_buf(&mut bytes)).await.expect("in time");
        assert!(matches!(read, Ok(1..)), "no answer to the upgrade");
    }
}

/// Plays a case against a server.
pub async fn play(address: SocketAddr, case: &Case) -> Observed {
    let (stream, mut bytes) = open(address).await;
    let (mut reading, mut writing) = stream.into_split();
    let writes = async {
        for write in &case.writes {
            if writing.write_all(write).await.is_err() {
                // The server has had enough; what it says is still read.
                break;
            }
            if case.writes.len() > 4 {
                tokio::task::yield_now().await;
            }
        }
        writing
    };
    let reads = async {
        let mut observed = Observed { echoes: vec![], pongs: vec![], code: 1006 };
        let mut unfinished: Option<(u8, Vec<u8>)> = None;
        loop {
            while let Some((first, payload)) = take(&mut bytes) {
                match first & 0x0F {
                    8 => {
                        observed.code = payload.first_chunk().map_or(1005, |code| u16::from_be_bytes(*code));
                        return observed;
                    }
                    9 => {}
                    10 => observed.pongs.push(payload),
                    opcode => {
                        let message = unfinished.get_or_insert((opcode, Vec::new()));
                        message.1.extend_from_slice(&payload);
                        if first & 0x80 != 0 {
                            observed.echoes.extend(unfinished.take());
                        }
                    }
                }
            }
            let read = timeout(crate::PATIENCE, reading.read_buf(&mut bytes)).await;
            match read.unwrap_or_else(|_| panic!("{}: no end, so far {observed:?}", case.name)) {
                Ok(1..) => {}
                _ => return observed,
            }
        }
    };
    let (_writing, observed) = tokio::join!(writes, reads);
    observed
}

fn take(bytes: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let [first, length, rest @ ..] = bytes.as_slice() else { return None };
    assert_eq!(length & 0x80, 0, "a server masks nothing");
    let first = *first;
    let (length, head) = match length {
        126 => (u64::from(u16::from_be_bytes(*rest.first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*rest.first_chunk()?), 10),
        short => (u64::from(*short), 2),
    };
    let end = head + length as usize;
    let payload = bytes.get(head..end)?.to_vec();
    bytes.drain(..end);
    Some((first, payload))
}

impl Observed {
    /// Whether this is what the case asks for. A failed connection need not say a code.
    pub fn satisfies(&self, case: &Case) -> bool {
        let ends = match case.end {
            End::Closed(code) => self.code == code,
            // RFC 6455 leaves open whether a bad reason is 1007 or 1002.
            End::Failed(1007) => [1007, 1002, 1006].contains(&self.code),
            End::Failed(code) => self.code == code || self.code == 1006,
        };
        // What was answered before a failure may be lost with the connection.
        let echoes = self.echoes == case.echoes || (matches!(case.end, End::Failed(_)) && self.code == 1006);
        ends && echoes && self.pongs == case.pongs
    }
}

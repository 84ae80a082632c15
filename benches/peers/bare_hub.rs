//! The bare hub: negotiates and shakes hands as a SignalR hub does, then echoes every frame. It does so little that a
//! relay before it, not the hub, decides how fast a run is. It runs as a process of its own, on one thread.
//!
//! Invariant: all frames that one read brought are answered by one write, in order.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BytesMut};
use sha1::{Digest, Sha1};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::http::{self, Head};
use crate::wire::{self, FrameTooLong};

/// Why one connection of the bare hub ended early.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    Http(#[from] http::Error),
    #[error(transparent)]
    Frame(#[from] FrameTooLong),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Serves on a free loopback port until standard input ends, which it does with the process that started this one.
/// The address goes to standard output as soon as connections are accepted.
pub(crate) async fn run() -> std::io::Result<()> {
    let listener = listen().await?;
    announce(listener.local_addr()?)?;
    tokio::select! {
        served = serve(listener) => served,
        () = parent_gone() => Ok(()),
    }
}

/// Binds a free loopback port with a queue that 5,000 connects do not overflow.
pub(crate) async fn listen() -> std::io::Result<TcpListener> {
    let socket = tokio::net::TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
    socket.listen(4096)
}

/// Writes the line that tells the parent where this process listens.
pub(crate) fn announce(address: SocketAddr) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "listening {address}")?;
    out.flush()
}

/// Completes when standard input ends.
pub(crate) async fn parent_gone() {
    let drained = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
    // An error means the same as the end: nobody is there any more.
    drop(drained.await);
}

/// Accepts connections for ever.
pub(crate) async fn serve(listener: TcpListener) -> std::io::Result<()> {
    let mut accepted = 0_u64;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        accepted += 1;
        let id = accepted;
        // A connection's error is the load client's to see and to count: its own calls fail.
        tokio::spawn(async move { drop(connection(stream, id).await) });
    }
}

async fn connection(mut stream: TcpStream, id: u64) -> Result<(), Error> {
    let mut inbox = BytesMut::with_capacity(4096);
    while let Some(head) = http::read_head(&mut stream, &mut inbox).await? {
        if head.has_token("upgrade", "websocket") {
            let answer = upgrade_answer(&head);
            stream.write_all(answer.as_bytes()).await?;
            return socket(stream, inbox).await;
        }
        http::read_body(&head, &mut stream, &mut inbox).await?;
        stream.write_all(plain_answer(&head, id).as_bytes()).await?;
        if head.has_token("connection", "close") || head.start.ends_with("HTTP/1.0") {
            break;
        }
    }
    Ok(())
}

fn plain_answer(head: &Head, id: u64) -> String {
    let target = head.start.split(' ').nth(1).unwrap_or_default();
    let path = target.split('?').next().unwrap_or_default();
    let (status, body) = if head.start.starts_with("POST ") && path.ends_with("/negotiate") {
        let transports = r#"[{"transport":"WebSockets","transferFormats":["Text","Binary"]}]"#;
        let ids = format!(r#""connectionId":"bare-{id:017}","connectionToken":"secret-{id:015}""#);
        ("200 OK", format!(r#"{{"negotiateVersion":1,{ids},"availableTransports":{transports}}}"#))
    } else if head.start.starts_with("GET / ") {
        ("200 OK", "ready".to_owned())
    } else {
        ("404 Not Found", String::new())
    };
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}")
}

fn upgrade_answer(head: &Head) -> String {
    let key = head.field("sec-websocket-key").unwrap_or_default();
    let accept = accept_for(key);
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
}

fn accept_for(key: &str) -> String {
    let mut hash = Sha1::new();
    hash.update(key.as_bytes());
    hash.update(b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(hash.finalize())
}

async fn socket(mut stream: TcpStream, mut inbox: BytesMut) -> Result<(), Error> {
    let mut outbox = Vec::with_capacity(4096);
    let mut shaken = false;
    loop {
        let closed = answer_frames(&mut inbox, &mut outbox, &mut shaken)?;
        if !outbox.is_empty() {
            stream.write_all(&outbox).await?;
            outbox.clear();
        }
        inbox.reserve(4096);
        if closed || stream.read_buf(&mut inbox).await? == 0 {
            return Ok(());
        }
    }
}

/// Answers each complete frame of `inbox`; true once a close frame was answered.
fn answer_frames(inbox: &mut BytesMut, outbox: &mut Vec<u8>, shaken: &mut bool) -> Result<bool, Error> {
    while let Some(header) = wire::frame_header(inbox)? {
        let frame_bytes = header.header_bytes + header.payload_bytes;
        let Some(payload) = inbox.get_mut(header.header_bytes..frame_bytes) else { break };
        if let Some(key) = header.mask {
            wire::apply_mask(payload, key);
        }
        match header.opcode {
            wire::TEXT | wire::BINARY | wire::CONTINUATION if !*shaken => {
                *shaken = true;
                wire::put_frame(outbox, wire::TEXT, None, b"{}\x1e");
            }
            wire::PING => wire::put_frame(outbox, wire::PONG, None, payload),
            wire::PONG => {}
            wire::CLOSE => {
                wire::put_frame(outbox, wire::CLOSE, None, payload);
                return Ok(true);
            }
            opcode => wire::put_frame(outbox, opcode, None, payload),
        }
        inbox.advance(frame_bytes);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_accept_key_is_that_of_the_rfc() {
        assert_eq!(accept_for("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn the_first_frame_is_the_handshake_and_the_rest_is_echoed() {
        let mut sent = Vec::new();
        wire::put_frame(&mut sent, wire::TEXT, Some([9, 8, 7, 6]), b"{\"protocol\":\"json\",\"version\":1}\x1e");
        wire::put_frame(&mut sent, wire::TEXT, Some([1, 2, 3, 4]), b"one");
        wire::put_frame(&mut sent, wire::BINARY, Some([1, 2, 3, 4]), b"two");
        let (mut inbox, mut outbox, mut shaken) = (BytesMut::from(&*sent), Vec::new(), false);
        assert!(!answer_frames(&mut inbox, &mut outbox, &mut shaken).unwrap());
        let mut expected = Vec::new();
        wire::put_frame(&mut expected, wire::TEXT, None, b"{}\x1e");
        wire::put_frame(&mut expected, wire::TEXT, None, b"one");
        wire::put_frame(&mut expected, wire::BINARY, None, b"two");
        assert_eq!(outbox, expected);
        assert!(inbox.is_empty());
    }
}

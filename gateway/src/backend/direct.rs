//! One request without a body and its short answer, written and read by whoever waits for it.
//!
//! Why: a connect asks its hub twice, for the negotiate and for the upgrade. An HTTP client for each backend connection
//! is a task, channels and buffers, for two heads of a few lines (`benches/peers`, case d).
//!
//! Invariant: only the plainest answers are given from here: an upgrade, or a body of a told length that came with its
//! head. Of anything else no byte is used up: the HTTP client reads it from its beginning ([`Came::Other`]).

use std::io;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Method, Request, Response, StatusCode, Version};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::body::Body;
use crate::io::read_more;
use crate::visit::has_token;

/// Header fields of an answer that is read here.
const FIELDS_MAX: usize = 48;
/// Longest body that is read here, in bytes.
const BODY_BYTES_MAX: usize = 16 * 1024;

/// What came as the answer to a request.
pub(super) enum Came {
    /// An answer; the connection is given back if it may carry another request.
    Answer(Response<Bytes>, Option<TcpStream>),
    /// 101, the connection and what came behind the head.
    Switched(Response<Bytes>, TcpStream, Bytes),
    /// What is not read here: the connection and all that came.
    Other(TcpStream, Vec<u8>),
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Error {
    /// Nothing of the request went out.
    Unsent(io::Error),
    /// It is unknown how much of it was read.
    Sent(io::Error),
}

/// Whether a request can be sent here.
pub(super) fn is_plain(request: &Request<Body>) -> bool {
    let headers = request.headers();
    matches!(request.body(), Body::Empty)
        && (*request.method() == Method::GET || *request.method() == Method::POST)
        && request.version() == Version::HTTP_11
        && headers.get(CONTENT_LENGTH).is_none_or(|length| length == "0")
        && !headers.contains_key(TRANSFER_ENCODING)
}

/// Sends a request that [`is_plain`] and reads its answer, whose head may have `head_bytes_max`.
pub(super) async fn exchange(
    mut tcp: TcpStream,
    request: &Request<Body>,
    head_bytes_max: usize,
) -> Result<Came, Error> {
    let head = head_of(request);
    match tcp.write(&head).await {
        Err(error) => return Err(Error::Unsent(error)),
        Ok(written) => tcp.write_all(head.get(written..).unwrap_or_default()).await.map_err(Error::Sent)?,
    }
    let mut read = Vec::new();
    loop {
        let more = read_more(&mut tcp, &mut read).await.map_err(Error::Sent)?;
        if more == 0 && read.is_empty() {
            return Err(Error::Sent(io::ErrorKind::UnexpectedEof.into()));
        }
        match parse(&read) {
            Parsed::Partial if more > 0 && read.len() < head_bytes_max => {}
            Parsed::Partial | Parsed::Other => return Ok(Came::Other(tcp, read)),
            Parsed::Head(status, headers, head_bytes) => {
                let upgrades = request.headers().contains_key(UPGRADE);
                return Ok(judge(tcp, read, (status, headers, head_bytes), upgrades));
            }
        }
    }
}

fn head_of(request: &Request<Body>) -> Vec<u8> {
    let mut head = Vec::with_capacity(1024);
    let target = request.uri().path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    for part in [request.method().as_str(), " ", target, " HTTP/1.1\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
    for (name, value) in request.headers() {
        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
            head.extend_from_slice(part);
        }
    }
    head.extend_from_slice(b"\r\n");
    head
}

enum Parsed {
    Partial,
    Other,
    /// A head and its length.
    Head(StatusCode, HeaderMap, usize),
}

fn parse(read: &[u8]) -> Parsed {
    let mut space = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut response = httparse::Response::new(&mut space);
    let head_bytes = match response.parse(read) {
        Ok(httparse::Status::Complete(head_bytes)) if response.version == Some(1) => head_bytes,
        Ok(httparse::Status::Partial) => return Parsed::Partial,
        Ok(httparse::Status::Complete(_)) | Err(_) => return Parsed::Other,
    };
    let status = response.code.and_then(|code| StatusCode::from_u16(code).ok());
    match (status, headers(response.headers)) {
        (Some(status), Some(headers)) => Parsed::Head(status, headers, head_bytes),
        _ => Parsed::Other,
    }
}

fn headers(fields: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    // Room for what is added on the way to the client.
    let mut headers = HeaderMap::with_capacity(fields.len() + 4);
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).ok()?;
        headers.append(name, HeaderValue::from_bytes(field.value).ok()?);
    }
    Some(headers)
}

fn judge(tcp: TcpStream, read: Vec<u8>, head: (StatusCode, HeaderMap, usize), upgrades: bool) -> Came {
    let (status, headers, head_bytes) = head;
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = (lengths.next(), lengths.next());
    let chunked = headers.contains_key(TRANSFER_ENCODING);
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = status;
    if status == StatusCode::SWITCHING_PROTOCOLS {
        if !upgrades || length.0.is_some() || chunked {
            return Came::Other(tcp, read);
        }
        *response.headers_mut() = headers;
        return Came::Switched(response, tcp, Bytes::from(read).slice(head_bytes..));
    }
    let bodiless = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED, StatusCode::RESET_CONTENT];
    let told = match length {
        (Some(length), None) if !status.is_informational() && !bodiless.contains(&status) => digits(length),
        _ => None,
    };
    let came = read.len().saturating_sub(head_bytes);
    if chunked || told != Some(came) || came > BODY_BYTES_MAX {
        return Came::Other(tcp, read);
    }
    let ends = has_token(&headers, &CONNECTION, "close");
    *response.headers_mut() = headers;
    Came::Answer(response.map(|_| Bytes::from(read).slice(head_bytes..)), (!ends).then_some(tcp))
}

/// A length that has digits only.
fn digits(value: &HeaderValue) -> Option<usize> {
    let text = value.to_str().ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::TcpListener;

    const QUESTION: &str = "POST /hub/negotiate HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";

    fn question() -> Request<Body> {
        let request = Request::post("/hub/negotiate").header("host", "a").header("content-length", "0");
        request.body(Body::Empty).expect("a request")
    }

    fn upgrade() -> Request<Body> {
        Request::get("/hub").header("upgrade", "websocket").body(Body::Empty).expect("a request")
    }

    /// What comes of a server's answer, given piece by piece, and the request as the server got it.
    async fn answered(request: Request<Body>, pieces: &[&str]) -> (Result<Came, Error>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (ours, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let mut server = accepted.expect("a connection").0;
        server.set_nodelay(true).expect("an option");
        let pieces: Vec<String> = pieces.iter().map(|piece| (*piece).to_owned()).collect();
        let serving = tokio::spawn(async move {
            let mut got = vec![0; 4096];
            let len = server.read(&mut got).await.expect("a request");
            got.truncate(len);
            for piece in &pieces {
                server.write_all(piece.as_bytes()).await.expect("room");
                tokio::task::yield_now().await;
            }
            got
        });
        let came = exchange(ours.expect("a connection"), &request, 1000).await;
        (came, serving.await.expect("a request"))
    }

    #[tokio::test]
    async fn a_short_answer_is_read_and_the_connection_kept() {
        let answer = "HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nEmpty:\r\nContent-Length: 2\r\n\r\nhi";
        let (came, got) = answered(question(), &[answer]).await;
        assert_eq!(String::from_utf8_lossy(&got), QUESTION);
        let Ok(Came::Answer(response, Some(_))) = came else { panic!("no answer") };
        assert_eq!(response.body(), "hi");
        assert_eq!(response.headers().get_all("x-a").iter().count(), 2);
        assert_eq!(response.headers()["empty"], "");
        let (came, _) =
            answered(question(), &["HTTP/1.1 401 No\r\nConnection: close\r\n", "Content-Length: 0\r\n\r\n"]).await;
        let Ok(Came::Answer(response, None)) = came else { panic!("no answer") };
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
    }

    #[tokio::test]
    async fn er_b4_a_switch_keeps_what_came_behind_it() {
        let switch = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nframe";
        let (came, _) = answered(upgrade(), &[switch]).await;
        let Ok(Came::Switched(response, _, ahead)) = came else { panic!("no switch") };
        assert_eq!((response.headers()["upgrade"].as_bytes(), &ahead[..]), (&b"websocket"[..], &b"frame"[..]));
        let (came, _) = answered(question(), &[switch]).await;
        assert!(matches!(came, Ok(Came::Other(_, read)) if read == switch.as_bytes()), "nobody asked for one");
    }

    #[tokio::test]
    async fn whatever_is_not_plain_is_left_whole() {
        for answer in [
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nhi",
            "HTTP/1.1 200 OK\r\n\r\nhi",
            "HTTP/1.1 204 No\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi",
            "SSH-2.0-x\r\n",
            "HTTP/1.1 200 OK\r\nX",
        ] {
            let (came, _) = answered(question(), &[answer]).await;
            assert!(matches!(came, Ok(Came::Other(_, read)) if read == answer.as_bytes()), "{answer}");
        }
        let long = format!("HTTP/1.1 200 OK\r\nX: {}", "x".repeat(1000));
        let (came, _) = answered(question(), &[&long]).await;
        assert!(matches!(came, Ok(Came::Other(..))), "a head without end");
    }

    #[tokio::test]
    async fn no_answer_is_an_error() {
        let (came, _) = answered(question(), &[]).await;
        assert!(matches!(came, Err(Error::Sent(_))));
    }

    #[test]
    fn only_requests_without_a_body_are_plain() {
        assert!(is_plain(&question()) && is_plain(&upgrade()));
        let mut announced = question();
        announced.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("3"));
        let mut head = question();
        *head.method_mut() = Method::HEAD;
        let full = question().map(|_| Body::Full(Bytes::from_static(b"x")));
        for other in [announced, head, full] {
            assert!(!is_plain(&other), "{other:?}");
        }
    }
}

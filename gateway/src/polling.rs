//! A hub without WebSockets, reached over long polling (rule D5) and presented to the rest of the gateway as if it spoke
//! WebSocket: frames on one side, polls and POSTs on the other.
//!
//! Why so: relays and event streams know one kind of hub. The price, frames made and read in memory, falls only on
//! routes to such hubs.
//!
//! Invariant: one poll and one POST at a time, so bytes keep their order; a WebSocket message is never cut inside a hub
//! message.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::BodyExt as _;
use hubgate_protocol::HubProtocol;
use hubgate_protocol::framing::{RECORD_SEPARATOR, WholeMessages, take_whole_messages};
use hubgate_protocol::long_polling::{Event, PollingClient, Request as Wanted};
use hubgate_protocol::websocket::{self, Incoming, MessageDecoder, OpCode, Sender};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::task::JoinSet;

use crate::backend::{Backend, ExchangeError, Failed, HubHttp};
use crate::body::Body;
use crate::headers;
use crate::io::Stream;
use crate::relay::{Spoken, judge};

/// Bytes that may lie between the two sides before one of them waits.
const BETWEEN_BYTES: usize = 64 * 1024;
/// Bytes asked for in one read.
const READ_BYTES: usize = 16 * 1024;

/// Bounds and waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Longest message of a client that is put together.
    pub(crate) client_message_bytes_max: usize,
    /// Longest message, or poll body, of a hub.
    pub(crate) hub_message_bytes_max: usize,
    /// How often clients get a hub ping (rule D8).
    pub(crate) hub_ping_interval: Duration,
}

/// How a hub is asked: target and headers of each poll and POST.
#[derive(Debug, Clone)]
struct Question {
    target: Uri,
    headers: HeaderMap,
}

impl Question {
    fn request(&self, method: Method, body: Body) -> Request<Body> {
        let mut request = Request::new(body);
        *request.method_mut() = method;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        request
    }
}

/// Makes the first poll and, once the hub has answered it, gives a stream of WebSocket frames.
///
/// # Errors
/// The hub's refusal as it came, or a broken exchange.
pub(crate) async fn connect(
    backend: &Arc<Backend>,
    held: Option<HubHttp>,
    request: Request<Body>,
    bounds: Bounds,
) -> Result<Result<Stream, Response<Body>>, ExchangeError> {
    let (head, _) = request.into_parts();
    let mut headers = head.headers;
    headers::to_hub_upgrade(&mut headers);
    for name in [CONNECTION, UPGRADE, ACCEPT, CONTENT_TYPE] {
        headers.remove(name);
    }
    let question = Question { target: head.uri, headers };
    let first = question.request(Method::GET, Body::Empty);
    let answer = match held {
        Some(mut held) if !held.is_closed() => match held.send(Box::new(first), backend.terms()).await {
            Ok(response) => Ok((response, held)),
            Err(Failed::Unsent(first, _)) => backend.exchange(first).await,
            Err(failed) => Err(failed),
        },
        _ => backend.exchange(Box::new(first)).await,
    };
    let (response, connection) = match answer {
        Ok(answer) => answer,
        Err(Failed::Unsent(_, error) | Failed::Sent(error)) => return Err(error),
    };
    if response.status() != StatusCode::OK {
        return Ok(Err(response.map(Body::Stream)));
    }
    let _empty = response.into_body().collect().await;
    backend.keep(connection);
    let (ours, theirs) = duplex(BETWEEN_BYTES);
    let mut polling = PollingClient::new();
    let _first = polling.next_request();
    polling.poll_answered(200, Bytes::new());
    tokio::spawn(run(Arc::clone(backend), question, polling, theirs, bounds));
    Ok(Ok(Stream::Memory(ours)))
}

/// What a request of ours came to.
enum Answered {
    Poll(Result<(u16, Bytes), ()>),
    Post(Result<u16, ()>),
    Delete,
}

async fn run(
    backend: Arc<Backend>,
    question: Question,
    mut polling: PollingClient,
    client: DuplexStream,
    bounds: Bounds,
) {
    let (mut reading, mut writing) = split(client);
    let mut downward = Downward::new(bounds);
    let mut upward = Upward::new(bounds);
    let mut requests: JoinSet<Answered> = JoinSet::new();
    let mut ping = tokio::time::interval(bounds.hub_ping_interval);
    ping.reset();
    loop {
        while let Some(wanted) = polling.next_request() {
            requests.spawn(ask(Arc::clone(&backend), question.clone(), wanted, bounds.hub_message_bytes_max));
        }
        while let Some(event) = polling.next_event() {
            let gone = match event {
                Event::Opened => false,
                Event::Received(bytes) => downward.pass(&bytes, upward.spoken, &mut writing).await.is_err(),
                Event::Ended(hubgate_protocol::long_polling::End::Server) => {
                    let _gone_already = send_close(&mut writing).await;
                    true
                }
                // Without a close frame the client's side is told that the hub was lost.
                Event::Ended(_) => true,
            };
            if gone {
                requests.shutdown().await;
                return;
            }
        }
        let room = polling.queued_bytes() < BETWEEN_BYTES;
        tokio::select! {
            Some(answered) = requests.join_next() => match answered {
                Ok(Answered::Poll(Ok((status, body)))) => polling.poll_answered(status, body),
                Ok(Answered::Post(Ok(status))) => polling.post_answered(status),
                Ok(Answered::Delete) => polling.delete_answered(),
                Ok(Answered::Poll(Err(())) | Answered::Post(Err(()))) | Err(_) => polling.request_failed(),
            },
            taken = upward.take(&mut reading), if room && !upward.ended => match taken {
                Ok(Some(Incoming::Text(bytes) | Incoming::Binary(bytes))) => {
                    upward.look(&bytes);
                    let _ended = polling.send(&bytes);
                }
                Ok(Some(Incoming::Ping(payload))) => {
                    let mut pong = BytesMut::new();
                    websocket::write_frame(&mut pong, true, OpCode::Pong, None, &payload);
                    let _gone_already = writing.write_all(&pong).await;
                }
                Ok(Some(Incoming::Pong(_))) => {}
                Ok(Some(Incoming::Close(_)) | None) | Err(()) => {
                    upward.ended = true;
                    polling.stop();
                }
            },
            _ = ping.tick() => {
                if let (Some(protocol), true) = (downward.protocol, downward.handshaken) {
                    let mut frame = BytesMut::new();
                    websocket::write_frame(&mut frame, true, opcode(protocol), None, protocol.ping());
                    let _gone_already = writing.write_all(&frame).await;
                }
            }
        }
    }
}

async fn ask(backend: Arc<Backend>, question: Question, wanted: Wanted, bytes_max: usize) -> Answered {
    let request = match &wanted {
        Wanted::Poll => question.request(Method::GET, Body::Empty),
        Wanted::Post(body) => question.request(Method::POST, Body::Full(body.clone())),
        Wanted::Delete => question.request(Method::DELETE, Body::Empty),
    };
    let answer = async {
        let (response, connection) = backend.exchange(Box::new(request)).await.map_err(|_| ())?;
        let status = response.status().as_u16();
        let limited = http_body_util::Limited::new(response.into_body(), bytes_max);
        let body = limited.collect().await.map_err(|_| ())?.to_bytes();
        backend.keep(connection);
        Ok((status, body))
    };
    let answer: Result<(u16, Bytes), ()> = answer.await;
    match wanted {
        Wanted::Poll => Answered::Poll(answer),
        Wanted::Post(_) => Answered::Post(answer.map(|(status, _)| status)),
        Wanted::Delete => Answered::Delete,
    }
}

async fn send_close(writing: &mut WriteHalf<DuplexStream>) -> std::io::Result<()> {
    let mut frame = BytesMut::new();
    websocket::write_close(&mut frame, None, Some((1000, "")));
    writing.write_all(&frame).await?;
    writing.shutdown().await
}

fn opcode(protocol: HubProtocol) -> OpCode {
    match protocol {
        HubProtocol::Json => OpCode::Text,
        HubProtocol::MessagePack => OpCode::Binary,
    }
}

/// Client → hub: frames to bytes.
struct Upward {
    decoder: MessageDecoder,
    input: BytesMut,
    first: Option<Vec<u8>>,
    spoken: Spoken,
    ended: bool,
}

impl Upward {
    fn new(bounds: Bounds) -> Self {
        Self {
            decoder: MessageDecoder::new(Sender::Client, bounds.client_message_bytes_max),
            input: BytesMut::new(),
            first: Some(Vec::new()),
            spoken: Spoken::Unknown,
            ended: false,
        }
    }

    /// The next message or control frame; cancelling loses nothing.
    async fn take(&mut self, reading: &mut ReadHalf<DuplexStream>) -> Result<Option<Incoming>, ()> {
        loop {
            if let Some(incoming) = self.decoder.decode(&mut self.input).map_err(|_| ())? {
                return Ok(Some(incoming));
            }
            self.input.reserve(READ_BYTES);
            match reading.read_buf(&mut self.input).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Ok(None),
            }
        }
    }

    /// Learns what the client speaks.
    fn look(&mut self, bytes: &[u8]) {
        let Some(first) = &mut self.first else { return };
        first.extend_from_slice(bytes);
        if let Some(spoken) = judge(first) {
            self.spoken = spoken;
            self.first = None;
        }
    }
}

/// Hub → client: bytes to frames, cut at whole hub messages.
struct Downward {
    bounds: Bounds,
    protocol: Option<HubProtocol>,
    handshaken: bool,
    scan: Option<WholeMessages>,
    rest: BytesMut,
}

impl Downward {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, protocol: None, handshaken: false, scan: None, rest: BytesMut::new() }
    }

    async fn pass(&mut self, bytes: &[u8], spoken: Spoken, writing: &mut WriteHalf<DuplexStream>) -> Result<(), ()> {
        self.protocol = match spoken {
            Spoken::Json => Some(HubProtocol::Json),
            Spoken::MessagePack => Some(HubProtocol::MessagePack),
            _ => None,
        };
        let Some(protocol) = self.protocol else {
            let opcode = if std::str::from_utf8(bytes).is_ok() { OpCode::Text } else { OpCode::Binary };
            return write(writing, opcode, bytes).await;
        };
        self.rest.extend_from_slice(bytes);
        if !self.handshaken {
            let Some(end) = memchr::memchr(RECORD_SEPARATOR, &self.rest) else { return Ok(()) };
            let response = self.rest.split_to(end + 1);
            write(writing, opcode(protocol), &response).await?;
            self.handshaken = true;
        }
        let bytes_max = self.bounds.hub_message_bytes_max;
        let scan = self.scan.get_or_insert_with(|| WholeMessages::new(protocol, bytes_max));
        match take_whole_messages(scan, &mut self.rest) {
            Ok(Some(messages)) => write(writing, opcode(protocol), &messages).await,
            Ok(None) => Ok(()),
            Err(_) => Err(()),
        }
    }
}

async fn write(writing: &mut WriteHalf<DuplexStream>, opcode: OpCode, payload: &[u8]) -> Result<(), ()> {
    let mut frame = BytesMut::new();
    websocket::write_frame(&mut frame, true, opcode, None, payload);
    writing.write_all(&frame).await.map_err(|_| ())
}

/// The 101 that a hub over long polling cannot give, for a client with this key.
pub(crate) fn switching(key: &HeaderValue, to_http2: bool) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    if to_http2 {
        return response;
    }
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(&websocket::accept_key(key.as_bytes())) {
        headers.insert(http::header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}

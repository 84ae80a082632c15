//! POSTs: a client's bytes on their way to the hub, also before any transport has attached (signalr-wire §5.3).

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::sync::Arc;

use super::edge_of;
use crate::answer;
use crate::body::Body;
use crate::edge::{Edge, Kind, UpwardError};
use crate::metrics::Limit;
use crate::table::{EARLY_BYTES_MAX, Entry, State};
use crate::visit::Visit;

/// Largest piece in which a POST's bytes go on, so that one POST is mostly one frame.
const PIECE_BYTES: usize = 64 * 1024;

/// Serves a POST with a token of ours.
pub(super) async fn post(visit: &Visit, entry: Option<Arc<Entry>>, request: Request<Incoming>) -> Response<Body> {
    let Some(entry) = entry else { return answer::no_connection() };
    let limit = visit.live.config.limits.post_bytes_max as u64;
    if http_body::Body::size_hint(request.body()).lower() > limit {
        visit.gate.metrics.limit_reached(Limit::PostBytes);
        let mut response = answer::empty(StatusCode::BAD_REQUEST);
        response.headers_mut().insert(http::header::CONNECTION, HeaderValue::from_static("close"));
        return response;
    }
    let mut ahead = Bytes::new();
    if matches!(*entry.state(), State::Waiting(_)) {
        match post_early(&entry, request).await {
            Early::Answered(response) => return response,
            Early::Attached(bytes, rest) => {
                ahead = bytes;
                return match edge_of(visit, &entry, &rest).await {
                    Ok(edge) => send_up(visit, &edge, ahead, rest).await,
                    Err(refusal) => refusal,
                };
            }
        }
    }
    match edge_of(visit, &entry, &request).await {
        Ok(edge) => send_up(visit, &edge, ahead, request).await,
        Err(refusal) => refusal,
    }
}

/// What became of a POST before any transport.
enum Early {
    /// It is answered.
    Answered(Response<Body>),
    /// A transport has attached meanwhile: these bytes and the rest go to it.
    Attached(Bytes, Request<Incoming>),
}

/// Keeps the bytes of a POST that comes before its transport; more than the reference's pipe takes waits for one.
async fn post_early(entry: &Entry, mut request: Request<Incoming>) -> Early {
    loop {
        let frame = match request.body_mut().frame().await {
            None => return Early::Answered(answer::empty(StatusCode::OK)),
            Some(Err(_)) => return Early::Answered(answer::empty(StatusCode::BAD_REQUEST)),
            Some(Ok(frame)) => frame,
        };
        let Ok(data) = frame.into_data() else { continue };
        loop {
            let changed = entry.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match &mut *entry.state() {
                State::Waiting(waiting) if waiting.early.len() + data.len() <= EARLY_BYTES_MAX => {
                    waiting.early.extend_from_slice(&data);
                    break;
                }
                State::Waiting(_) => {}
                State::Attaching(Kind::WebSocket | Kind::WebTransport)
                | State::WebSocket
                | State::Stateful(_)
                | State::Passed(_)
                | State::Finished => {
                    return Early::Answered(answer::empty(StatusCode::NOT_FOUND));
                }
                State::Attaching(_) | State::Edge(_) => return Early::Attached(data, request),
            }
            changed.await;
        }
    }
}

/// Passes a POST's bytes to the hub; the answer waits until all of them are written (signalr-wire §5.3).
async fn send_up(visit: &Visit, edge: &Edge, ahead: Bytes, request: Request<Incoming>) -> Response<Body> {
    let mut sending = match edge.sending().await {
        Ok(sending) => sending,
        Err(error) => return unsendable(edge, &error),
    };
    let mut body = request.into_body();
    let mut gathered = BytesMut::from(&ahead[..]);
    let mut pace = Pace::new(visit);
    let broken = loop {
        match pace.next(&mut body).await {
            Some(Ok(data)) => gathered.extend_from_slice(&data),
            Some(Err(Unread::TooSlow)) => {
                visit.gate.metrics.limit_reached(Limit::BodyRate);
                break true;
            }
            Some(Err(Unread::TooLong)) => {
                visit.gate.metrics.limit_reached(Limit::PostBytes);
                break true;
            }
            Some(Err(Unread::Broken)) => break true,
            None => break false,
        }
        // What is there goes on together; nothing waits for what is not there yet (rule E1).
        let more = gathered.len() < PIECE_BYTES && pace.has_more(&mut body, &mut gathered);
        if !more && let Err(error) = sending.pass(gathered.split().freeze()).await {
            return unsendable(edge, &error);
        }
    };
    if let Err(error) = sending.pass(gathered.freeze()).await {
        return unsendable(edge, &error);
    }
    answer::empty(if broken { StatusCode::BAD_REQUEST } else { StatusCode::OK })
}

/// The answer to bytes that cannot go on. Between a hub's Close and the poll that tells the end it is still 200.
fn unsendable(edge: &Edge, error: &UpwardError) -> Response<Body> {
    match error {
        UpwardError::Hub(_) if edge.kind == Kind::LongPolling && !edge.over.is_cancelled() => {
            answer::empty(StatusCode::OK)
        }
        _ => answer::empty(StatusCode::NOT_FOUND),
    }
}

/// Why a body was not read to its end.
#[derive(Debug, Clone, Copy)]
enum Unread {
    /// It came slower than `limits.body_rate_min`.
    TooSlow,
    /// It announced no length and is longer than `limits.post_bytes_max`.
    TooLong,
    /// Its framing is wrong, or the client left.
    Broken,
}

/// Reads a body and gives up on one that is too long or comes too slowly (rule F2).
struct Pace {
    grace: std::time::Duration,
    rate_min: u64,
    since: tokio::time::Instant,
    bytes: u64,
    /// How the body ended, found while looking ahead.
    ended: Option<Result<(), Unread>>,
    bytes_max: u64,
}

impl Pace {
    fn new(visit: &Visit) -> Self {
        let config = &visit.live.config;
        Self {
            grace: config.timeouts.body_grace,
            rate_min: config.limits.body_rate_min as u64,
            since: tokio::time::Instant::now(),
            bytes: 0,
            ended: None,
            bytes_max: config.limits.post_bytes_max as u64,
        }
    }

    /// When the bytes so far are too few.
    fn deadline(&self) -> tokio::time::Instant {
        let earned = self.bytes.checked_div(self.rate_min).unwrap_or(u64::from(u32::MAX));
        self.since + self.grace + std::time::Duration::from_secs(earned)
    }

    /// Takes what has come already; whether the body is at its end or broken, which the next look tells.
    fn has_more(&mut self, body: &mut Incoming, gathered: &mut BytesMut) -> bool {
        while gathered.len() < PIECE_BYTES {
            match body.frame().now_or_never() {
                None => return false,
                Some(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.bytes += data.len() as u64;
                        gathered.extend_from_slice(&data);
                    }
                }
                Some(None) => {
                    self.ended = Some(Ok(()));
                    return true;
                }
                Some(Some(Err(_))) => {
                    self.ended = Some(Err(Unread::Broken));
                    return true;
                }
            }
        }
        false
    }

    async fn next(&mut self, body: &mut Incoming) -> Option<Result<Bytes, Unread>> {
        match self.ended.take() {
            Some(Ok(())) => return None,
            Some(Err(unread)) => return Some(Err(unread)),
            None => {}
        }
        if self.bytes > self.bytes_max {
            return Some(Err(Unread::TooLong));
        }
        loop {
            let frame = match tokio::time::timeout_at(self.deadline(), body.frame()).await {
                Err(_) => return Some(Err(Unread::TooSlow)),
                Ok(None) => return None,
                Ok(Some(Err(_))) => return Some(Err(Unread::Broken)),
                Ok(Some(Ok(frame))) => frame,
            };
            if let Ok(data) = frame.into_data() {
                self.bytes += data.len() as u64;
                if self.bytes > self.bytes_max {
                    return Some(Err(Unread::TooLong));
                }
                return Some(Ok(data));
            }
        }
    }
}

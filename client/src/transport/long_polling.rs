//! The long-polling transport (signalr-wire §5.3, §5.4); its rules are `hubgate_protocol::long_polling`'s.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri};
use hubgate_protocol::long_polling::{self, End, PollingClient, Request};
use tokio::time::timeout;

use super::Event;
use super::poster::{Requests, UnderWay};
use crate::error::ClientError;
use crate::http_client::{Answer, HttpClient, HttpError};

/// Time for an answer to a poll, above the server's own 90 s.
const POLL_TIMEOUT: Duration = Duration::from_secs(120);
/// Time for the last POSTs and the DELETE.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// An open long-polling connection.
pub(crate) struct LongPolling {
    requests: Requests,
    client: PollingClient,
    /// Bytes that the client does not take yet.
    waiting: BytesMut,
    poll: Option<PollUnderWay>,
    post: Option<UnderWay>,
    delete: Option<UnderWay>,
}

/// A poll that may time out.
type PollUnderWay = std::pin::Pin<Box<dyn Future<Output = Option<Result<Answer, HttpError>>> + Send>>;

impl std::fmt::Debug for LongPolling {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LongPolling").field("client", &self.client).finish_non_exhaustive()
    }
}

impl LongPolling {
    /// Makes the first poll and waits for its answer.
    pub(crate) async fn connect(http: &Arc<HttpClient>, uri: &Uri, headers: &HeaderMap) -> Result<Self, ClientError> {
        let requests = Requests { http: Arc::clone(http), uri: uri.clone(), headers: headers.clone() };
        let waiting = BytesMut::new();
        let mut opening =
            Self { requests, client: PollingClient::new(), waiting, poll: None, post: None, delete: None };
        match poll_fn(|cx| opening.step(cx, true)).await {
            long_polling::Event::Opened => Ok(opening),
            long_polling::Event::Ended(end) => Err(ClientError::Transport(ended(end).unwrap_or_default())),
            long_polling::Event::Received(_) => Err(ClientError::Transport("data in the first poll".to_owned())),
        }
    }

    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.waiting.extend_from_slice(bytes);
        self.refill();
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.waiting.len() + self.client.queued_bytes()
    }

    pub(super) async fn drive(&mut self, read: bool) -> Option<Event> {
        let queued_before = self.queued_bytes();
        poll_fn(|cx| {
            while let Poll::Ready(event) = self.step(cx, read) {
                match event {
                    long_polling::Event::Opened => {}
                    long_polling::Event::Received(bytes) => return Poll::Ready(Some(Event::Received(bytes))),
                    long_polling::Event::Ended(end) => return Poll::Ready(Some(Event::Ended(ended(end)))),
                }
            }
            if self.queued_bytes() < queued_before { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    pub(super) async fn stop(mut self) {
        self.client.stop();
        let stopping = async { while !matches!(self.drive(true).await, Some(Event::Ended(_))) {} };
        if timeout(STOP_TIMEOUT, stopping).await.is_err() {
            tracing::debug!("the server did not answer the DELETE");
        }
    }

    /// Makes what requests there are to make, until there is an event. Without `read` no poll is answered.
    fn step(&mut self, cx: &mut Context<'_>, read: bool) -> Poll<long_polling::Event> {
        loop {
            self.refill();
            while let Some(request) = self.client.next_request() {
                match request {
                    Request::Poll => self.poll = Some(self.make_poll()),
                    Request::Post(body) => self.post = Some(self.requests.make(Method::POST, body)),
                    Request::Delete => self.delete = Some(self.requests.make(Method::DELETE, Bytes::new())),
                }
            }
            if let Some(event) = self.client.next_event() {
                return Poll::Ready(event);
            }
            let mut answered = false;
            if let Some(Poll::Ready(answer)) = self.post.as_mut().map(|post| post.as_mut().poll(cx)) {
                self.post = None;
                answered = true;
                match answer {
                    Ok(answer) => self.client.post_answered(answer.status),
                    Err(_) => self.client.request_failed(),
                }
            }
            if let Some(Poll::Ready(_)) = self.delete.as_mut().map(|delete| delete.as_mut().poll(cx)) {
                self.delete = None;
                answered = true;
                self.client.delete_answered();
            }
            if read && let Some(Poll::Ready(answer)) = self.poll.as_mut().map(|poll| poll.as_mut().poll(cx)) {
                self.poll = None;
                answered = true;
                match answer {
                    None => self.client.poll_timed_out(),
                    Some(Ok(answer)) => self.client.poll_answered(answer.status, answer.body),
                    Some(Err(_)) => self.client.request_failed(),
                }
            }
            if !answered {
                return Poll::Pending;
            }
        }
    }

    fn make_poll(&self) -> PollUnderWay {
        let poll = self.requests.make(Method::GET, Bytes::new());
        Box::pin(async move { timeout(POLL_TIMEOUT, poll).await.ok() })
    }

    fn refill(&mut self) {
        if !self.waiting.is_empty() && self.client.send(&self.waiting).is_ok() {
            self.waiting.clear();
        }
    }
}

fn ended(end: End) -> Option<String> {
    match end {
        End::Server | End::Stopped => None,
        End::PollRefused { status } => Some(format!("the server answered a poll with {status}")),
        End::PostRefused { status } => Some(format!("the server answered a POST with {status}")),
        End::RequestFailed => Some("a request failed".to_owned()),
    }
}

//! The Server-Sent Events transport (signalr-wire §5.2, §5.3).

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use hubgate_protocol::sse::EventReader;
use hyper::body::Body;
use tokio::time::timeout;

use super::Event;
use super::poster::{Poster, Requests};
use crate::error::ClientError;
use crate::http_client::{HttpClient, Streaming};

/// Time for the last POSTs at the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// An open event stream.
#[derive(Debug)]
pub(crate) struct ServerSentEvents {
    stream: Streaming,
    reader: EventReader,
    events: VecDeque<Bytes>,
    poster: Poster,
}

impl ServerSentEvents {
    pub(crate) async fn connect(
        http: &Arc<HttpClient>,
        uri: &Uri,
        headers: &HeaderMap,
        message_bytes_max: usize,
    ) -> Result<Self, ClientError> {
        let mut accepting = headers.clone();
        accepting.insert(header::ACCEPT, HeaderValue::from_static("text/event-stream"));
        let stream = http.stream(uri, &accepting).await?;
        let status = stream.response.status();
        if status != StatusCode::OK {
            return Err(ClientError::Transport(format!(
                "the server answered the event stream with {}",
                status.as_u16()
            )));
        }
        let requests = Requests { http: Arc::clone(http), uri: uri.clone(), headers: headers.clone() };
        let reader = EventReader::new(message_bytes_max);
        Ok(Self { stream, reader, events: VecDeque::new(), poster: Poster::new(requests) })
    }

    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.poster.queue(bytes);
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.poster.queued_bytes()
    }

    pub(super) async fn drive(&mut self, read: bool) -> Option<Event> {
        let queued_before = self.poster.queued_bytes();
        poll_fn(|cx| {
            if let Poll::Ready(Err(error)) = self.poster.poll(cx) {
                return Poll::Ready(Some(Event::Ended(Some(error))));
            }
            if read && let Poll::Ready(event) = self.read(cx) {
                return Poll::Ready(Some(event));
            }
            if self.poster.queued_bytes() < queued_before { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    pub(super) async fn stop(mut self) {
        let posted = timeout(STOP_TIMEOUT, poll_fn(|cx| self.poster.poll(cx))).await;
        if !matches!(posted, Ok(Ok(()))) {
            tracing::debug!("the last messages were not posted");
        }
    }

    fn read(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Poll::Ready(Event::Received(event));
            }
            let Poll::Ready(frame) = Pin::new(self.stream.response.body_mut()).poll_frame(cx) else {
                return Poll::Pending;
            };
            let data = match frame {
                None => return Poll::Ready(Event::Ended(None)),
                Some(Err(error)) => return Poll::Ready(Event::Ended(Some(error.to_string()))),
                Some(Ok(frame)) => frame.into_data().unwrap_or_default(),
            };
            let mut events = Vec::new();
            if let Err(error) = self.reader.feed(&data, &mut events) {
                return Poll::Ready(Event::Ended(Some(error.to_string())));
            }
            self.events.extend(events);
        }
    }
}

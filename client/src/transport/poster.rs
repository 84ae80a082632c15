//! Client → server where the transport has no upstream of its own: one POST at a time, queued bytes together.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Uri};

use crate::http_client::{Answer, HttpClient, HttpError};

/// A request under way.
pub(super) type UnderWay = Pin<Box<dyn Future<Output = Result<Answer, HttpError>> + Send>>;

/// Where and how requests are made.
#[derive(Debug, Clone)]
pub(super) struct Requests {
    pub(super) http: Arc<HttpClient>,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

impl Requests {
    pub(super) fn make(&self, method: Method, body: Bytes) -> UnderWay {
        let Self { http, uri, headers } = self.clone();
        Box::pin(async move { http.request(method, &uri, &headers, body).await })
    }
}

/// Posts what is queued.
pub(super) struct Poster {
    requests: Requests,
    queue: BytesMut,
    under_way: Option<UnderWay>,
}

impl std::fmt::Debug for Poster {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Poster").field("queued", &self.queue.len()).finish_non_exhaustive()
    }
}

impl Poster {
    pub(super) fn new(requests: Requests) -> Self {
        Self { requests, queue: BytesMut::new(), under_way: None }
    }

    pub(super) fn queue(&mut self, bytes: &[u8]) {
        self.queue.extend_from_slice(bytes);
    }

    pub(super) fn queued_bytes(&self) -> usize {
        self.queue.len()
    }

    /// Ready without error when everything is posted.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        loop {
            if self.under_way.is_none() {
                if self.queue.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                self.under_way = Some(self.requests.make(Method::POST, self.queue.split().freeze()));
            }
            let Some(under_way) = &mut self.under_way else { return Poll::Ready(Ok(())) };
            let Poll::Ready(answer) = under_way.as_mut().poll(cx) else { return Poll::Pending };
            self.under_way = None;
            match answer {
                Ok(answer) if (200..300).contains(&answer.status) => {}
                Ok(answer) => return Poll::Ready(Err(format!("the server answered a POST with {}", answer.status))),
                Err(error) => return Poll::Ready(Err(error.to_string())),
            }
        }
    }
}

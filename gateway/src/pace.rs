//! Request bodies on their way to a backend, given up when their client sends them too slowly (rule F2).

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use crate::body::BodyError;

/// A body that must come at `body_rate_min`, `body_grace` aside. Only time spent waiting for the client counts.
#[derive(Debug)]
pub(crate) struct Paced {
    body: Incoming,
    grace: Duration,
    rate_min: u64,
    bytes: u64,
    waited: Duration,
    waits: Option<(Instant, Pin<Box<Sleep>>)>,
    too_slow: Arc<AtomicBool>,
}

impl Paced {
    /// Watches a body; `too_slow` is set when it is given up.
    pub(crate) fn new(body: Incoming, grace: Duration, rate_min: u64, too_slow: Arc<AtomicBool>) -> Self {
        Self { body, grace, rate_min, bytes: 0, waited: Duration::ZERO, waits: None, too_slow }
    }

    /// The body's length as far as it is known.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// Whether nothing more comes.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// The next piece.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            if let Some((since, _)) = self.waits.take() {
                self.waited += since.elapsed();
            }
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.bytes += data.map_or(0, |data| data.len() as u64);
            return Poll::Ready(frame.map(|frame| frame.map_err(BodyError::from)));
        }
        let Some(earned) = self.bytes.checked_div(self.rate_min) else { return Poll::Pending };
        let patience = (self.grace + Duration::from_secs(earned)).saturating_sub(self.waited);
        let (_, sleep) = self.waits.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(tokio::time::sleep_until(now + patience)))
        });
        if sleep.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.too_slow.store(true, Relaxed);
        Poll::Ready(Some(Err(BodyError::GivenUp)))
    }
}

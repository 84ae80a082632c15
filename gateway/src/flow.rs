//! Answers on their way to a client: what has been handed to HTTP and not yet been written.
//!
//! HTTP/2 gives each stream a window of its own, so that a stream can stand still on a connection that moves. A [`Flow`]
//! knows since when its client takes nothing, and [`Streams`] resets the stream after the send time-out (rule F3).
//!
//! Invariant: an HTTP/2 answer ends only when its last byte was written, so that no rest waits in HTTP unwatched.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;
use http::Response;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, Sleep};

use crate::body::{Body, BodyError};
use crate::edge::{Edge, Handover};
use crate::link::Clock;

tokio::task_local! {
    /// The flow of the HTTP/2 stream whose task this is.
    static FLOW: Arc<Flow>;
}

/// What of one answer HTTP has and the client has not.
#[derive(Debug)]
pub(crate) struct Flow {
    state: Mutex<FlowState>,
    clock: Arc<Clock>,
}

#[derive(Debug, Default)]
struct FlowState {
    pieces: usize,
    /// The last progress while pieces wait.
    since: Option<Instant>,
    ending: Option<Waker>,
}

impl Flow {
    /// A flow whose waiting bytes are counted among all.
    pub(crate) fn new(clock: Arc<Clock>) -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), clock })
    }

    fn state(&self) -> MutexGuard<'_, FlowState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn piece(self: &Arc<Self>, bytes: Bytes) -> Piece {
        let mut state = self.state();
        state.pieces += 1;
        state.since.get_or_insert_with(Instant::now);
        drop(state);
        self.clock.buffered().add(bytes.len());
        Piece { len: bytes.len(), bytes, flow: Some(Arc::clone(self)), handover: None }
    }

    fn written(&self, len: usize) {
        self.clock.buffered().sub(len);
        let mut state = self.state();
        state.pieces = state.pieces.saturating_sub(1);
        state.since = (state.pieces > 0).then(Instant::now);
        if state.pieces == 0
            && let Some(ending) = state.ending.take()
        {
            ending.wake();
        }
    }

    fn poll_written(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.state();
        if state.pieces == 0 {
            return Poll::Ready(());
        }
        state.ending = Some(cx.waker().clone());
        Poll::Pending
    }

    fn waits_since(&self) -> Option<Instant> {
        self.state().since
    }
}

/// Bytes of an answer; they are gone when they are written.
#[derive(Debug)]
pub(crate) struct Piece {
    bytes: Bytes,
    len: usize,
    flow: Option<Arc<Flow>>,
    /// The poll whose answer these bytes are; with HTTP/2 a stream tells what was written, not a flush.
    handover: Option<(Arc<Handover>, bool)>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(flow) = &self.flow {
            flow.written(self.len);
        }
        match self.handover.take() {
            Some((handover, true)) if !self.bytes.has_remaining() => handover.handed_over(),
            Some((handover, false)) if !self.bytes.has_remaining() => handover.written(),
            _ => {}
        }
    }
}

/// What an HTTP/1.1 connection and its requests tell each other.
#[derive(Debug)]
pub(crate) struct Carrier {
    /// The next bytes of the client begin a request, so that they have the time of headers (rule F2).
    awaits: AtomicBool,
    aborted: AtomicBool,
    writer: AtomicWaker,
}

impl Carrier {
    /// A connection before its first request.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { awaits: AtomicBool::new(true), aborted: AtomicBool::new(false), writer: AtomicWaker::new() })
    }

    /// Whether a request is awaited or has begun to come.
    pub(crate) fn awaited(&self) -> bool {
        self.awaits.load(Relaxed)
    }

    /// The headers are there.
    pub(crate) fn came(&self) {
        self.awaits.store(false, Relaxed);
    }

    /// Ends the connection if its client does not read just now.
    pub(crate) fn abort(&self) {
        self.aborted.store(true, Relaxed);
        self.writer.wake();
    }

    /// Whether a write that is stuck is to be given up; it is woken when it is.
    pub(crate) fn gives_up(&self, cx: &Context<'_>) -> bool {
        self.writer.register(cx.waker());
        self.aborted.load(Relaxed)
    }
}

/// An answer's body on its way to the client.
#[derive(Debug)]
pub(crate) struct ToClient {
    body: Body,
    flow: Option<Arc<Flow>>,
    is_http2: bool,
    carrier: Option<Arc<Carrier>>,
    handover: Option<Arc<Handover>>,
}

impl ToClient {
    /// The answer to a request on an HTTP/1.1 connection; streams are counted among all waiting bytes.
    pub(crate) fn over_http1(mut answer: Response<Body>, carrier: Arc<Carrier>, clock: &Arc<Clock>) -> Response<Self> {
        if let Some(edge) = answer.extensions_mut().remove::<Arc<Edge>>() {
            edge.carried_by(Arc::clone(&carrier));
        }
        let handover = answer.extensions_mut().remove();
        answer.map(|body| {
            let streams = matches!(body, Body::Channel(_) | Body::Stream(_) | Body::Resumed(..));
            let flow = streams.then(|| Flow::new(Arc::clone(clock)));
            Self { body, flow, is_http2: false, carrier: Some(carrier), handover }
        })
    }

    /// The answer of the HTTP/2 stream whose task this is.
    pub(crate) fn over_http2(mut answer: Response<Body>) -> Response<Self> {
        let flow = FLOW.try_with(Arc::clone).ok();
        let handover = answer.extensions_mut().remove();
        answer.map(|body| Self { body, flow, is_http2: true, carrier: None, handover })
    }
}

impl HttpBody for ToClient {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if frame.is_none()
            && this.is_http2
            && let Some(flow) = &this.flow
        {
            ready!(flow.poll_written(cx));
        }
        let (flow, is_http2, handover) = (this.flow.as_ref(), this.is_http2, &mut this.handover);
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| {
                frame.map_data(|bytes| {
                    let mut piece = match flow {
                        Some(flow) => flow.piece(bytes),
                        None => Piece { len: bytes.len(), bytes, flow: None, handover: None },
                    };
                    // A poll's answer is one piece.
                    piece.handover = handover.take().map(|handover| (handover, is_http2));
                    piece
                })
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        match (&self.body, self.is_http2) {
            (Body::Empty, _) | (_, false) => self.body.is_end_stream(),
            // What was handed over is not written yet: see the module's invariant.
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for ToClient {
    fn drop(&mut self) {
        if let Some(carrier) = &self.carrier {
            carrier.awaits.store(true, Relaxed);
        }
    }
}

/// Runs the streams of one HTTP/2 connection, and resets those whose client takes nothing for the send time-out.
#[derive(Debug, Clone)]
pub(crate) struct Streams {
    live: Arc<AtomicUsize>,
    begun: Arc<AtomicUsize>,
    clock: Arc<Clock>,
    send_timeout: Duration,
}

impl Streams {
    /// A connection without streams.
    pub(crate) fn new(clock: Arc<Clock>, send_timeout: Duration) -> Self {
        Self { live: Arc::default(), begun: Arc::default(), clock, send_timeout }
    }

    /// How many are under way, and how many there were.
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.live.load(Relaxed), self.begun.load(Relaxed))
    }
}

/// Counts a stream as long as it lives.
struct Alive(Arc<AtomicUsize>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<F: Future<Output = ()> + Send + 'static> hyper::rt::Executor<F> for Streams {
    fn execute(&self, stream: F) {
        self.live.fetch_add(1, Relaxed);
        self.begun.fetch_add(1, Relaxed);
        let alive = Alive(Arc::clone(&self.live));
        let flow = Flow::new(Arc::clone(&self.clock));
        let watched = watch(stream, Arc::clone(&flow), self.send_timeout, alive);
        tokio::spawn(FLOW.scope(flow, watched));
    }
}

/// Runs a stream until its end, or until its client has taken nothing for the time-out: dropping it resets it.
async fn watch(stream: impl Future<Output = ()>, flow: Arc<Flow>, timeout: Duration, alive: Alive) {
    let mut stream = pin!(stream);
    let mut patience: Option<Pin<Box<Sleep>>> = None;
    poll_fn(|cx| {
        loop {
            if stream.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(since) = flow.waits_since() else {
                patience = None;
                return Poll::Pending;
            };
            let until = since + timeout;
            let sleep = patience.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until)));
            if sleep.deadline() != until {
                sleep.as_mut().reset(until);
            }
            ready!(sleep.as_mut().poll(cx));
            if flow.waits_since() == Some(since) {
                tracing::debug!("an HTTP/2 stream is reset: its client takes nothing");
                return Poll::Ready(());
            }
        }
    })
    .await;
    drop(alive);
}

//! Bodies of requests and answers: nothing, a few bytes, or a stream that is passed on piece by piece.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::mpsc;

use crate::pace::Paced;

use crate::observe::Followed;

/// Why a body ended early; the transport cuts the message off.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// The other side of a forwarded body broke.
    #[error(transparent)]
    Http(#[from] hyper::Error),
    /// The gateway gave the stream up.
    #[error("the stream was given up")]
    GivenUp,
}

/// The body of an answer to a client, or of a request to a backend.
#[derive(Debug, Default)]
pub(crate) enum Body {
    /// No bytes.
    #[default]
    Empty,
    /// These bytes, with a length.
    Full(Bytes),
    /// These bytes, in chunks: the reference's short texts carry no length (signalr-wire §2).
    Chunked(Bytes),
    /// A body passed on as it comes.
    Stream(Incoming),
    /// A request's body, given up when it comes too slowly.
    Paced(Box<Paced>),
    /// Bytes read ahead, then the rest as it comes.
    Resumed(Bytes, Incoming),
    /// One of these whose end is told to the access log.
    Followed(Box<Followed>),
    /// What a writer task sends; it holds at most one piece.
    Channel(mpsc::Receiver<Result<Bytes, BodyError>>),
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) | Self::Chunked(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Self::Empty;
                Poll::Ready((!bytes.is_empty()).then_some(Ok(Frame::data(bytes))))
            }
            Self::Resumed(head, _) if !head.is_empty() => Poll::Ready(Some(Ok(Frame::data(std::mem::take(head))))),
            Self::Stream(body) | Self::Resumed(_, body) => {
                Pin::new(body).poll_frame(cx).map(|frame| frame.map(|frame| frame.map_err(BodyError::from)))
            }
            Self::Followed(followed) => followed.poll_frame(cx),
            Self::Paced(body) => body.poll_frame(cx),
            Self::Channel(pieces) => pieces.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Full(bytes) => bytes.is_empty(),
            Self::Stream(body) => body.is_end_stream(),
            Self::Paced(body) => body.is_end_stream(),
            Self::Resumed(head, body) => head.is_empty() && body.is_end_stream(),
            Self::Followed(followed) => followed.is_end_stream(),
            Self::Chunked(_) | Self::Channel(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(body) => body.size_hint(),
            Self::Paced(body) => body.size_hint(),
            Self::Resumed(head, body) => {
                let mut hint = body.size_hint();
                let ahead = head.len() as u64;
                if let Some(exact) = hint.exact() {
                    hint.set_exact(exact.saturating_add(ahead));
                } else {
                    hint.set_lower(hint.lower().saturating_add(ahead));
                }
                hint
            }
            Self::Followed(followed) => followed.size_hint(),
            Self::Chunked(_) | Self::Channel(_) => SizeHint::default(),
        }
    }
}

//! The byte streams that the gateway reads and writes: TCP, TLS, or one stream of an HTTP/2 connection.
//!
//! [`Watched`] bounds how long a peer may refuse to read: one write that makes no progress for the send time-out ends
//! the stream (signalr-wire §4.4). Its timer exists only while a write is stuck.

use std::future::Future;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsStream;

use crate::flow::Carrier;
use crate::visit::Client;

/// Bytes that [`read_more`] reads at once.
const READ_BYTES_MAX: usize = 4096;
/// Bytes that [`poll_read_onto`] reads at once.
const READ_ONTO_BYTES_MAX: usize = 16 * 1024;

/// One stream of bytes, whatever carries it.
#[derive(Debug)]
pub(crate) enum Stream {
    /// Clear text.
    Tcp(TcpStream),
    /// TLS on TCP, as server or client.
    Tls(Box<TlsStream<TcpStream>>),
    /// A hub over long polling, made to look like a WebSocket.
    Memory(tokio::io::DuplexStream),
    /// What an HTTP/2 extended CONNECT (or anything else that is not a bare socket) became.
    Upgraded(Box<TokioIo<Upgraded>>),
    /// Closed already.
    Closed,
}

impl Stream {
    /// Makes the coming close a reset, so that the peer sees a loss and not an orderly end.
    pub(crate) fn reset_on_close(&self) {
        match self {
            Self::Tcp(tcp) => reset(tcp),
            Self::Tls(tls) => reset(tls.get_ref().0),
            Self::Upgraded(_) | Self::Memory(_) | Self::Closed => {}
        }
    }

    /// Keeps what is written from now on until the close, so that the last bytes and the end are one packet. `false`
    /// where the stream is not a bare socket.
    pub(crate) fn close_with_next_write(&self) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Tcp(tcp) => socket2::SockRef::from(tcp).set_tcp_cork(true).is_ok(),
            _ => false,
        }
    }

    /// Takes the stream and the bytes that were read too far out of an upgraded HTTP connection.
    pub(crate) fn from_upgraded(upgraded: Upgraded) -> (Self, bytes::Bytes) {
        match upgraded.downcast::<TokioIo<Watched>>() {
            Ok(parts) => {
                let watched = parts.io.into_inner();
                if watched.ahead.is_empty() {
                    return (watched.inner, parts.read_buf);
                }
                let rest = [&parts.read_buf[..], &watched.ahead].concat();
                (watched.inner, rest.into())
            }
            Err(upgraded) => (Self::Upgraded(Box::new(TokioIo::new(upgraded))), bytes::Bytes::new()),
        }
    }
}

fn reset(tcp: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(tcp).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "cannot make a close a reset");
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_read(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_read(cx, buf),
            Self::Upgraded(io) => Pin::new(io).poll_read(cx, buf),
            Self::Memory(io) => Pin::new(io).poll_read(cx, buf),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write(cx, buf),
            Self::Tls(io) => Pin::new(io).poll_write(cx, buf),
            Self::Upgraded(io) => Pin::new(io).poll_write(cx, buf),
            Self::Memory(io) => Pin::new(io).poll_write(cx, buf),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Tls(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Upgraded(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Memory(io) => Pin::new(io).poll_write_vectored(cx, bufs),
            Self::Closed => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(io) => io.is_write_vectored(),
            Self::Tls(io) => io.is_write_vectored(),
            Self::Upgraded(io) => io.is_write_vectored(),
            Self::Memory(io) => io.is_write_vectored(),
            Self::Closed => false,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) | Self::Closed => Poll::Ready(Ok(())),
            Self::Tls(io) => Pin::new(io).poll_flush(cx),
            Self::Upgraded(io) => Pin::new(io).poll_flush(cx),
            Self::Memory(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(io) => Pin::new(io).poll_shutdown(cx),
            Self::Tls(io) => Pin::new(io).poll_shutdown(cx),
            Self::Upgraded(io) => Pin::new(io).poll_shutdown(cx),
            Self::Memory(io) => Pin::new(io).poll_shutdown(cx),
            Self::Closed => Poll::Ready(Ok(())),
        }
    }
}

/// Reads once, at most [`READ_ONTO_BYTES_MAX`], and appends it; 0 is the end. Who waits holds no buffer.
pub(crate) fn poll_read_onto(
    cx: &mut Context<'_>,
    stream: &mut (impl AsyncRead + Unpin),
    onto: &mut BytesMut,
) -> Poll<io::Result<usize>> {
    let mut space = [const { MaybeUninit::<u8>::uninit() }; READ_ONTO_BYTES_MAX];
    let mut read = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut read))?;
    onto.extend_from_slice(read.filled());
    Poll::Ready(Ok(read.filled().len()))
}

/// Reads once, at most [`READ_BYTES_MAX`], and appends it; 0 is the end.
pub(crate) async fn read_more(tcp: &mut TcpStream, into: &mut Vec<u8>) -> io::Result<usize> {
    std::future::poll_fn(|cx| {
        // On the stack, so that no connection's future carries it.
        let mut space = [MaybeUninit::uninit(); READ_BYTES_MAX];
        let mut read = ReadBuf::uninit(&mut space);
        ready!(Pin::new(&mut *tcp).poll_read(cx, &mut read))?;
        into.extend_from_slice(read.filled());
        Poll::Ready(Ok(read.filled().len()))
    })
    .await
}

/// A stream under HTTP whose stuck writes end after the send time-out.
#[derive(Debug)]
pub(crate) struct Watched {
    inner: Stream,
    /// What was read of it already.
    ahead: Vec<u8>,
    /// The next write has gone out already, and what is ahead answers it.
    written: bool,
    /// Its peer has ended its side.
    ended: bool,
    send_timeout: Duration,
    client: Option<Arc<Client>>,
    stuck: Option<Pin<Box<Sleep>>>,
    carrier: Option<(Arc<Carrier>, Duration)>,
    head_began: Option<Instant>,
    head_ends: Option<Pin<Box<Sleep>>>,
}

impl Watched {
    /// Watches a stream; `client` is told when a write to it is stuck.
    pub(crate) fn new(inner: Stream, send_timeout: Duration, client: Option<Arc<Client>>) -> Self {
        Self {
            inner,
            ahead: Vec::new(),
            written: false,
            ended: false,
            send_timeout,
            client,
            stuck: None,
            carrier: None,
            head_began: None,
            head_ends: None,
        }
    }

    /// Gives back bytes that were read before: they are read again first.
    pub(crate) fn with_ahead(mut self, ahead: Vec<u8>) -> Self {
        self.ahead = ahead;
        self
    }

    /// Gives back an answer whose request has gone out: the next write is that request, and the answer comes behind it.
    pub(crate) fn with_answer(mut self, answer: Vec<u8>) -> Self {
        self.written = true;
        self.with_ahead(answer)
    }

    /// Takes the write that has gone out already.
    fn repeats(&mut self, cx: &Context<'_>) -> bool {
        if self.written {
            cx.waker().wake_by_ref();
        }
        std::mem::take(&mut self.written)
    }

    /// Ends the stream when the headers of a request take longer than that from their first byte (rule F2).
    pub(crate) fn with_headers_timeout(mut self, carrier: Arc<Carrier>, timeout: Duration) -> Self {
        self.carrier = Some((carrier, timeout));
        self
    }

    /// Takes the time of a request's headers. Most come in one piece: a timer is set only when more of them must be
    /// waited for.
    fn watch_headers(&mut self, cx: &mut Context<'_>, bytes_came: bool) -> io::Result<()> {
        let Some((carrier, timeout)) = &self.carrier else { return Ok(()) };
        if !carrier.awaited() {
            (self.head_began, self.head_ends) = (None, None);
            return Ok(());
        }
        if bytes_came {
            self.head_began.get_or_insert_with(Instant::now);
            return Ok(());
        }
        let Some(began) = self.head_began else { return Ok(()) };
        let ends = self.head_ends.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(began + *timeout)));
        if ends.as_mut().poll(cx).is_ready() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "the headers of a request took too long"));
        }
        Ok(())
    }

    fn watch(&mut self, cx: &mut Context<'_>, progress: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(result) = &progress {
            self.stuck = None;
            if let (Err(_), Some(client)) = (result, &self.client) {
                client.broke();
            }
            return progress;
        }
        let timeout = self.send_timeout;
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + timeout)));
        let given_up = self.carrier.as_ref().is_some_and(|(carrier, _)| carrier.gives_up(cx));
        if !given_up {
            ready!(stuck.as_mut().poll(cx));
        }
        self.inner.reset_on_close();
        if let Some(client) = &self.client {
            client.broke();
            client.stuck();
        }
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer has stopped reading")))
    }
}

impl AsyncRead for Watched {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.written {
            return Poll::Pending;
        }
        if !self.ahead.is_empty() {
            let taken = self.ahead.len().min(buf.remaining());
            buf.put_slice(self.ahead.get(..taken).unwrap_or_default());
            self.ahead.drain(..taken);
            if self.ahead.is_empty() {
                self.ahead = Vec::new();
            }
            self.watch_headers(cx, true)?;
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let progress = Pin::new(&mut self.inner).poll_read(cx, buf);
        if let (Poll::Ready(Err(_)), Some(client)) = (&progress, &self.client) {
            client.broke();
        }
        let bytes_came = buf.filled().len() > before;
        self.ended |= progress.is_ready() && !bytes_came && buf.remaining() > 0;
        self.watch_headers(cx, bytes_came)?;
        progress
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.repeats(cx) {
            return Poll::Ready(Ok(buf.len()));
        }
        let progress = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.watch(cx, progress)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.repeats(cx) {
            return Poll::Ready(Ok(bufs.iter().map(|buf| buf.len()).sum()));
        }
        let progress = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.watch(cx, progress)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        if let Some(client) = &self.client {
            client.flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ended && matches!(self.inner, Stream::Tcp(_)) {
            // Whoever shuts closes next, and with nothing left to read a close says the same.
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

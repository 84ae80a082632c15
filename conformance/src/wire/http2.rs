//! HTTP/2 streams in clear text, for the rows about extended CONNECT.

use bytes::{Bytes, BytesMut};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream, client};
use http::{Method, Request as HttpRequest};
use tokio::net::TcpStream;

use super::http::{Answer, Framing, Head};
use super::{End, Error};

/// An HTTP/2 connection.
#[derive(Debug)]
pub struct Http2 {
    requests: client::SendRequest<Bytes>,
    authority: String,
}

/// One stream of an HTTP/2 connection after its answer's headers.
#[derive(Debug)]
pub struct Channel {
    send: SendStream<Bytes>,
    receive: RecvStream,
}

impl Http2 {
    /// Connects with prior knowledge and waits for the server's settings.
    ///
    /// # Errors
    /// [`Error::Connect`] or [`Error::Http2`].
    pub async fn open(address: &str) -> Result<Self, Error> {
        let stream =
            TcpStream::connect(address).await.map_err(|cause| Error::Connect { address: address.to_owned(), cause })?;
        let (requests, connection) = client::handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self { requests: requests.ready().await?, authority: address.to_owned() })
    }

    /// Whether the server announced extended CONNECT in its settings.
    #[must_use]
    pub fn extended_connect_announced(&self) -> bool {
        self.requests.is_extended_connect_protocol_enabled()
    }

    /// Sends a request without body; with `protocol` an extended CONNECT, whose stream stays open.
    ///
    /// # Errors
    /// [`Error::Http2`], or [`Error::Malformed`] for a target that is no URI.
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        protocol: Option<&'static str>,
        headers: &[(&str, &str)],
    ) -> Result<(Head, Channel), Error> {
        let malformed = |problem: &dyn std::fmt::Display| Error::Malformed(format!("request {target}: {problem}"));
        let method = Method::from_bytes(method.as_bytes()).map_err(|problem| malformed(&problem))?;
        let mut request = HttpRequest::builder().method(method).uri(format!("http://{}{target}", self.authority));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(()).map_err(|problem| malformed(&problem))?;
        if let Some(protocol) = protocol {
            request.extensions_mut().insert(Protocol::from_static(protocol));
        }
        let (answer, send) = self.requests.send_request(request, protocol.is_none())?;
        let (parts, receive) = answer.await?.into_parts();
        let headers = parts
            .headers
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let head = Head { version: "HTTP/2".into(), status: parts.status.as_u16(), reason: String::new(), headers };
        Ok((head, Channel { send, receive }))
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// As [`Http2::request`], and [`Error::Ended`] when the stream is reset before its end.
    pub async fn exchange(
        &mut self,
        method: &str,
        target: &str,
        protocol: Option<&'static str>,
        headers: &[(&str, &str)],
    ) -> Result<Answer, Error> {
        let (head, mut channel) = self.request(method, target, protocol, headers).await?;
        let mut body = BytesMut::new();
        loop {
            match channel.read(&mut body).await? {
                None => {}
                Some(End::EndStream) => {
                    return Ok(Answer { head, body: body.to_vec(), framing: Framing::Absent, interim: Vec::new() });
                }
                Some(end) => return Err(Error::Ended { end, received: super::show(&body) }),
            }
        }
    }
}

impl Channel {
    /// Sends bytes, and END_STREAM when `end`.
    ///
    /// # Errors
    /// [`Error::Http2`].
    pub async fn send(&mut self, bytes: &[u8], end: bool) -> Result<(), Error> {
        Ok(self.send.send_data(Bytes::copy_from_slice(bytes), end)?)
    }

    /// Reads more bytes into `buffer`, or tells how the stream ended.
    ///
    /// # Errors
    /// [`Error::Http2`] when the whole connection failed.
    pub async fn read(&mut self, buffer: &mut BytesMut) -> Result<Option<End>, Error> {
        match self.receive.data().await {
            Some(Ok(bytes)) => {
                buffer.extend_from_slice(&bytes);
                let _ = self.receive.flow_control().release_capacity(bytes.len());
                Ok(None)
            }
            None => Ok(Some(End::EndStream)),
            Some(Err(error)) if error.is_reset() => Ok(Some(End::ResetStream(error.reason().map_or(0, u32::from)))),
            Some(Err(error)) => Err(error.into()),
        }
    }

    /// Resets the stream with CANCEL.
    pub fn reset(mut self) {
        self.send.send_reset(Reason::CANCEL);
    }
}

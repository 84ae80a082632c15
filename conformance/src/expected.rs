//! Answers as the wire digest describes them (`signalr-wire` §2), and their comparison with seen ones.
//!
//! Compared are status, body and all headers by name and value, in any order. `Date` and `Server` are left out, and
//! so is the framing (`Content-Length` or chunks) where the target is a gateway (edge rule B9).

use crate::failure::{Outcome, holds, same};
use crate::target::Target;
use crate::wire::http::{Answer, Framing, Head};
use crate::wire::show;

/// The text for unknown and removed connections.
pub const NO_CONNECTION: &str = "No Connection with that ID";
/// The text for requests without `id`.
pub const ID_REQUIRED: &str = "Connection ID required";
/// The text for a second kind of transport on one connection.
pub const TRANSPORT_CHANGED: &str = "Cannot change transports mid-connection";
/// The text for DELETE on anything but a long-polling connection.
pub const NOT_DELETABLE: &str = "Cannot terminate this connection using the DELETE endpoint.";
/// The text for POST on a WebSocket connection.
pub const POST_REFUSED: &str = "POST requests are not allowed for WebSocket connections.";

/// Headers that describe framing, the server or the moment.
const NOT_COMPARED: [&str; 4] = ["date", "server", "content-length", "transfer-encoding"];

/// How the body must be framed when the target is compared that closely.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frames {
    /// With its exact `Content-Length`.
    Length,
    /// In chunks.
    Chunked,
    /// Neither.
    Absent,
}

/// An answer that must come.
#[derive(Debug, Clone)]
pub struct Expected {
    status: u16,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    frames: Frames,
}

impl Expected {
    fn new(status: u16, body: &[u8], frames: Frames) -> Self {
        Self { status, headers: Vec::new(), body: Some(body.to_vec()), frames }
    }

    /// An error with a text: `text/plain`, chunked.
    #[must_use]
    pub fn text(status: u16, text: &str) -> Self {
        Self::new(status, text.as_bytes(), Frames::Chunked).header("content-type", "text/plain")
    }

    /// An answer without body: `text/plain`, `Content-Length: 0`.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self::new(status, b"", Frames::Length).header("content-type", "text/plain")
    }

    /// An answer of the host, not of SignalR: no body, no type.
    #[must_use]
    pub fn bare(status: u16) -> Self {
        Self::new(status, b"", Frames::Length)
    }

    /// 404 `No Connection with that ID`.
    #[must_use]
    pub fn no_connection() -> Self {
        Self::text(404, NO_CONNECTION)
    }

    /// A negotiate answer with that JSON.
    #[must_use]
    pub fn json(text: &str) -> Self {
        Self::new(200, text.as_bytes(), Frames::Length).header("content-type", "application/json")
    }

    /// A poll's answer with data.
    #[must_use]
    pub fn poll(body: &str) -> Self {
        Self::new(200, body.as_bytes(), Frames::Length).header("content-type", "application/octet-stream").polled()
    }

    /// The 204 that ends a poll.
    #[must_use]
    pub fn no_content() -> Self {
        Self::empty(204).frames(Frames::Absent).polled()
    }

    /// The same with the three cache headers of the long-polling branch.
    #[must_use]
    pub fn polled(self) -> Self {
        self.header("cache-control", "no-cache, no-store")
            .header("pragma", "no-cache")
            .header("expires", "Thu, 01 Jan 1970 00:00:00 GMT")
    }

    /// The same without `Content-Type`.
    #[must_use]
    pub fn untyped(mut self) -> Self {
        self.headers.retain(|(name, _)| name != "content-type");
        self
    }

    /// The same with another framing.
    #[must_use]
    pub fn frames(mut self, frames: Frames) -> Self {
        self.frames = frames;
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same with any body.
    #[must_use]
    pub fn any_body(mut self) -> Self {
        self.body = None;
        self
    }

    /// Compares with what came.
    ///
    /// # Errors
    /// A mismatch naming the part that differs.
    pub fn check(&self, target: &Target, what: &str, seen: &Answer) -> Outcome {
        let part = |name: &str| format!("{what}: {name} of {}", seen.brief());
        same(part("status"), self.status, seen.head.status)?;
        if let Some(body) = &self.body {
            same(part("body"), show(body), show(&seen.body))?;
        }
        same(part("headers"), sorted(self.headers.clone()), compared_headers(&seen.head))?;
        if target.is_gateway() {
            return Ok(());
        }
        let framed = match self.frames {
            Frames::Length => seen.framing == Framing::Length,
            Frames::Chunked => matches!(seen.framing, Framing::Chunked(_)),
            Frames::Absent => seen.framing == Framing::Absent,
        };
        holds(part("framing"), framed, (&self.frames, &seen.framing))
    }
}

/// Checks the headers of an accepted upgrade: exactly the three of RFC 6455, and `more`.
///
/// # Errors
/// A mismatch.
pub fn check_switched(what: &str, head: &Head, more: &[(&str, &str)]) -> Outcome {
    let accept = crate::wire::web_socket::accept_of_key();
    let mut expected = vec![("connection", "upgrade"), ("upgrade", "websocket"), ("sec-websocket-accept", &accept)];
    expected.extend_from_slice(more);
    let expected = expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    let mut seen = compared_headers(head);
    for (name, value) in &mut seen {
        if name == "connection" {
            value.make_ascii_lowercase();
        }
    }
    same(format!("{what}: status"), 101, head.status)?;
    same(format!("{what}: headers"), sorted(expected), seen)
}

/// All headers that are compared: names in lower case, sorted.
#[must_use]
pub fn compared_headers(head: &Head) -> Vec<(String, String)> {
    let headers = head.headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone()));
    sorted(headers.filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str())).collect())
}

fn sorted(mut headers: Vec<(String, String)>) -> Vec<(String, String)> {
    headers.sort();
    headers
}

//! Long polling: what a server answers to a poll, and what a client asks next (signalr-wire §5.4).
//!
//! [`PollOutcome::answer`] is the server's table. [`PollingClient`] is the client's half: it says which request to make
//! and takes the answers, so that a hub without WebSockets can be reached (edge-rules D5).
//!
//! Invariant: at most one poll and one POST are under way, so bytes keep their order in both directions.

use bytes::{Bytes, BytesMut};

use crate::limits::POST_QUEUE_BYTES_MAX;

/// Headers of every answer to a poll, errors included (signalr-wire §4.1).
pub const CACHE_HEADERS: [(&str, &str); 3] =
    [("Cache-Control", "no-cache, no-store"), ("Pragma", "no-cache"), ("Expires", "Thu, 01 Jan 1970 00:00:00 GMT")];

/// How a poll ended for the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PollOutcome {
    /// The first poll of a connection: answered at once, without data.
    First,
    /// Data is there: all whole messages buffered right now.
    Data(Bytes),
    /// Nothing came for the poll time-out.
    TimedOut,
    /// A newer poll took over, or the connection is being disposed.
    Replaced,
    /// The poll lost the race to replace the one under way.
    Conflict,
    /// The hub ended and no data is left.
    Ended,
    /// The hub or the transport failed.
    Failed,
}

/// The answer to a poll. [`CACHE_HEADERS`] come on top.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PollAnswer {
    /// HTTP status.
    pub status: u16,
    /// Media type.
    pub content_type: &'static str,
    /// Body; with a `Content-Length` unless the status is 204.
    pub body: Bytes,
    /// Whether the connection is over and to be forgotten: later requests get 404.
    pub ends_connection: bool,
}

impl PollOutcome {
    /// What the server answers (signalr-wire §5.4).
    #[must_use]
    pub fn answer(self) -> PollAnswer {
        const TEXT: &str = "text/plain";
        const BYTES: &str = "application/octet-stream";
        let (status, content_type, body, ends_connection) = match self {
            Self::First => (200, BYTES, Bytes::new(), false),
            Self::Data(body) => (200, BYTES, body, false),
            Self::TimedOut => (200, TEXT, Bytes::new(), false),
            Self::Replaced => (204, TEXT, Bytes::new(), false),
            Self::Conflict => (409, TEXT, Bytes::new(), false),
            Self::Ended => (204, TEXT, Bytes::new(), true),
            Self::Failed => (500, TEXT, Bytes::new(), false),
        };
        PollAnswer { status, content_type, body, ends_connection }
    }
}

/// A request that a [`PollingClient`] wants made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// GET; tell [`PollingClient::poll_answered`] or [`PollingClient::poll_timed_out`].
    Poll,
    /// POST with this body; tell [`PollingClient::post_answered`].
    Post(Bytes),
    /// DELETE; tell [`PollingClient::delete_answered`]. A poll still under way may be given up.
    Delete,
}

/// What a [`PollingClient`] tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The first poll was answered: the connection is open, the handshake may be sent.
    Opened,
    /// Bytes from the server.
    Received(Bytes),
    /// The connection is over; nothing follows.
    Ended(End),
}

/// Why a long-polling connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server ended it: status 204.
    Server,
    /// This side stopped it.
    Stopped,
    /// The server refused a poll.
    PollRefused {
        /// HTTP status.
        status: u16,
    },
    /// The server refused a POST.
    PostRefused {
        /// HTTP status.
        status: u16,
    },
    /// A request could not be made or its answer not read.
    RequestFailed,
}

/// More bytes were queued than [`POST_QUEUE_BYTES_MAX`]; wait until [`PollingClient::queued_bytes`] falls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than {POST_QUEUE_BYTES_MAX} bytes wait to be posted")]
pub struct QueueFull;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The first poll is not answered.
    Opening,
    Open,
    /// [`PollingClient::stop`] was called; what is queued goes out first.
    Stopping,
    Deleting,
    Ended,
}

/// The client's half of one long-polling connection.
#[derive(Debug)]
pub struct PollingClient {
    state: State,
    poll_under_way: bool,
    post_under_way: bool,
    queue: BytesMut,
    events: std::collections::VecDeque<Event>,
}

impl Default for PollingClient {
    fn default() -> Self {
        Self::new()
    }
}

impl PollingClient {
    /// Starts: the first request is a poll.
    #[must_use]
    pub fn new() -> Self {
        Self {
            state: State::Opening,
            poll_under_way: false,
            post_under_way: false,
            queue: BytesMut::new(),
            events: std::collections::VecDeque::new(),
        }
    }

    /// The next request to make now, if any; ask again after every call and until it says `None`.
    pub fn next_request(&mut self) -> Option<Request> {
        let posting = matches!(self.state, State::Open | State::Stopping);
        if posting && !self.post_under_way && !self.queue.is_empty() {
            self.post_under_way = true;
            return Some(Request::Post(self.queue.split().freeze()));
        }
        if self.state == State::Stopping && !self.post_under_way {
            self.state = State::Deleting;
            return Some(Request::Delete);
        }
        if matches!(self.state, State::Opening | State::Open | State::Stopping) && !self.poll_under_way {
            self.poll_under_way = true;
            return Some(Request::Poll);
        }
        None
    }

    /// The next event, if any.
    pub fn next_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes that wait for a POST.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queue.len()
    }

    /// Queues bytes for the server; they are posted in order, those of several calls together.
    ///
    /// # Errors
    /// [`QueueFull`]: nothing was queued. A single piece is always taken by an empty queue.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), QueueFull> {
        if !self.queue.is_empty() && self.queue.len() + bytes.len() > POST_QUEUE_BYTES_MAX {
            return Err(QueueFull);
        }
        if matches!(self.state, State::Opening | State::Open) {
            self.queue.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// Ends the connection from this side: queued bytes are posted, then the DELETE is made.
    pub fn stop(&mut self) {
        match self.state {
            State::Opening | State::Open => self.state = State::Stopping,
            State::Stopping | State::Deleting | State::Ended => {}
        }
    }

    /// Tells the answer to a poll. Any 2xx but 204 carries data, possibly none: then the next poll follows.
    pub fn poll_answered(&mut self, status: u16, body: Bytes) {
        self.poll_under_way = false;
        match status {
            _ if self.state == State::Ended => {}
            200 => {
                if self.state == State::Opening {
                    self.state = State::Open;
                    self.events.push_back(Event::Opened);
                }
                if !body.is_empty() {
                    self.events.push_back(Event::Received(body));
                }
            }
            // An answer to the poll that our DELETE ended says nothing.
            _ if self.state == State::Deleting => {}
            204 => self.end(End::Server),
            status => self.end(End::PollRefused { status }),
        }
    }

    /// Tells that a poll got no answer within the client's own time-out: it is made again.
    pub fn poll_timed_out(&mut self) {
        self.poll_under_way = false;
    }

    /// Tells the status of the answer to a POST.
    pub fn post_answered(&mut self, status: u16) {
        self.post_under_way = false;
        if !(200..300).contains(&status) {
            self.end(End::PostRefused { status });
        }
    }

    /// Tells that the DELETE was answered (any status: 404 is harmless) or failed.
    pub fn delete_answered(&mut self) {
        self.end(End::Stopped);
    }

    /// Tells that a poll or POST could not be made or its answer not read.
    pub fn request_failed(&mut self) {
        self.end(End::RequestFailed);
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_ended(&self) -> bool {
        self.state == State::Ended
    }

    fn end(&mut self, end: End) {
        if self.state == State::Ended {
            return;
        }
        let stopping = matches!(self.state, State::Stopping | State::Deleting);
        self.state = State::Ended;
        self.queue.clear();
        self.events.push_back(Event::Ended(if stopping { End::Stopped } else { end }));
    }
}

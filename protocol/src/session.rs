//! One connection's life as a state machine: handshake, keep-alive, time-outs, close (signalr-wire §6, §11).
//!
//! A [`Session`] is a hub's or a client's end. It is fed with bytes, the end of input and the passing of time, and
//! gives [`Output`]s: bytes to write, messages for the application, the end. `now` is the time since any fixed origin.
//!
//! Use: after every `receive`, `input_ended`, `timer`, `send` and `close`, take [`Session::next_output`] until `None`;
//! call [`Session::timer`] when [`Session::deadline`] is reached.
//!
//! Invariant: [`Output::Ended`] comes exactly once and last. Buffered input never exceeds the message limit by more
//! than the last piece received.

mod config;

use core::time::Duration;
use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::error::ParseError;
use crate::framing::{self, MessageSplitter};
use crate::handshake::{self, HandshakeResponse, RequestReader, ResponseReader};
use crate::message::{Close, HubMessage, HubProtocol, Incoming};

pub use config::{ClientConfig, ServerConfig};

/// What a session wants done or known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Hand these bytes to the transport, in order. They end at a message boundary.
    Write(Bytes),
    /// The handshake succeeded. Hub: run OnConnected now. Client: the connection is up.
    Connected {
        /// The hub protocol in use.
        protocol: HubProtocol,
        /// The version that the request named; 2 for stateful reconnect.
        version: i32,
    },
    /// A message for the application: all types but Ping and Close.
    Message(HubMessage),
    /// The connection is over: close the transport in an orderly way (WebSocket 1000), unless it is gone.
    Ended(End),
}

/// Why a session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// The handshake did not come in time.
    HandshakeTimeout,
    /// The handshake was malformed or too long.
    HandshakeMalformed(handshake::Error),
    /// The hub refused the handshake with this text (told on both ends).
    HandshakeRefused(String),
    /// The other end sent a Close.
    PeerClosed(Close),
    /// This end closed.
    Closed,
    /// The other end was silent for too long.
    Timeout,
    /// The other end violated the hub protocol.
    Protocol(ParseError),
    /// A message was longer than the limit, or its length prefix impossible.
    Framing(framing::Error),
    /// The input ended at a message boundary, without a Close.
    InputEnded,
    /// The input ended inside a message or inside the handshake.
    InputTruncated,
}

impl End {
    /// The exception type and text that the reference shows with detailed errors; `None` when the end is no error.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Timeout => Some(
                "OperationCanceledException: Client hasn't sent a message/ping within the configured \
                 ClientTimeoutInterval."
                    .to_owned(),
            ),
            Self::Protocol(error) => Some(error.detail()),
            Self::Framing(error) => Some(error.detail()),
            Self::InputTruncated => {
                Some("InvalidDataException: Connection terminated while reading a message.".to_owned())
            }
            _ => None,
        }
    }
}

/// Sending is impossible: the handshake is not done, or the session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the session is not connected")]
pub struct NotConnected;

#[derive(Debug)]
enum Role {
    Server(ServerConfig),
    Client(ClientConfig),
}

#[derive(Debug)]
enum State {
    AwaitRequest(RequestReader),
    AwaitResponse(ResponseReader),
    Open(Open),
    /// [`Output::Ended`] is queued or was given.
    Ended,
}

#[derive(Debug)]
struct Open {
    protocol: HubProtocol,
    splitter: MessageSplitter,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Session {
    role: Role,
    state: State,
    input: BytesMut,
    input_ended: bool,
    outputs: VecDeque<Output>,
    started_at: Duration,
    received_at: Duration,
    /// Server: when the last Ping went out. Client: when anything went out.
    sent_at: Duration,
    /// Server: whether the client ever pinged, which switches its time-out on (signalr-wire §11.2).
    peer_pinged: bool,
}

impl Session {
    /// A hub's end; `now` is when the transport attached.
    #[must_use]
    pub fn server(config: ServerConfig, now: Duration) -> Self {
        let reader = RequestReader::new(config.message_bytes_max);
        Self::new(Role::Server(config), State::AwaitRequest(reader), now)
    }

    /// A client's end; the first output is its handshake request.
    #[must_use]
    pub fn client(config: ClientConfig, now: Duration) -> Self {
        let reader = ResponseReader::new(config.message_bytes_max);
        let mut request = BytesMut::new();
        handshake::write_request(config.protocol.name(), config.version, &mut request);
        let mut session = Self::new(Role::Client(config), State::AwaitResponse(reader), now);
        session.outputs.push_back(Output::Write(request.freeze()));
        session
    }

    fn new(role: Role, state: State, now: Duration) -> Self {
        Self {
            role,
            state,
            input: BytesMut::new(),
            input_ended: false,
            outputs: VecDeque::new(),
            started_at: now,
            received_at: now,
            sent_at: now,
            peer_pinged: false,
        }
    }

    /// The protocol in use, once connected.
    #[must_use]
    pub const fn protocol(&self) -> Option<HubProtocol> {
        match &self.state {
            State::Open(open) => Some(open.protocol),
            _ => None,
        }
    }

    /// Whether [`Output::Ended`] was reached; it may still have to be taken.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// Takes bytes from the transport, cut anyhow.
    pub fn receive(&mut self, bytes: &[u8], now: Duration) {
        if self.is_ended() {
            return;
        }
        if matches!(self.role, Role::Client(_)) {
            self.received_at = now;
        }
        self.input.extend_from_slice(bytes);
        self.read(now);
    }

    /// Takes the end of the transport's input; what was received before is still read.
    pub fn input_ended(&mut self, now: Duration) {
        self.input_ended = true;
        self.read(now);
    }

    /// Takes the passing of time: pings, or ends on a time-out.
    pub fn timer(&mut self, now: Duration) {
        match &self.state {
            State::Ended => {}
            State::AwaitRequest(_) | State::AwaitResponse(_) => {
                if self.handshake_deadline().is_some_and(|deadline| deadline <= now) {
                    self.refuse_handshake(handshake::CANCELED, End::HandshakeTimeout);
                }
            }
            State::Open(open) => {
                let protocol = open.protocol;
                if self.timeout_deadline().is_some_and(|deadline| deadline <= now) {
                    self.fail(End::Timeout);
                } else if self.ping_deadline().is_some_and(|deadline| deadline <= now) {
                    self.ping(protocol, now);
                }
            }
        }
    }

    /// When [`Session::timer`] is due; `None` when time does not matter.
    #[must_use]
    pub fn deadline(&self) -> Option<Duration> {
        match &self.state {
            State::Ended => None,
            State::AwaitRequest(_) | State::AwaitResponse(_) => self.handshake_deadline(),
            State::Open(_) => [self.timeout_deadline(), self.ping_deadline()].into_iter().flatten().min(),
        }
    }

    /// Sends a message to the other end. For a Close that ends the session use [`Session::close`].
    ///
    /// # Errors
    /// [`NotConnected`].
    pub fn send(&mut self, message: &HubMessage, now: Duration) -> Result<(), NotConnected> {
        let protocol = self.protocol().ok_or(NotConnected)?;
        self.send_framed(protocol.to_bytes(message), now)
    }

    /// Sends whole messages that are framed already, in the protocol in use.
    ///
    /// # Errors
    /// [`NotConnected`].
    pub fn send_framed(&mut self, messages: Bytes, now: Duration) -> Result<(), NotConnected> {
        self.protocol().ok_or(NotConnected)?;
        self.note_sent(now);
        self.outputs.push_back(Output::Write(messages));
        Ok(())
    }

    /// Ends the session from this side: the Close is written if the handshake is done, then the session is over.
    pub fn close(&mut self, close: Close) {
        if !self.is_ended() {
            self.write_close(close);
            self.end(End::Closed);
        }
    }

    /// Takes the next output.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn read(&mut self, now: Duration) {
        loop {
            let went_on = match &mut self.state {
                State::Ended => return,
                State::AwaitRequest(reader) => {
                    let found = reader.read(&self.input);
                    self.take_request(found)
                }
                State::AwaitResponse(reader) => {
                    let found = reader.read(&self.input);
                    self.take_response(found, now)
                }
                State::Open(open) => {
                    let protocol = open.protocol;
                    match open.splitter.next(&mut self.input) {
                        Ok(Some(message)) => self.take_message(protocol, &message.body(), now),
                        Ok(None) => false,
                        Err(error) => self.fail(End::Framing(error)),
                    }
                }
            };
            if !went_on {
                break;
            }
        }
        if self.input_ended && !self.is_ended() {
            self.end_of_input();
        }
    }

    /// Each `take_…` tells whether more input may be read.
    fn take_request(
        &mut self,
        found: Result<Option<handshake::Complete<handshake::HandshakeRequest>>, handshake::Error>,
    ) -> bool {
        let Role::Server(config) = &self.role else { return false };
        match found {
            Ok(None) => false,
            Err(error) => {
                let text = error.client_text(config.detailed_errors);
                self.refuse_handshake(&text, End::HandshakeMalformed(error))
            }
            Ok(Some(request)) => match request.value.judge(&config.protocols, config.carries_binary) {
                Err(text) => self.refuse_handshake(&text, End::HandshakeRefused(text.clone())),
                Ok(protocol) => {
                    let bytes_max = config.message_bytes_max;
                    let _ = self.input.split_to(request.consumed.min(self.input.len()));
                    self.outputs.push_back(Output::Write(Bytes::from_static(handshake::RESPONSE_OK)));
                    self.open(protocol, request.value.version, bytes_max)
                }
            },
        }
    }

    fn take_response(
        &mut self,
        found: Result<Option<handshake::Complete<HandshakeResponse>>, handshake::Error>,
        now: Duration,
    ) -> bool {
        let Role::Client(config) = &self.role else { return false };
        match found {
            Ok(None) => false,
            Err(error) => self.end(End::HandshakeMalformed(error)),
            Ok(Some(handshake::Complete { value: HandshakeResponse { error: Some(text) }, .. })) => {
                self.end(End::HandshakeRefused(text))
            }
            Ok(Some(response)) => {
                let (protocol, version, bytes_max) = (config.protocol, config.version, config.message_bytes_max);
                let _ = self.input.split_to(response.consumed.min(self.input.len()));
                self.open(protocol, version, bytes_max);
                if !self.has_inherent_keep_alive() {
                    self.ping(protocol, now);
                }
                true
            }
        }
    }

    fn open(&mut self, protocol: HubProtocol, version: i32, message_bytes_max: usize) -> bool {
        let splitter = MessageSplitter::new(protocol, message_bytes_max);
        self.state = State::Open(Open { protocol, splitter });
        self.outputs.push_back(Output::Connected { protocol, version });
        true
    }

    fn take_message(&mut self, protocol: HubProtocol, body: &Bytes, now: Duration) -> bool {
        self.received_at = now;
        match protocol.read(body) {
            Err(error) => self.fail(End::Protocol(error)),
            Ok(Incoming::Unknown { .. }) => true,
            Ok(Incoming::Message(HubMessage::Ping)) => {
                self.peer_pinged = true;
                true
            }
            Ok(Incoming::Message(HubMessage::Close(close))) => {
                if matches!(self.role, Role::Server(_)) {
                    self.write_close(Close::default());
                }
                self.end(End::PeerClosed(close))
            }
            Ok(Incoming::Message(message)) => {
                self.outputs.push_back(Output::Message(message));
                true
            }
        }
    }

    fn end_of_input(&mut self) {
        let truncated = !self.input.is_empty();
        match &self.state {
            State::Open(_) if truncated => {
                self.fail(End::InputTruncated);
            }
            State::Open(_) => {
                if matches!(self.role, Role::Server(_)) {
                    self.write_close(Close::reconnect());
                }
                self.end(End::InputEnded);
            }
            // No response is written to half a handshake (signalr-wire §6.4).
            _ => {
                self.end(if truncated { End::InputTruncated } else { End::InputEnded });
            }
        }
    }

    /// Ends with the error Close of a hub; a client just leaves.
    fn fail(&mut self, end: End) -> bool {
        if let Role::Server(config) = &self.role {
            let detail = end.detail().filter(|_| config.detailed_errors);
            self.write_close(Close::with_error(detail.as_deref()));
        }
        self.end(end)
    }

    fn refuse_handshake(&mut self, text: &str, end: End) -> bool {
        if matches!(self.role, Role::Server(_)) {
            let mut response = BytesMut::new();
            handshake::write_response(&HandshakeResponse { error: Some(text.to_owned()) }, &mut response);
            self.outputs.push_back(Output::Write(response.freeze()));
        }
        self.end(end)
    }

    fn write_close(&mut self, close: Close) {
        if let Some(protocol) = self.protocol() {
            self.outputs.push_back(Output::Write(protocol.to_bytes(&HubMessage::Close(close))));
        }
    }

    fn end(&mut self, end: End) -> bool {
        self.state = State::Ended;
        self.input = BytesMut::new();
        self.outputs.push_back(Output::Ended(end));
        false
    }

    fn ping(&mut self, protocol: HubProtocol, now: Duration) {
        self.sent_at = now;
        self.outputs.push_back(Output::Write(Bytes::from_static(protocol.ping())));
    }

    /// A client's keep-alive counts from anything sent, a hub's only from its own Pings (signalr-wire §11).
    fn note_sent(&mut self, now: Duration) {
        if matches!(self.role, Role::Client(_)) {
            self.sent_at = now;
        }
    }

    fn has_inherent_keep_alive(&self) -> bool {
        match &self.role {
            Role::Server(config) => config.has_inherent_keep_alive,
            Role::Client(config) => config.has_inherent_keep_alive,
        }
    }

    fn handshake_deadline(&self) -> Option<Duration> {
        let timeout = match &self.role {
            Role::Server(config) => config.handshake_timeout,
            Role::Client(config) => config.handshake_timeout,
        };
        self.started_at.checked_add(timeout)
    }

    fn ping_deadline(&self) -> Option<Duration> {
        let interval = match &self.role {
            Role::Server(config) => config.keep_alive_interval,
            Role::Client(config) => config.keep_alive_interval,
        };
        if self.has_inherent_keep_alive() { None } else { self.sent_at.checked_add(interval) }
    }

    fn timeout_deadline(&self) -> Option<Duration> {
        match &self.role {
            Role::Server(config) if self.peer_pinged => self.received_at.checked_add(config.client_timeout),
            Role::Client(config) if !config.has_inherent_keep_alive => {
                self.received_at.checked_add(config.server_timeout)
            }
            _ => None,
        }
    }
}

//! A hub connection over any transport, and what it hears as a list of short texts.
//!
//! What is heard: each JSON record without its separator (`{"type":6}`); what came in a Binary frame behind `bin:`
//! (`bin:{}`, `bin:09950380a13103a26869`); WebSocket control frames (`PONG abc`, `CLOSE 1000`); the end of the
//! transport (`FIN`, `RST`, `LAST CHUNK`, `204`). Hub Pings are left out unless asked for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::{Outcome, Step, mismatch, same};
use crate::target::{Negotiated, Pending, Place, Target};
use crate::wire::events::{EventItem, EventStream, data_of};
use crate::wire::frame::{self, Frame};
use crate::wire::web_socket::{Event, WebSocket};
use crate::wire::{Error, hex, hub, show};

/// A transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// WebSockets.
    WebSockets,
    /// Server-Sent Events with POST.
    ServerSentEvents,
    /// Long polling with POST.
    LongPolling,
}

/// All three.
pub const TRANSPORTS: [Transport; 3] = [Transport::WebSockets, Transport::ServerSentEvents, Transport::LongPolling];

/// The error text of Close after a protocol error or time-out.
pub const CLOSED_WITH_ERROR: &str = r#"{"type":7,"error":"Connection closed with an error.","allowReconnect":true}"#;
/// Close that asks the client to come back.
pub const CLOSED_FOR_NOW: &str = r#"{"type":7,"allowReconnect":true}"#;
/// Close without anything.
pub const CLOSED: &str = r#"{"type":7}"#;

/// The receiving side.
#[derive(Debug)]
enum Receiver {
    WebSocket(Box<WebSocket>),
    Events(Box<EventStream>),
    Polls(Option<Pending>),
}

/// A hub connection.
#[derive(Debug)]
pub struct Link {
    target: Target,
    /// Path, query and headers of every request.
    pub place: Place,
    /// The public id; empty without negotiate.
    pub connection_id: String,
    /// The secret; empty without negotiate.
    pub token: String,
    /// Whether hub Pings are heard.
    pub hears_pings: bool,
    receiver: Receiver,
    heard: VecDeque<String>,
    calls: u32,
}

impl Link {
    /// Negotiates and attaches a transport; no handshake yet.
    ///
    /// # Errors
    /// When either is refused.
    pub async fn open(target: &Target, transport: Transport, place: impl Into<Place>) -> Outcome<Self> {
        let place = place.into();
        let negotiated = target.negotiate(&place).await?;
        Self::attach(target, transport, &place, &negotiated).await
    }

    /// Attaches a transport to a negotiated connection.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn attach(
        target: &Target,
        transport: Transport,
        place: &Place,
        negotiated: &Negotiated,
    ) -> Outcome<Self> {
        let token = &negotiated.token;
        let receiver = match transport {
            Transport::WebSockets => Receiver::WebSocket(Box::new(target.upgrade(&place.upgrade(token)).await?)),
            Transport::ServerSentEvents => Receiver::Events(Box::new(target.subscribe(&place.events(token)).await?)),
            Transport::LongPolling => {
                let first = target.exchange(&place.poll(token)).await.step("first poll")?;
                same("first poll", (200, String::new()), (first.head.status, first.text()))?;
                Receiver::Polls(None)
            }
        };
        let mut link = Self::over(target, place, receiver);
        link.connection_id.clone_from(&negotiated.connection_id);
        link.token.clone_from(token);
        Ok(link)
    }

    /// Takes an open WebSocket.
    #[must_use]
    pub fn of_socket(target: &Target, socket: WebSocket) -> Self {
        Self::over(target, &Place::default(), Receiver::WebSocket(Box::new(socket)))
    }

    fn over(target: &Target, place: &Place, receiver: Receiver) -> Self {
        Self {
            target: target.clone(),
            place: place.clone(),
            connection_id: String::new(),
            token: String::new(),
            hears_pings: false,
            receiver,
            heard: VecDeque::new(),
            calls: 0,
        }
    }

    /// Negotiates, attaches and shakes hands for JSON.
    ///
    /// # Errors
    /// When any of these is refused.
    pub async fn start(target: &Target, transport: Transport, place: impl Into<Place>) -> Outcome<Self> {
        let mut link = Self::open(target, transport, place).await?;
        link.shake_hands().await?;
        Ok(link)
    }

    /// The same over a WebSocket.
    ///
    /// # Errors
    /// As [`Link::start`].
    pub async fn socket(target: &Target, place: impl Into<Place>) -> Outcome<Self> {
        Self::start(target, Transport::WebSockets, place).await
    }

    /// Sends the JSON handshake and hears `{}`.
    ///
    /// # Errors
    /// When something else is heard.
    pub async fn shake_hands(&mut self) -> Outcome {
        self.say(&hub::handshake("json", 1)).await?;
        self.hears("handshake", &["{}"]).await
    }

    /// Sends text as the transport does: a Text frame, or a POST that must be answered with 200.
    ///
    /// # Errors
    /// When that fails.
    pub async fn say(&mut self, text: &str) -> Outcome {
        self.say_bytes(text.as_bytes(), frame::TEXT).await
    }

    /// Sends bytes in a frame of that opcode, or by POST.
    ///
    /// # Errors
    /// When that fails.
    pub async fn say_bytes(&mut self, bytes: &[u8], opcode: u8) -> Outcome {
        if let Receiver::WebSocket(socket) = &mut self.receiver {
            return Ok(socket.send(&Frame::new(opcode, bytes)).await?);
        }
        let answer = self.target.exchange(&self.place.post(&self.token, bytes)).await?;
        same("POST", (200, ""), (answer.head.status, answer.text().as_str()))
    }

    /// The WebSocket below.
    ///
    /// # Errors
    /// When the transport is another one.
    pub fn web_socket(&mut self) -> Outcome<&mut WebSocket> {
        match &mut self.receiver {
            Receiver::WebSocket(socket) => Ok(socket),
            _ => mismatch("transport", "WebSockets", "another"),
        }
    }

    /// The event stream below.
    ///
    /// # Errors
    /// When the transport is another one.
    pub fn event_stream(&mut self) -> Outcome<&mut EventStream> {
        match &mut self.receiver {
            Receiver::Events(stream) => Ok(stream),
            _ => mismatch("transport", "ServerSentEvents", "another"),
        }
    }

    /// Begins a poll and leaves it pending.
    ///
    /// # Errors
    /// When the transport is another one, or writing fails.
    pub async fn poll(&mut self) -> Outcome {
        let begun = self.target.begin(&self.place.poll(&self.token)).await?;
        match &mut self.receiver {
            Receiver::Polls(pending) => *pending = Some(begun),
            _ => return mismatch("transport", "LongPolling", "another"),
        }
        Ok(())
    }

    /// Gives up the pending poll, if any, and its TCP connection.
    pub fn drop_poll(&mut self) -> Option<Pending> {
        match &mut self.receiver {
            Receiver::Polls(pending) => pending.take(),
            _ => None,
        }
    }

    /// Resets the TCP connection of a WebSocket or event stream; a poll's is dropped.
    pub fn reset(self) {
        match self.receiver {
            Receiver::WebSocket(socket) => socket.reset(),
            Receiver::Events(stream) => stream.reset(),
            Receiver::Polls(_) => {}
        }
    }

    /// Waits for the next thing heard.
    ///
    /// # Errors
    /// [`Error::Late`] when there is none within `limit`.
    pub async fn next(&mut self, limit: Duration) -> Outcome<String> {
        let until = Instant::now() + limit;
        loop {
            if let Some(heard) = self.heard.pop_front() {
                if heard == r#"{"type":6}"# && !self.hears_pings {
                    continue;
                }
                return Ok(heard);
            }
            // What came may have been nothing to hear: a comment, an empty poll. The time goes on.
            match until.checked_duration_since(Instant::now()) {
                Some(rest) => self.receive(rest).await?,
                None => return Err(Error::Late(limit).into()),
            }
        }
    }

    /// Requires that exactly these are heard next, each soon. `END` stands for `FIN` or `RST`.
    ///
    /// # Errors
    /// When something else is heard, or nothing.
    pub async fn hears(&mut self, what: &str, expected: &[&str]) -> Outcome {
        self.hears_within(what, expected, self.target.soon()).await
    }

    /// As [`Link::hears`], each within `limit`.
    ///
    /// # Errors
    /// When something else is heard, or nothing.
    pub async fn hears_within(&mut self, what: &str, expected: &[&str], limit: Duration) -> Outcome {
        for text in expected {
            let seen = self.next(limit).await.step(format!("{what}: waiting for {text}"))?;
            let ended = *text == "END" && (seen == "FIN" || seen == "RST");
            if !ended && seen != *text {
                return mismatch(what, text, seen);
            }
        }
        Ok(())
    }

    /// Requires that nothing is heard within `time`; a poll stays pending.
    ///
    /// # Errors
    /// When something is heard.
    pub async fn hears_nothing(&mut self, what: &str, time: Duration) -> Outcome {
        if let Receiver::Polls(None) = &self.receiver {
            self.poll().await?;
        }
        if let (Receiver::Polls(Some(pending)), true) = (&mut self.receiver, self.heard.is_empty()) {
            return pending.stays(what, time).await;
        }
        match self.next(time).await {
            Ok(heard) => mismatch(what, "silence", heard),
            Err(failure) if matches!(failure.problem, crate::failure::Problem::Wire(Error::Late(_))) => Ok(()),
            Err(failure) => Err(failure),
        }
    }

    /// Requires the orderly end of the transport: close 1000 and the end of TCP, the last chunk, or a 204.
    ///
    /// # Errors
    /// When it ends otherwise, or not.
    pub async fn ends(&mut self, what: &str) -> Outcome {
        match &self.receiver {
            Receiver::WebSocket(_) => self.hears(what, &["CLOSE 1000", "END"]).await,
            Receiver::Events(_) => self.hears(what, &["LAST CHUNK"]).await,
            Receiver::Polls(_) => self.hears(what, &["204"]).await,
        }
    }

    /// Calls a hub method and gives its completion's result; what else is heard before it is dropped.
    ///
    /// # Errors
    /// When the call fails or the connection ends.
    pub async fn call(&mut self, method: &str, arguments: Value) -> Outcome<Value> {
        self.call_within(method, arguments, self.target.soon()).await
    }

    /// As [`Link::call`], waiting up to `limit`.
    ///
    /// # Errors
    /// As [`Link::call`].
    pub async fn call_within(&mut self, method: &str, arguments: Value, limit: Duration) -> Outcome<Value> {
        self.calls += 1;
        let id = format!("call{}", self.calls);
        self.say(&hub::invocation(&id, method, &arguments)).await?;
        loop {
            let heard = self.next(limit).await.step(format!("completion of {method}"))?;
            let message: Value = serde_json::from_str(&heard).unwrap_or(Value::Null);
            if message.get("invocationId") == Some(&json!(id)) {
                return match message.get("error") {
                    None => Ok(message.get("result").cloned().unwrap_or(Value::Null)),
                    Some(error) => mismatch(method, "a result", error),
                };
            }
            if message.is_null() {
                return mismatch(method, "a completion", heard);
            }
        }
    }

    /// Requires that the hub answers, as the sign that a connection still works.
    ///
    /// # Errors
    /// When it does not.
    pub async fn works(&mut self, what: &str) -> Outcome {
        let answer = self.call("Echo", json!([what])).await.step(what)?;
        same(what, json!(what), answer)
    }

    /// Stalls the hub's receive loop for a time, whatever becomes of the transport: two plain calls that wait.
    ///
    /// # Errors
    /// When the hub does not answer.
    pub async fn stall(&mut self, milliseconds: u64) -> Outcome {
        let calls = [
            hub::invocation("stall", "Void", &json!([])),
            hub::send("Sleep", &json!([milliseconds])),
            hub::send("Sleep", &json!([1])),
        ];
        self.say(&calls.concat()).await?;
        // The hub has read all three with the first.
        self.hears("stall", &[r#"{"type":3,"invocationId":"stall","result":null}"#]).await
    }

    async fn receive(&mut self, limit: Duration) -> Outcome {
        let heard: Vec<String> = match &mut self.receiver {
            Receiver::WebSocket(socket) => match socket.event(limit).await? {
                Event::Message(frame::TEXT, payload) => records(&payload)?,
                Event::Message(_, payload) => packed_records(&payload)?,
                // A gateway may ping on its own account; the answer has been sent.
                Event::Ping(_) => Vec::new(),
                Event::Pong(payload) => vec![format!("PONG {}", show(&payload))],
                Event::Close(code, reason) if reason.is_empty() => vec![format!("CLOSE {code}")],
                Event::Close(code, reason) => vec![format!("CLOSE {code} {reason}")],
                Event::End(end) => vec![end.to_string()],
            },
            Receiver::Events(stream) => match stream.next(limit).await? {
                EventItem::Event(event) if event.starts_with(b":") => Vec::new(),
                EventItem::Event(event) => records(&data_of(&event))?,
                EventItem::End(end) => vec![end.to_string()],
            },
            Receiver::Polls(pending) => {
                let mut poll = match pending.take() {
                    Some(poll) => poll,
                    None => self.target.begin(&self.place.poll(&self.token)).await?,
                };
                let answer = match poll.answer(limit).await {
                    Ok(answer) => answer,
                    Err(failure) => {
                        *pending = Some(poll);
                        return Err(failure);
                    }
                };
                match answer.head.status {
                    200 if answer.body.first().is_none_or(|&byte| byte == b'{') => records(&answer.body)?,
                    200 => packed_records(&answer.body)?,
                    204 => vec!["204".into()],
                    _ => vec![answer.brief()],
                }
            }
        };
        self.heard.extend(heard);
        Ok(())
    }
}

/// Splits what arrived as one unit; it must end on a message boundary.
fn records(payload: &[u8]) -> Outcome<Vec<String>> {
    let (records, rest) = hub::split(&String::from_utf8_lossy(payload));
    if rest.is_empty() { Ok(records) } else { mismatch("unit of the transport", "whole hub messages", show(payload)) }
}

/// Splits MessagePack messages, a handshake response before them too.
fn packed_records(payload: &[u8]) -> Outcome<Vec<String>> {
    let (mut found, mut rest) = (Vec::new(), payload);
    if payload.first() == Some(&b'{')
        && let Some(at) = payload.iter().position(|&byte| byte == 0x1e)
    {
        found.push(format!("bin:{}", String::from_utf8_lossy(payload.get(..at).unwrap_or_default())));
        rest = payload.get(at + 1..).unwrap_or_default();
    }
    while !rest.is_empty() {
        let Some(message) = packed_length(rest).and_then(|length| rest.get(..length)) else {
            return mismatch("unit of the transport", "whole hub messages", show(payload));
        };
        // A hub Ping is the same to a listener in either protocol.
        found.push(if message == [2, 0x91, 6] { r#"{"type":6}"#.into() } else { format!("bin:{}", hex(message)) });
        rest = rest.get(message.len()..).unwrap_or_default();
    }
    Ok(found)
}

/// Length of the first message with its prefix.
fn packed_length(bytes: &[u8]) -> Option<usize> {
    let (mut length, mut shift) = (0_usize, 0_u32);
    for (at, byte) in bytes.iter().enumerate().take(5) {
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return length.checked_add(at + 1);
        }
    }
    None
}

/// More numbered `Collect` calls than fit between a client and a hub that does not read, from `first` on; and how
/// many they are. Straight that is 64 KiB. Before a gateway it is what the sockets between it and the hub take as
/// well, some megabytes; where `tcp_rmem` lets a receive buffer grow to 32 MB it can be more than these 10, seldom enough
/// that all cases beside are not burdened with twice as much.
#[must_use]
pub fn flood(target: &Target, first: u32) -> (String, u32) {
    const PADDING: usize = 20_000;
    let count = if target.gateway { 500 } else { 20 };
    let padding = "x".repeat(PADDING);
    let call = |number| hub::record(&json!({"type": 1, "target": "Collect", "arguments": [number], "x": padding}));
    ((first..first + count).map(call).collect(), count)
}

/// A connection beside the one under test that asks the hub what happened to it.
#[derive(Debug)]
pub struct Observer(Link);

impl Observer {
    /// Connects to the plain contract hub of the target.
    ///
    /// # Errors
    /// When that fails.
    pub async fn open(target: &Target) -> Outcome<Self> {
        Ok(Self(Link::socket(target, "/contract").await.step("observer")?))
    }

    /// Waits until a connection has had an event; false after `limit`.
    ///
    /// # Errors
    /// When the hub does not answer.
    pub async fn happened(&mut self, connection_id: &str, event: &str, limit: Duration) -> Outcome<bool> {
        let arguments = json!([connection_id, event, u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)]);
        let answer = self.0.call_within("WaitForEvent", arguments, limit + self.0.target.soon()).await?;
        Ok(answer == json!(true))
    }

    /// Requires that a connection has had an event soon.
    ///
    /// # Errors
    /// When it has not.
    pub async fn sees(&mut self, link: &Link, event: &str) -> Outcome {
        let happened = self.happened(&link.connection_id, event, self.0.target.seconds(10)).await?;
        same(format!("event {event:?} at the hub"), true, happened)
    }

    /// Requires that a connection has not had an event until now.
    ///
    /// # Errors
    /// When it has.
    pub async fn sees_no(&mut self, link: &Link, event: &str) -> Outcome {
        let happened = self.happened(&link.connection_id, event, self.0.target.moment()).await?;
        same(format!("event {event:?} at the hub"), false, happened)
    }

    /// Waits for the end of a connection and requires the exception's message that OnDisconnectedAsync got.
    ///
    /// # Errors
    /// When it does not end, or with another message.
    pub async fn sees_end(&mut self, link: &Link, error: Option<&str>) -> Outcome {
        self.sees(link, "disconnected").await?;
        let seen = self.0.call("DisconnectError", json!([link.connection_id])).await?;
        same("exception of OnDisconnectedAsync", json!(error), seen)
    }

    /// Lets a blocked connection go on.
    ///
    /// # Errors
    /// When it was not blocked.
    pub async fn unblock(&mut self, link: &Link) -> Outcome {
        let answer = self.0.call("Unblock", json!([link.connection_id])).await?;
        same("Unblock", json!(true), answer)
    }
}

//! Group D: WebSockets, connecting and messages (`signalr-wire` §5.1).
//!
//! What single frames may look like is in [`frames`], how a connection ends in [`closing`].

pub mod closing;
pub mod frames;

use rmpv::Value as Pack;
use serde_json::{Value, json};

use super::cases;
use crate::expected::{self, Expected, POST_REFUSED};
use crate::failure::{Outcome, Step, holds, mismatch, same};
use crate::link::{Link, Observer};
use crate::runner::Run::{Quick, Waits};
use crate::target::{Place, Target};
use crate::wire::frame::{self, Frame};
use crate::wire::http::Request;
use crate::wire::web_socket::{Event, Incoming, Upgrade, WebSocket};
use crate::wire::{self, hub};

cases! {
    "WS-01" Quick => ws_01_no_subprotocol;
    "WS-02" Quick => ws_02_selected_subprotocol;
    "WS-03" Quick => ws_03_json_in_text_frames;
    "WS-04" Quick => ws_04_message_pack_in_binary_frames;
    "WS-05" Quick => ws_05_refusals_in_text_frames;
    "WS-06" Quick => ws_06_message_in_pieces;
    "WS-07" Quick => ws_07_five_messages_in_one;
    "WS-08" Quick => ws_08_json_in_binary_frames;
    "WS-09" Quick => ws_09_message_pack_handshake_in_text;
    "WS-16" Quick => ws_16_post_is_refused;
    "WS-18" Waits(20) => ws_18_back_pressure;
    "WS-19" Quick => ws_19_whole_messages;
    "WS-24?" Quick => ws_24_no_compression;
    "WS-25?" Quick => ws_25_no_upgrade;
    "WS-26" Quick => ws_26_spellings_of_the_upgrade;
    "WS-33?" Waits(45) => ws_33_idle_socket;
    "WS-35" Quick => ws_35_origin_list;
}

fn contract() -> Place {
    Place::from("/contract")
}

/// A MessagePack invocation of `Echo("hi")` with id 1, and its completion as it is heard.
const ECHO_HI: &str = "bin:09950380a13103a26869";

fn echo_hi() -> Vec<u8> {
    hub::packed_invocation("1", "Echo", vec![Pack::from("hi")])
}

fn echo(id: &str, text: &str) -> (String, String) {
    (hub::invocation(id, "Echo", &json!([text])), hub::completion(id, &json!(text)))
}

async fn ws_01_no_subprotocol(t: &Target) -> Outcome {
    let place = contract();
    let socket = t.upgrade(&place.upgrade(&t.negotiate(&place).await?.token)).await?;
    expected::check_switched("none offered", &socket.head, &[])?;
    let offered = place.upgrade(&t.negotiate(&place).await?.token).header("Sec-WebSocket-Protocol", "one, two");
    expected::check_switched("two offered", &t.upgrade(&offered).await?.head, &[])
}

async fn ws_02_selected_subprotocol(t: &Target) -> Outcome {
    let place = Place::from("/contract-subprotocol");
    for (offer, selected) in [
        (None, &[][..]),
        (Some("other, contract"), &[("sec-websocket-protocol", "contract")]),
        (Some("contract"), &[("sec-websocket-protocol", "contract")]),
    ] {
        let request = place.upgrade(&t.negotiate(&place).await?.token);
        let request = match offer {
            Some(offer) => request.header("Sec-WebSocket-Protocol", offer),
            None => request,
        };
        let socket = t.upgrade(&request).await?;
        expected::check_switched(&format!("{offer:?}"), &socket.head, selected)?;
        let mut link = Link::of_socket(t, socket);
        link.shake_hands().await?;
        link.works("echo").await?;
    }
    Ok(())
}

async fn ws_03_json_in_text_frames(t: &Target) -> Outcome {
    // A link hears `bin:` before everything that came in a Binary frame.
    let mut link = Link::open(t, crate::link::Transport::WebSockets, &contract()).await?;
    let (call, answer) = echo("1", "x");
    link.say(&hub::handshake("json", 1)).await?;
    link.hears("handshake", &["{}"]).await?;
    link.say(&call).await?;
    link.hears("echo", &[&answer]).await
}

async fn open(t: &Target, place: &Place) -> Outcome<Link> {
    Link::open(t, crate::link::Transport::WebSockets, place).await
}

async fn ws_04_message_pack_in_binary_frames(t: &Target) -> Outcome {
    let mut link = open(t, &contract()).await?;
    link.say_bytes(hub::handshake("messagepack", 1).as_bytes(), frame::BINARY).await?;
    link.hears("handshake", &["bin:{}"]).await?;
    link.say_bytes(&echo_hi(), frame::BINARY).await?;
    link.hears("echo", &[ECHO_HI]).await?;
    link.say_bytes(&hub::packed(vec![7.into(), Pack::Nil]), frame::BINARY).await?;
    link.hears("Close", &["bin:049307c0c2"]).await?;
    link.ends("Close").await
}

async fn ws_05_refusals_in_text_frames(t: &Target) -> Outcome {
    let json_refused = r#"{"error":"The protocol 'json' is not supported."}"#;
    let unknown = r#"{"error":"The protocol 'msgpack' is not supported."}"#;
    let too_new = r#"{"error":"The server does not support version 3 of the 'messagepack' protocol."}"#;
    for (path, handshake, opcode, heard) in [
        ("/contract", hub::handshake("msgpack", 1), frame::TEXT, unknown),
        ("/contract", hub::handshake("msgpack", 1), frame::BINARY, unknown),
        ("/contract", hub::handshake("messagepack", 3), frame::BINARY, too_new),
        ("/contract-messagepack", hub::handshake("json", 1), frame::TEXT, json_refused),
    ] {
        let mut link = open(t, &path.into()).await?;
        link.say_bytes(handshake.as_bytes(), opcode).await?;
        link.hears(&handshake, &[heard]).await?;
        link.ends(&handshake).await?;
    }
    Ok(())
}

/// Cuts text into three parts.
fn thirds(text: &str) -> [&[u8]; 3] {
    let bytes = text.as_bytes();
    let (first, rest) = bytes.split_at(bytes.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    [first, second, third]
}

async fn ws_06_message_in_pieces(t: &Target) -> Outcome {
    let mut link = Link::socket(t, &contract()).await?;
    let (call, answer) = echo("1", "x");
    let [first, second, third] = thirds(&call);
    for part in [first, second, third] {
        link.say_bytes(part, frame::TEXT).await?;
    }
    link.hears("three messages", &[&answer]).await?;
    let fragments = [
        Frame::new(frame::TEXT, first).unfinished(),
        Frame::new(frame::CONTINUATION, second).unfinished(),
        Frame::new(frame::CONTINUATION, third),
    ];
    link.web_socket()?.send_all(&fragments).await?;
    link.hears("three fragments", &[&answer]).await?;
    let kinds = [(first, frame::TEXT), (second, frame::BINARY), (third, frame::TEXT)];
    for (part, opcode) in kinds {
        link.say_bytes(part, opcode).await?;
    }
    link.hears("Text, Binary, Text", &[&answer]).await?;
    for part in [&b""[..], call.as_bytes(), b""] {
        link.say_bytes(part, frame::TEXT).await?;
    }
    link.hears("empty messages around", &[&answer]).await
}

async fn ws_07_five_messages_in_one(t: &Target) -> Outcome {
    let mut link = Link::socket(t, &contract()).await?;
    let pairs: Vec<_> = (0..5).map(|n| echo(&n.to_string(), &n.to_string())).collect();
    link.say(&pairs.iter().map(|(call, _)| call.as_str()).collect::<String>()).await?;
    let answers: Vec<_> = pairs.iter().map(|(_, answer)| answer.as_str()).collect();
    link.hears("five", &answers).await
}

async fn ws_08_json_in_binary_frames(t: &Target) -> Outcome {
    let mut link = open(t, &contract()).await?;
    let (call, answer) = echo("1", "x");
    link.say_bytes(hub::handshake("json", 1).as_bytes(), frame::BINARY).await?;
    link.hears("handshake", &["{}"]).await?;
    link.say_bytes(call.as_bytes(), frame::BINARY).await?;
    link.hears("echo", &[&answer]).await
}

async fn ws_09_message_pack_handshake_in_text(t: &Target) -> Outcome {
    let mut link = open(t, &contract()).await?;
    link.say(&hub::handshake("messagepack", 1)).await?;
    link.hears("handshake", &["bin:{}"]).await?;
    link.say_bytes(&echo_hi(), frame::BINARY).await?;
    link.hears("echo", &[ECHO_HI]).await
}

async fn ws_16_post_is_refused(t: &Target) -> Outcome {
    let mut link = Link::socket(t, &contract()).await?;
    let answer = t.exchange(&link.place.post(&link.token, "x")).await?;
    Expected::text(405, POST_REFUSED).check(t, "POST", &answer)?;
    link.works("unaffected").await
}

async fn ws_18_back_pressure(t: &Target) -> Outcome {
    const PAYLOAD: usize = 20_000;
    const BYTES_MAX: usize = 60_000_000;
    let mut link = Link::socket(t, &contract()).await?;
    let mut observer = Observer::open(t).await?;
    link.say(&hub::send("Block", &json!([]))).await?;
    observer.sees(&link, "blocked").await?;
    // Text of x, so that a frame cut anywhere by the end of the writing is completed below.
    let mut sent = 0;
    let mut number = 0_u64;
    let socket = link.web_socket()?;
    'filling: while sent < BYTES_MAX {
        let record =
            hub::record(&json!({"type": 1, "target": "Collect", "arguments": [number], "x": "x".repeat(PAYLOAD)}));
        let bytes = Frame::text(&record).masked();
        let mut rest = bytes.as_slice();
        number += 1;
        while !rest.is_empty() {
            match wire::within(t.seconds(3), socket.send_some(rest)).await {
                Ok(taken) => {
                    sent += taken;
                    rest = rest.get(taken..).unwrap_or_default();
                }
                // Nothing moved for seconds: the server has stopped reading. The rest of the frame follows later.
                Err(wire::Error::Late(_)) => {
                    observer.unblock(&link).await?;
                    link.web_socket()?.send_bytes(rest).await?;
                    break 'filling;
                }
                Err(other) => return Err(other.into()),
            }
        }
    }
    holds("bytes taken by a server that does not read", (64 * 1024..BYTES_MAX).contains(&sent), sent)?;
    let collected = link.call_within("Collected", json!([]), t.seconds(20)).await?;
    same("calls received and their disorder", json!([number, 0]), collected)
}

async fn ws_19_whole_messages(t: &Target) -> Outcome {
    for (count, size) in [(200_u64, 10), (30, 5000), (10, 100_000)] {
        let mut link = Link::socket(t, &contract()).await?;
        link.say(&hub::invocation("p", "Push", &json!([count, size]))).await?;
        let mut numbers = 0;
        // Any message that does not end on a record's end makes `next` fail.
        loop {
            let heard = link.next(t.soon()).await.step(format!("{count} of {size}, after {numbers}"))?;
            let json: Value = serde_json::from_str(&heard).unwrap_or_default();
            if json.get("type") == Some(&json!(3)) {
                break;
            }
            same("number", Some(numbers), json.pointer("/arguments/0").and_then(Value::as_u64))?;
            numbers += 1;
        }
        same("calls before the completion", count, numbers)?;
    }
    Ok(())
}

async fn ws_24_no_compression(t: &Target) -> Outcome {
    let place = contract();
    for offer in ["permessage-deflate", "permessage-deflate; client_max_window_bits"] {
        let request = place.upgrade(&t.negotiate(&place).await?.token).header("Sec-WebSocket-Extensions", offer);
        let socket = t.upgrade(&request).await?;
        // Granting it would be allowed; but then these cases could not read the frames.
        expected::check_switched(offer, &socket.head, &[])?;
        let mut link = Link::of_socket(t, socket);
        link.shake_hands().await?;
        link.works(offer).await?;
    }
    Ok(())
}

async fn ws_25_no_upgrade(t: &Target) -> Outcome {
    type Change = fn(&mut Request);
    let without = |request: &mut Request, name: &str| request.headers.retain(|(known, _)| known != name);
    let changes: [(&str, Change); 8] = [
        ("version 8", |request| replace(request, "Sec-WebSocket-Version", "8")),
        ("no version", |request| replace(request, "Sec-WebSocket-Version", "")),
        ("no key", |request| replace(request, "Sec-WebSocket-Key", "")),
        ("short key", |request| replace(request, "Sec-WebSocket-Key", "dGVzdA==")),
        ("ill-formed key", |request| replace(request, "Sec-WebSocket-Key", "not base64 at all!!!!!!!")),
        ("no Upgrade", |request| replace(request, "Upgrade", "")),
        ("no Connection", |request| replace(request, "Connection", "")),
        ("Upgrade: h2c", |request| replace(request, "Upgrade", "h2c")),
    ];
    for (what, change) in changes {
        let place = contract();
        for token in [Some(t.negotiate(&place).await?.token), None] {
            let mut request = token.as_ref().map_or_else(|| place.upgrade_alone(), |token| place.upgrade(token));
            change(&mut request);
            for name in ["Sec-WebSocket-Version", "Sec-WebSocket-Key", "Upgrade", "Connection"] {
                if request.headers.iter().any(|(known, value)| known == name && value.is_empty()) {
                    without(&mut request, name);
                }
            }
            let Upgrade::Refused(answer) = t.try_upgrade(&request).await? else {
                return mismatch(what, "no 101", "101");
            };
            let reference = if token.is_some() { 200 } else { 400 };
            let status = answer.head.status;
            let right = status == reference || t.gateway && (400..500).contains(&status);
            holds(format!("{what}, token {}", token.is_some()), right, answer.brief())?;
        }
    }
    Ok(())
}

fn replace(request: &mut Request, name: &str, value: &str) {
    for (known, old) in &mut request.headers {
        if known == name {
            value.clone_into(old);
        }
    }
}

async fn ws_26_spellings_of_the_upgrade(t: &Target) -> Outcome {
    let place = contract();
    for (name, value) in [
        ("Connection", "keep-alive, Upgrade"),
        ("Connection", "upgrade"),
        ("Upgrade", "WebSocket"),
        ("Upgrade", "h2c, websocket"),
    ] {
        let mut request = place.upgrade(&t.negotiate(&place).await?.token);
        replace(&mut request, name, value);
        let socket = t.upgrade(&request).await.step(value)?;
        expected::check_switched(value, &socket.head, &[])?;
    }
    let request = place.upgrade(&t.negotiate(&place).await?.token);
    let (call, answer) = echo("1", "x");
    let early = [Frame::text(&hub::handshake("json", 1)).masked(), Frame::text(&call).masked()].concat();
    let connection = t.connect().await?;
    match wire::within(t.soon(), WebSocket::upgrade(connection, &request, &early)).await? {
        Upgrade::Switched(socket) => {
            Link::of_socket(t, *socket).hears("frames with the request", &["{}", &answer]).await
        }
        Upgrade::Refused(refused) => mismatch("frames with the request", "101", refused.brief()),
    }
}

async fn ws_33_idle_socket(t: &Target) -> Outcome {
    let mut link = Link::socket(t, &contract()).await?;
    let until = tokio::time::Instant::now() + t.seconds(40);
    let socket = link.web_socket()?;
    loop {
        match socket.incoming(until.saturating_duration_since(tokio::time::Instant::now())).await {
            Err(wire::Error::Late(_)) => break,
            Ok(Incoming::Frame(frame)) if frame == Frame::text("{\"type\":6}\u{1e}") => {}
            // A gateway may ping on its own account (edge rule D8).
            Ok(Incoming::Frame(frame)) if t.gateway && frame.opcode == frame::PING => {
                socket.send(&Frame::new(frame::PONG, frame.payload)).await?;
            }
            other => return mismatch("idle socket", "hub Pings only", format!("{other:?}")),
        }
    }
    link.works("after the wait").await
}

async fn ws_35_origin_list(t: &Target) -> Outcome {
    let place = Place::from("/contract-origins");
    for (origin, allowed) in [
        (Some("http://allowed.test"), true),
        (None, true),
        (Some("http://other.test"), false),
        (Some("HTTP://ALLOWED.TEST"), false),
    ] {
        let place = origin.map_or_else(|| place.clone(), |origin| place.clone().header("Origin", origin));
        let request = place.upgrade(&t.negotiate("/contract-origins").await?.token);
        match t.try_upgrade(&request).await? {
            Upgrade::Switched(socket) => {
                holds(format!("{origin:?}"), allowed, "101")?;
                drop(socket);
            }
            Upgrade::Refused(answer) if !allowed => Expected::bare(403).check(t, "refused", &answer)?,
            Upgrade::Refused(answer) => return mismatch(format!("{origin:?}"), "101", answer.brief()),
        }
    }
    let unknown = place.header("Origin", "http://other.test").upgrade("unknown");
    Expected::bare(403).check(t, "before the id is looked at", &t.refused_upgrade(&unknown).await?)
}

/// The next event that is no message of the hub.
async fn next_control(t: &Target, link: &mut Link) -> Outcome<Event> {
    let socket = link.web_socket()?;
    loop {
        match socket.event(t.soon()).await? {
            Event::Message(..) | Event::Ping(_) => {}
            other => return Ok(other),
        }
    }
}

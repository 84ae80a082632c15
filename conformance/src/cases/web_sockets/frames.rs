//! Group D: single frames, legal and illegal (`signalr-wire` §5.1).

use serde_json::json;

use super::{contract, echo, next_control};
use crate::cases::cases;
use crate::failure::{Outcome, Step, holds, same};
use crate::link::{Link, Observer, Transport};
use crate::runner::Run::Quick;
use crate::target::Target;
use crate::wire::End;
use crate::wire::frame::{self, Frame, LengthForm, MASK};
use crate::wire::hub;
use crate::wire::web_socket::Event;

cases! {
    "WS-10" Quick => ws_10_text_that_is_not_utf_8;
    "WS-20" Quick => ws_20_close_codes;
    "WS-27" Quick => ws_27_pings_are_answered;
    "WS-28" Quick => ws_28_pongs_and_empty_frames;
    "WS-29" Quick => ws_29_illegal_frames;
    "WS-30" Quick => ws_30_odd_but_legal_frames;
    "WS-31?" Quick => ws_31_message_inside_an_unfinished_one;
}

/// What the server does about bad bytes: a close frame with that code, no hub message, the end.
async fn closes_with(t: &Target, what: &str, code: u16, bytes: &[u8]) -> Outcome<Link> {
    let mut link = Link::socket(t, &contract()).await.step(what)?;
    link.web_socket()?.send_bytes(bytes).await.step(what)?;
    let event = link.web_socket()?.event(t.soon()).await.step(what)?;
    // The reference may lose the close frame with the reset that follows it.
    if event == Event::End(End::Reset) && !t.gateway {
        return Ok(link);
    }
    let farewell = Event::Message(frame::TEXT, b"{\"type\":7,\"allowReconnect\":true}\x1e".to_vec());
    let event = match event {
        // Seldom the reference's hub says goodbye before the close frame that answers the client's (WS-11).
        early if early == farewell && code == 1000 => link.web_socket()?.event(t.soon()).await.step(what)?,
        // Where the reference loses its close frame, a gateway sees a hub that is lost, and says so in good order.
        lost if lost == farewell && t.gateway => return Ok(link),
        other => other,
    };
    same(what, Event::Close(code, String::new()), event)?;
    let end = next_control(t, &mut link).await.step(what)?;
    holds(format!("{what}: end"), matches!(end, Event::End(End::Fin | End::Reset)), &end)?;
    Ok(link)
}

async fn ws_10_text_that_is_not_utf_8(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    for (what, bytes) in [
        ("lone FF FE", &b"\xff\xfe"[..]),
        ("inside JSON", b"{\"type\":1,\"target\":\"Echo\",\"arguments\":[\"\xff\"]}\x1e"),
        ("surrogate", b"\xed\xa0\x80"),
        ("overlong", b"\xc0\x80"),
        ("message that ends inside a character", b"\xe2\x82"),
    ] {
        let link = closes_with(t, what, 1007, &Frame::new(frame::TEXT, bytes).masked()).await?;
        observer.sees(&link, "disconnected").await.step(what)?;
    }
    let first = Frame::new(frame::TEXT, b"\xff").unfinished().masked();
    closes_with(t, "first fragment", 1007, &first).await?;
    // The same bytes in a Binary frame are bad JSON, not a bad frame.
    let mut link = Link::socket(t, &contract()).await?;
    link.say_bytes(b"\xff\xfe\x1e", frame::BINARY).await?;
    link.hears("Binary", &[crate::link::CLOSED_WITH_ERROR]).await?;
    link.ends("Binary").await
}

async fn ws_20_close_codes(t: &Target) -> Outcome {
    closes_with(t, "1 byte", 1002, &Frame::new(frame::CLOSE, [3]).masked()).await?;
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
        closes_with(t, &format!("code {code}"), 1002, &Frame::close(code, "").masked()).await?;
    }
    let bad_reason = Frame::new(frame::CLOSE, [3, 0xe8, 0xff, 0xfe]).masked();
    closes_with(t, "reason that is not UTF-8", 1002, &bad_reason).await?;
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1010, 1011, 1014, 3000, 4999] {
        closes_with(t, &format!("code {code}"), 1000, &Frame::close(code, "bye").masked()).await?;
    }
    closes_with(t, "no code", 1000, &Frame::new(frame::CLOSE, []).masked()).await.map(drop)
}

async fn ws_27_pings_are_answered(t: &Target) -> Outcome {
    let mut link = Link::open(t, Transport::WebSockets, &contract()).await?;
    let socket = link.web_socket()?;
    for payload in ["early", "", &"x".repeat(125)] {
        socket.send(&Frame::new(frame::PING, payload)).await?;
        same("before the handshake", Event::Pong(payload.into()), socket.event(t.soon()).await?)?;
    }
    link.shake_hands().await?;
    let socket = link.web_socket()?;
    let pings: Vec<Frame> = (0..5).map(|n| Frame::new(frame::PING, n.to_string())).collect();
    socket.send_all(&pings).await?;
    for n in 0..5 {
        same("several in a row", Event::Pong(n.to_string().into()), socket.event(t.soon()).await?)?;
    }
    let (call, answer) = echo("1", "x");
    let (head, tail) = call.as_bytes().split_at(20);
    let inside = [Frame::new(frame::TEXT, head).unfinished(), Frame::new(frame::PING, "mid")];
    socket.send_all(&inside).await?;
    same("inside a message", Event::Pong("mid".into()), socket.event(t.soon()).await?)?;
    socket.send(&Frame::new(frame::CONTINUATION, tail)).await?;
    link.hears("the message around it", &[&answer]).await
}

async fn ws_28_pongs_and_empty_frames(t: &Target) -> Outcome {
    let mut link = Link::socket(t, &contract()).await?;
    let frames = [
        Frame::new(frame::PONG, "unasked"),
        Frame::new(frame::PONG, ""),
        Frame::new(frame::TEXT, ""),
        Frame::new(frame::BINARY, ""),
        Frame::new(frame::TEXT, "").unfinished(),
        Frame::new(frame::CONTINUATION, "").unfinished(),
        Frame::new(frame::CONTINUATION, ""),
    ];
    link.web_socket()?.send_all(&frames).await?;
    link.hears_nothing("ignored", t.moment()).await?;
    link.works("afterwards").await
}

async fn ws_29_illegal_frames(t: &Target) -> Outcome {
    let masked = |frame: Frame| frame.masked();
    let unmasked = |frame: Frame| frame.encode(None, LengthForm::Minimal);
    let mut observer = Observer::open(t).await?;
    let top_bit = {
        let mut bytes = vec![0x81, 0xff];
        bytes.extend_from_slice(&(1_u64 << 63 | 5).to_be_bytes());
        bytes.extend_from_slice(&MASK);
        bytes
    };
    let inside = [Frame::text("a").unfinished().masked(), Frame::text("b").masked()].concat();
    for (what, bytes) in [
        ("RSV1", masked(Frame::text("x").reserved(4))),
        ("RSV2", masked(Frame::text("x").reserved(2))),
        ("RSV3", masked(Frame::text("x").reserved(1))),
        ("opcode 3", masked(Frame::new(3, "x"))),
        ("opcode 11", masked(Frame::new(11, "x"))),
        ("opcode 15", masked(Frame::new(15, "x"))),
        ("unmasked", unmasked(Frame::text("{\"type\":6}\u{1e}"))),
        ("ping with fin=0", masked(Frame::new(frame::PING, "x").unfinished())),
        ("ping of 126 bytes", masked(Frame::new(frame::PING, vec![b'x'; 126]))),
        ("close with fin=0", masked(Frame::close(1000, "").unfinished())),
        ("continuation without start", masked(Frame::new(frame::CONTINUATION, "x"))),
        ("Text inside a message", inside),
        ("length with the top bit", top_bit),
    ] {
        let link = closes_with(t, what, 1002, &bytes).await?;
        observer.sees(&link, "disconnected").await.step(what)?;
    }
    Ok(())
}

async fn ws_30_odd_but_legal_frames(t: &Target) -> Outcome {
    let mut link = Link::socket(t, &contract()).await?;
    let (call, answer) = echo("1", "€");
    let inside = call.find('€').unwrap_or_default() + 1;
    let (head, tail) = call.as_bytes().split_at(inside);
    let fragments = [Frame::new(frame::TEXT, head).unfinished(), Frame::new(frame::CONTINUATION, tail)];
    link.web_socket()?.send_all(&fragments).await?;
    link.hears("a character over two fragments", &[&answer]).await?;
    for form in [LengthForm::Sixteen, LengthForm::SixtyFour] {
        let bytes = Frame::text(&call).encode(Some(MASK), form);
        link.web_socket()?.send_bytes(&bytes).await?;
        link.hears(&format!("{form:?}"), &[&answer]).await?;
    }
    Ok(())
}

async fn ws_31_message_inside_an_unfinished_one(t: &Target) -> Outcome {
    let mut link = Link::socket(t, &contract()).await?;
    let (call, answer) = echo("1", "x");
    link.web_socket()?.send(&Frame::text(&call).unfinished()).await?;
    if !t.gateway {
        link.hears("before the last fragment", &[&answer]).await?;
    }
    let second = hub::invocation("2", "Echo", &json!(["y"]));
    link.web_socket()?.send(&Frame::new(frame::CONTINUATION, second)).await?;
    if t.gateway {
        link.hears("at last", &[&answer]).await?;
    }
    link.hears("after the last fragment", &[&hub::completion("2", &json!("y"))]).await
}

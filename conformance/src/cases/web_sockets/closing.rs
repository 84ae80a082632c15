//! Group D: how a WebSocket connection ends (`signalr-wire` §5.1 Closing, §4.4, §4.6).

use std::time::Instant;

use serde_json::json;

use super::{contract, echo, next_control};
use crate::cases::cases;
use crate::expected::{self, Expected, POST_REFUSED};
use crate::failure::{Outcome, Step, holds, mismatch, same, skip};
use crate::link::{CLOSED, CLOSED_FOR_NOW, Link, Observer, Transport};
use crate::runner::Run::{Quick, Waits};
use crate::target::{DEFAULTS, Place, SHORT_TRANSPORT, Target, Times};
use crate::wire::frame::{self, Frame};
use crate::wire::http::Connection;
use crate::wire::web_socket::{Event, Upgrade, WebSocket};
use crate::wire::{self, End, hub};

cases! {
    "WS-11" Quick => ws_11_client_closes;
    "WS-12" Quick => ws_12_abort;
    "WS-13" Quick => ws_13_application_throws;
    "WS-14" Waits(15) => ws_14_unanswered_close_frame;
    "WS-14" Waits(10) => ws_14_unanswered_close_frame_short;
    "WS-15" Quick => ws_15_loss_of_the_connection;
    "WS-17" Waits(20) => ws_17_reader_stops;
    "WS-17" Waits(20) => ws_17_reader_stops_short;
    "WS-21!" Waits(30) => ws_21_shutdown;
    "WS-32" Quick => ws_32_frames_after_the_close_frame;
    "WS-34" Quick => ws_34_ends_over_http2;
}

async fn ws_11_client_closes(t: &Target) -> Outcome {
    let place = contract();
    let mut observer = Observer::open(t).await?;
    for (what, close) in [
        ("1000", Frame::close(1000, "")),
        ("1001", Frame::close(1001, "")),
        ("no code", Frame::new(frame::CLOSE, "")),
        ("4000 with a reason", Frame::close(4000, "bye")),
    ] {
        let mut link = Link::socket(t, &place).await?;
        link.web_socket()?.send(&close).await?;
        let mut heard = link.next(t.soon()).await.step(what)?;
        if heard == CLOSED_FOR_NOW {
            // The reference's rare race.
            heard = link.next(t.soon()).await.step(what)?;
        }
        same(what, "CLOSE 1000", heard.as_str())?;
        link.hears(what, &["FIN"]).await?;
        observer.sees_end(&link, None).await.step(what)?;
        t.removed(what, &place, &link.token).await?;
    }
    let mut link = Link::open(t, Transport::WebSockets, &place).await?;
    link.web_socket()?.send(&Frame::close(1000, "")).await?;
    link.hears("before the handshake", &["CLOSE 1000", "FIN"]).await
}

async fn ws_12_abort(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    for place in [contract(), Place::from("/contract-detailed")] {
        let mut link = Link::socket(t, &place).await?;
        link.say(&hub::invocation("1", "Abort", &json!([]))).await?;
        link.hears("Abort", &[CLOSED, "CLOSE 1000", "FIN"]).await?;
        observer.sees_end(&link, None).await?;
    }
    let mut link = Link::of_socket(t, t.upgrade(&contract().upgrade_alone()).await?);
    link.shake_hands().await?;
    link.say(&hub::invocation("1", "Abort", &json!([]))).await?;
    link.hears("without id", &[CLOSED, "CLOSE 1000", "FIN"]).await
}

async fn ws_13_application_throws(t: &Target) -> Outcome {
    let mut link = Link::open(t, Transport::WebSockets, "/raw-throws").await?;
    link.web_socket()?.text("x").await?;
    link.hears("connection handler throws", &["CLOSE 1011", "FIN"]).await?;
    t.removed("connection handler throws", &link.place, &link.token).await?;
    let place = Place::from("/contract-ondisconnected-throws");
    for (what, message) in [("Close", hub::close()), ("Abort", hub::send("Abort", &json!([])))] {
        let mut link = Link::socket(t, &place).await?;
        link.say(&message).await?;
        let mut heard = link.next(t.soon()).await?;
        if heard == CLOSED {
            // It may be lost, says the digest.
            heard = link.next(t.soon()).await?;
        }
        same(format!("OnDisconnectedAsync throws after {what}"), "CLOSE 1011", heard.as_str())?;
    }
    let mut link = Link::socket(t, &place).await?;
    link.web_socket()?.send(&Frame::close(1000, "")).await?;
    link.hears("OnDisconnectedAsync throws after the client's close frame", &["CLOSE 1000"]).await?;
    let mut link = Link::open(t, Transport::WebSockets, "/contract-onconnected-throws").await?;
    link.say(&hub::handshake("json", 1)).await?;
    let closed = r#"{"type":7,"error":"Connection closed with an error."}"#;
    link.hears("OnConnectedAsync throws", &["{}", closed, "CLOSE 1000", "FIN"]).await
}

async fn ws_14_unanswered_close_frame(t: &Target) -> Outcome {
    unanswered_close_frame(t, DEFAULTS).await
}

async fn ws_14_unanswered_close_frame_short(t: &Target) -> Outcome {
    unanswered_close_frame(&t.with_short_times()?, SHORT_TRANSPORT).await
}

async fn unanswered_close_frame(t: &Target, times: Times) -> Outcome {
    let place = Place::from(times.path);
    let mut link = Link::socket(t, &place).await?;
    link.web_socket()?.answers_close = false;
    link.say(&hub::send("Abort", &json!([]))).await?;
    link.hears("Abort", &[CLOSED, "CLOSE 1000"]).await?;
    let began = Instant::now();
    let meanwhile = t.exchange(&place.post(&link.token, "x")).await?;
    Expected::text(405, POST_REFUSED).check(t, "POST meanwhile", &meanwhile)?;
    link.hears_within("after the time-out", &["RST"], t.seconds(times.close + 4)).await?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds until the reset", took > times.close as f32 - 0.5, took)?;
    t.removed("afterwards", &place, &link.token).await
}

async fn ws_15_loss_of_the_connection(t: &Target) -> Outcome {
    let place = contract();
    let mut observer = Observer::open(t).await?;
    for way in ["RST", "FIN", "half-close"] {
        let mut link = Link::socket(t, &place).await?;
        let (id, token) = (link.connection_id.clone(), link.token.clone());
        let mut kept = None;
        match way {
            "RST" => link.reset(),
            "FIN" => drop(link),
            _ => {
                link.web_socket()?.finish().await;
                kept = Some(link);
            }
        }
        same(way, true, observer.happened(&id, "disconnected", t.seconds(5)).await?)?;
        t.removed(way, &place, &token).await?;
        if let Some(mut link) = kept {
            link.hears("half-close", &["FIN"]).await?;
        }
    }
    Ok(())
}

async fn ws_17_reader_stops(t: &Target) -> Outcome {
    reader_stops(t, DEFAULTS).await
}

async fn ws_17_reader_stops_short(t: &Target) -> Outcome {
    reader_stops(&t.with_short_times()?, SHORT_TRANSPORT).await
}

async fn reader_stops(t: &Target, times: Times) -> Outcome {
    let place = Place::from(times.path);
    let mut observer = Observer::open(t).await?;
    let negotiated = t.negotiate(&place).await?;
    let connection = Connection::open_narrow(&t.address, 32 * 1024).await?;
    let request = place.upgrade(&negotiated.token);
    let Upgrade::Switched(mut socket) = WebSocket::upgrade(connection, &request, b"").await? else {
        return mismatch("upgrade", "101", "a refusal");
    };
    socket.text(&hub::handshake("json", 1)).await?;
    socket.text(&hub::send("Push", &json!([200, 100_000]))).await?;
    let began = Instant::now();
    let limit = t.seconds(times.send + 10);
    let ended = observer.happened(&negotiated.connection_id, "disconnected", limit).await?;
    same("end at the hub", true, ended)?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds until the end", took > times.send as f32 - 0.6, took)?;
    t.removed("afterwards", &place, &negotiated.token).await?;
    loop {
        match socket.event(t.soon()).await? {
            Event::Message(..) => {}
            end => return same("end of the socket, no close frame", Event::End(End::Reset), end),
        }
    }
}

async fn ws_21_shutdown(t: &Target) -> Outcome {
    let Some(servers) = &t.servers else { return skip("the target cannot be stopped") };
    let mut running = match servers.start().await {
        Ok(running) => running,
        Err(error) => return mismatch("a server to stop", "that it starts", error),
    };
    let own = running.target.clone();
    let place = contract();
    let mut idle = Link::socket(&own, &place).await?;
    let mut busy = Link::socket(&own, &place).await?;
    busy.say(&hub::invocation("1", "Block", &json!([]))).await?;
    let mut events = Link::start(&own, Transport::ServerSentEvents, &place).await?;
    let mut polls = Link::start(&own, Transport::LongPolling, &place).await?;
    polls.hears_nothing("poll", own.moment()).await?;
    let began = Instant::now();
    same("SIGTERM sent", true, running.stop().await.is_ok())?;
    polls.hears("poll", &[CLOSED_FOR_NOW]).await?;
    events.hears("event stream", &[CLOSED_FOR_NOW, "LAST CHUNK"]).await?;
    for (what, link) in [("idle socket", &mut idle), ("socket with a call running", &mut busy)] {
        link.hears(what, &[CLOSED_FOR_NOW]).await?;
        let close = link.next(t.soon()).await.step(what)?;
        holds(format!("{what}: close code"), close == "CLOSE 1000" || close == "CLOSE 1001", &close)?;
    }
    let took = began.elapsed().as_secs_f32();
    holds("seconds until all had heard", took < 5.0 * t.patience as f32, took)?;
    same("the server has stopped", true, running.stopped(t.seconds(15)).await)
}

async fn ws_32_frames_after_the_close_frame(t: &Target) -> Outcome {
    let (call, _) = echo("1", "x");
    let mut link = Link::socket(t, &contract()).await?;
    let frames = [Frame::close(1000, ""), Frame::text(&call), Frame::new(frame::PING, "late")];
    link.web_socket()?.send_all(&frames).await?;
    link.hears("after the client's close frame", &["CLOSE 1000", "END"]).await
}

async fn ws_34_ends_over_http2(t: &Target) -> Outcome {
    let place = contract();
    let version = [("sec-websocket-version", "13")];
    let mut http2 = t.connect_http2().await?;
    wire::within(t.soon(), http2.exchange("POST", "/contract/negotiate", None, &[])).await?;
    let mut observer = Observer::open(t).await?;
    for way in ["client closes", "server closes", "RST_STREAM"] {
        let negotiated = t.negotiate(&place).await?;
        let target = format!("/contract?id={}", negotiated.token);
        let connect = http2.request("CONNECT", &target, Some("websocket"), &version);
        let (head, channel) = wire::within(t.soon(), connect).await.step(way)?;
        same(way, 200, head.status)?;
        let mut link = Link::of_socket(t, WebSocket::over_http2(channel, head));
        link.shake_hands().await?;
        match way {
            "client closes" => {
                link.web_socket()?.send(&Frame::close(1000, "")).await?;
                link.hears(way, &["CLOSE 1000", "END_STREAM"]).await?;
            }
            "server closes" => {
                link.web_socket()?.answers_close = false;
                link.say(&hub::send("Abort", &json!([]))).await?;
                link.hears(way, &[CLOSED, "CLOSE 1000"]).await?;
                link.hears_nothing("END_STREAM waits for the client's", t.moment()).await?;
                link.web_socket()?.send(&Frame::close(1000, "")).await?;
                link.web_socket()?.finish().await;
                same(way, Event::End(End::EndStream), next_control(t, &mut link).await?)?;
            }
            _ => link.reset(),
        }
        let ended = observer.happened(&negotiated.connection_id, "disconnected", t.seconds(5)).await?;
        same(format!("{way}: end at the hub"), true, ended)?;
        t.removed(way, &place, &negotiated.token).await?;
    }
    let unknown = http2.exchange("CONNECT", "/contract?id=unknown", Some("websocket"), &version);
    let refused = wire::within(t.soon(), unknown).await?;
    same("unknown id", (404, expected::NO_CONNECTION), (refused.head.status, refused.text().as_str()))
}

//! Group N: keep-alive, time-outs, Close (`signalr-wire` §11).

use std::time::{Duration, Instant};

use rmpv::Value as Pack;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::cases;
use crate::failure::{Outcome, Problem, Step, holds, mismatch, same};
use crate::jwt;
use crate::link::{CLOSED, CLOSED_FOR_NOW, CLOSED_WITH_ERROR, Link, Observer, TRANSPORTS, Transport};
use crate::runner::Run::{Quick, Waits};
use crate::target::{DEFAULTS, Place, SHORT_CLIENT, SHORT_PING, Target, Times};
use crate::wire::frame::{self, Frame};
use crate::wire::{Error, hub};

cases! {
    "KA-01" Waits(40) => ka_01_pings;
    "KA-01" Waits(8) => ka_01_pings_short;
    "KA-02?" Waits(10) => ka_02_pings_on_a_busy_connection;
    "KA-03" Waits(40) => ka_03_client_never_pings;
    "KA-03" Waits(10) => ka_03_client_never_pings_short;
    "KA-04" Waits(40) => ka_04_one_ping_then_silence;
    "KA-04" Waits(10) => ka_04_one_ping_then_silence_short;
    "KA-05" Waits(45) => ka_05_pings_keep_it_open;
    "KA-05" Waits(10) => ka_05_pings_keep_it_open_short;
    "KA-06" Waits(10) => ka_06_invocations_keep_it_open;
    "KA-07" Waits(40) => ka_07_stalled_loop;
    "KA-07" Waits(12) => ka_07_stalled_loop_short;
    "KA-08" Waits(40) => ka_08_one_long_method;
    "KA-08" Waits(10) => ka_08_one_long_method_short;
    "KA-09" Waits(10) => ka_09_half_messages_do_not_count;
    "KA-13" Waits(10) => ka_13_web_socket_pings_do_not_count;
    "KA-14" Waits(22) => ka_14_first_ping_after_a_late_handshake;
    "KA-15" Waits(10) => ka_15_calls_that_fail_count;
    "CL-01" Quick => cl_01_client_sends_close;
    "CL-02" Quick => cl_02_client_sends_close_with_error;
    "CL-03" Quick => cl_03_on_connected_throws;
    "CL-04" Quick => cl_04_protocol_error;
    "CL-05" Quick => cl_05_half_a_message;
    "CL-06" Waits(12) => cl_06_authentication_expires;
    "CL-07" Quick => cl_07_detailed_errors;
    "CL-12" Quick => cl_12_slow_on_disconnected;
    "CL-13?" Quick => cl_13_calls_behind_the_close;
    "CL-14" Quick => cl_14_close_frame_while_a_call_runs;
    "CL-15" Quick => cl_15_on_connected_aborts;
}

const PING: &str = r#"{"type":6}"#;

async fn ka_01_pings(t: &Target) -> Outcome {
    pings(t, DEFAULTS).await
}

async fn ka_01_pings_short(t: &Target) -> Outcome {
    pings(t, SHORT_PING).await
}

async fn pings(t: &Target, times: Times) -> Outcome {
    let on = async |transport| -> Outcome {
        let began = Instant::now();
        let mut link = Link::start(t, transport, times.path).await?;
        link.hears_pings = true;
        for number in 1..=2 {
            link.hears_within("ping", &[PING], t.seconds(times.keep_alive + 4)).await?;
            // The base is the moment the transport attached, somewhere within the start of the link.
            let (took, due) = (began.elapsed().as_secs_f32(), (number * times.keep_alive) as f32);
            let latest = due + 3.0 * number as f32 * t.patience as f32 + 2.0;
            holds(format!("seconds until ping {number}"), (due * 0.9..latest).contains(&took), took)?;
        }
        Ok(())
    };
    let (socket, events) = (on(Transport::WebSockets), on(Transport::ServerSentEvents));
    tokio::try_join!(socket, events).map(drop)
}

async fn ka_02_pings_on_a_busy_connection(t: &Target) -> Outcome {
    let mut link = Link::socket(t, SHORT_PING.path).await?;
    link.hears_pings = true;
    let (mut pings, began) = (0_u64, Instant::now());
    let mut number = 0_u32;
    while began.elapsed() < Duration::from_secs(5) {
        number += 1;
        link.say(&hub::invocation(&number.to_string(), "Echo", &json!([number]))).await?;
        let completion = hub::completion(&number.to_string(), &json!(number));
        loop {
            let heard = link.next(t.soon()).await?;
            if heard == PING {
                pings += 1;
                continue;
            }
            same("busy connection", completion.as_str(), heard.as_str())?;
            break;
        }
    }
    // The reference pings a busy connection too; a server that leaves them out is as good. More than one an
    // interval would be wrong.
    holds("pings in 5 s at an interval of 1 s", pings <= 6 && (t.gateway || pings >= 1), pings)
}

/// Lets time pass on a connection on which nothing but pings may be heard.
async fn idle(link: &mut Link, what: &str, seconds: u64) -> Outcome {
    match link.next(Duration::from_secs(seconds)).await {
        Ok(heard) => mismatch(what, "an open connection", heard),
        Err(failure) if matches!(failure.problem, Problem::Wire(Error::Late(_))) => Ok(()),
        Err(failure) => Err(failure),
    }
}

async fn ka_03_client_never_pings(t: &Target) -> Outcome {
    never_pings(t, DEFAULTS).await
}

async fn ka_03_client_never_pings_short(t: &Target) -> Outcome {
    never_pings(t, SHORT_CLIENT).await
}

async fn never_pings(t: &Target, times: Times) -> Outcome {
    let mut link = Link::socket(t, times.path).await?;
    link.works("before").await?;
    sleep(Duration::from_secs(times.client + 4)).await;
    link.works("a client that never pinged").await
}

/// Sends a Ping and hears the time-out's Close at the right time, then the end.
async fn is_timed_out(t: &Target, link: &mut Link, times: Times, meanwhile: Option<&[u8]>) -> Outcome {
    let began = Instant::now();
    let limit = t.seconds(times.client + 4);
    let heard = loop {
        // Bytes that must not count are sent four times in each time-out.
        let step = Duration::from_millis(times.client * 250);
        match link.next(if meanwhile.is_some() { step } else { limit }).await {
            Ok(heard) if heard.starts_with("PONG") => {}
            Ok(heard) => break heard,
            Err(failure) if began.elapsed() < limit && matches!(failure.problem, Problem::Wire(Error::Late(_))) => {
                if let Some(bytes) = meanwhile {
                    link.web_socket()?.send_bytes(bytes).await?;
                }
            }
            Err(failure) => return Err(failure).step("waiting for the time-out"),
        }
    };
    same("time-out", CLOSED_WITH_ERROR, heard.as_str())?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds until the time-out", took > times.client as f32 - 0.5, took)?;
    link.ends("time-out").await
}

async fn ka_04_one_ping_then_silence(t: &Target) -> Outcome {
    one_ping(t, DEFAULTS).await
}

async fn ka_04_one_ping_then_silence_short(t: &Target) -> Outcome {
    one_ping(t, SHORT_CLIENT).await
}

async fn one_ping(t: &Target, times: Times) -> Outcome {
    let on = async |transport: Transport| -> Outcome {
        let mut observer = Observer::open(t).await?;
        let mut link = Link::start(t, transport, times.path).await?;
        link.say(&hub::ping()).await?;
        is_timed_out(t, &mut link, times, None).await.step(format!("{transport:?}"))?;
        observer
            .sees_end(&link, Some("Client hasn't sent a message/ping within the configured ClientTimeoutInterval."))
            .await
    };
    futures_util::future::try_join_all(TRANSPORTS.map(on)).await.map(drop)
}

/// Sends what `next` gives, two times in each client time-out, for three time-outs; the connection must live.
async fn stays_open(t: &Target, times: Times, rounds: u64, mut next: impl FnMut(u64) -> String) -> Outcome {
    let mut link = Link::socket(t, times.path).await?;
    link.say(&hub::ping()).await?;
    for round in 0..rounds {
        sleep(Duration::from_millis(times.client * 1000 * 2 / 3)).await;
        link.say(&next(round)).await.step(format!("round {round}"))?;
    }
    link.works("afterwards").await
}

async fn ka_05_pings_keep_it_open(t: &Target) -> Outcome {
    stays_open(t, DEFAULTS, 2, |_| hub::ping()).await
}

async fn ka_05_pings_keep_it_open_short(t: &Target) -> Outcome {
    stays_open(t, SHORT_CLIENT, 4, |_| hub::ping()).await
}

async fn ka_06_invocations_keep_it_open(t: &Target) -> Outcome {
    stays_open(t, SHORT_CLIENT, 4, |round| hub::invocation(&round.to_string(), "Echo", &json!(["x"]))).await
}

async fn ka_07_stalled_loop(t: &Target) -> Outcome {
    stalled_loop(t, DEFAULTS).await
}

async fn ka_07_stalled_loop_short(t: &Target) -> Outcome {
    stalled_loop(t, SHORT_CLIENT).await
}

async fn stalled_loop(t: &Target, times: Times) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = Link::socket(t, times.path).await?;
    link.say(&hub::ping()).await?;
    link.say(&hub::invocation("a", "Block", &json!([]))).await?;
    link.say(&hub::invocation("b", "Echo", &json!(["x"]))).await?;
    idle(&mut link, "stalled loop", times.client + 4).await?;
    observer.unblock(&link).await?;
    let blocked = r#"{"type":3,"invocationId":"a","result":null}"#;
    link.hears("released", &[blocked, &hub::completion("b", &json!("x"))]).await
}

async fn ka_08_one_long_method(t: &Target) -> Outcome {
    let on = async |path: &'static str| -> Outcome {
        let mut link = Link::socket(t, path).await?;
        link.say(&hub::ping()).await?;
        link.say(&hub::invocation("a", "Block", &json!([]))).await?;
        is_timed_out(t, &mut link, DEFAULTS, None).await.step(path)
    };
    tokio::try_join!(on("/contract"), on("/contract-parallel")).map(drop)
}

async fn ka_08_one_long_method_short(t: &Target) -> Outcome {
    let mut link = Link::socket(t, SHORT_CLIENT.path).await?;
    link.say(&hub::ping()).await?;
    link.say(&hub::invocation("a", "Block", &json!([]))).await?;
    is_timed_out(t, &mut link, SHORT_CLIENT, None).await
}

async fn ka_09_half_messages_do_not_count(t: &Target) -> Outcome {
    let mut link = Link::socket(t, SHORT_CLIENT.path).await?;
    link.say(&(hub::ping() + r#"{"type":6,"x":""#)).await?;
    is_timed_out(t, &mut link, SHORT_CLIENT, Some(&Frame::text("x").masked())).await
}

async fn ka_13_web_socket_pings_do_not_count(t: &Target) -> Outcome {
    let mut link = Link::socket(t, SHORT_CLIENT.path).await?;
    link.say(&hub::ping()).await?;
    let socket = link.web_socket()?;
    socket.send(&Frame::new(frame::PING, "first")).await?;
    link.hears("Pong", &["PONG first"]).await?;
    is_timed_out(t, &mut link, SHORT_CLIENT, Some(&Frame::new(frame::PING, "x").masked())).await
}

async fn ka_14_first_ping_after_a_late_handshake(t: &Target) -> Outcome {
    let mut link = Link::open(t, Transport::WebSockets, DEFAULTS.path).await?;
    link.hears_pings = true;
    let began = Instant::now();
    sleep(Duration::from_secs(9)).await;
    link.shake_hands().await?;
    link.hears_within("ping", &[PING], t.seconds(10)).await?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds from the upgrade to the first ping", (13.5..19.0 * t.patience as f32).contains(&took), took)
}

async fn ka_15_calls_that_fail_count(t: &Target) -> Outcome {
    stays_open(t, SHORT_CLIENT, 4, |_| hub::send("NoSuchMethod", &json!([]))).await.step("unknown methods")?;
    let item = |_| hub::record(&json!({"type": 2, "invocationId": "none", "item": 1}));
    stays_open(t, SHORT_CLIENT, 4, item).await.step("items of unknown streams")
}

async fn cl_01_client_sends_close(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    for text in [r#"{"type":7}"#, r#"{"type":7,"allowReconnect":true}"#, r#"{"type":7,"x":1}"#] {
        for transport in TRANSPORTS {
            let mut link = Link::start(t, transport, "/contract").await?;
            link.say(&format!("{text}\u{1e}")).await?;
            link.hears(text, &[CLOSED]).await?;
            link.ends(text).await?;
            observer.sees_end(&link, None).await?;
        }
    }
    for items in [vec![7.into(), Pack::Nil], vec![7.into(), Pack::Nil, false.into()]] {
        let mut link = Link::open(t, Transport::WebSockets, "/contract").await?;
        link.say(&hub::handshake("messagepack", 1)).await?;
        link.say_bytes(&hub::packed(items), frame::BINARY).await?;
        link.hears("MessagePack", &["bin:{}", "bin:049307c0c2"]).await?;
        link.ends("MessagePack").await?;
    }
    Ok(())
}

async fn cl_02_client_sends_close_with_error(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    for path in ["/contract", "/contract-detailed"] {
        let mut link = Link::socket(t, path).await?;
        link.say("{\"type\":7,\"error\":\"e\"}\u{1e}").await?;
        link.hears(path, &[CLOSED]).await?;
        link.ends(path).await?;
        observer.sees_end(&link, Some("e")).await?;
    }
    Ok(())
}

async fn cl_03_on_connected_throws(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    for (path, more) in
        [("/contract-onconnected-throws", ""), ("/contract-onconnected-throws-hub", " HubException: connected")]
    {
        let mut link = Link::open(t, Transport::WebSockets, path).await?;
        link.say(&hub::handshake("json", 1)).await?;
        let closed = format!(r#"{{"type":7,"error":"Connection closed with an error.{more}"}}"#);
        link.hears(path, &["{}", &closed]).await?;
        link.ends(path).await?;
        observer.sees_no(&link, "disconnected").await?;
    }
    Ok(())
}

/// Input that ends a connection, and the message of the exception.
fn bad_input() -> [(&'static str, String, &'static str); 4] {
    let too_long =
        "The maximum message size of 32768B was exceeded. The message size can be configured in AddHubOptions.";
    [
        ("not JSON", "nonsense\u{1e}".into(), "Error reading JSON."),
        ("empty record", "\u{1e}".into(), "Error reading JSON."),
        ("too long", format!("{{\"type\":6,\"x\":\"{}\"}}\u{1e}", "x".repeat(40_000)), too_long),
        ("no target", "{\"type\":1,\"arguments\":[]}\u{1e}".into(), "Missing required property 'target'."),
    ]
}

async fn cl_04_protocol_error(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    for (what, text, error) in bad_input() {
        let mut link = Link::socket(t, "/contract").await?;
        link.say(&text).await?;
        link.hears(what, &[CLOSED_WITH_ERROR]).await?;
        link.ends(what).await?;
        observer.sees_end(&link, Some(error)).await.step(what)?;
    }
    Ok(())
}

async fn cl_05_half_a_message(t: &Target) -> Outcome {
    const TERMINATED: Option<&str> = Some("Connection terminated while reading a message.");
    const HALF: &str = r#"{"type":1,"target":"#;
    let mut observer = Observer::open(t).await?;

    let mut link = Link::socket(t, "/contract").await?;
    link.say(HALF).await?;
    link.web_socket()?.send(&Frame::close(1000, "")).await?;
    link.hears("WebSocket, close frame", &["CLOSE 1000", "END"]).await?;
    observer.sees_end(&link, TERMINATED).await.step("WebSocket, close frame")?;

    let mut link = Link::socket(t, "/contract").await?;
    link.say(HALF).await?;
    link.web_socket()?.finish().await;
    link.hears("WebSocket, FIN", &["END"]).await?;
    observer.sees_end(&link, TERMINATED).await.step("WebSocket, FIN")?;

    let mut link = Link::start(t, Transport::ServerSentEvents, "/contract").await?;
    link.say(HALF).await?;
    link.event_stream()?.connection().finish().await;
    observer.sees_end(&link, TERMINATED).await.step("event stream")?;

    let mut link = Link::start(t, Transport::LongPolling, "/contract").await?;
    link.say(HALF).await?;
    link.hears_nothing("poll", t.moment()).await?;
    same("DELETE", 202, t.exchange(&link.place.delete(&link.token)).await?.head.status)?;
    let heard = link.next(t.soon()).await?;
    // The 204 is the race of LP-10.
    holds("poll pending at DELETE", heard == CLOSED_WITH_ERROR || heard == "204", &heard)?;
    observer.sees_end(&link, TERMINATED).await.step("long polling")
}

async fn cl_06_authentication_expires(t: &Target) -> Outcome {
    let token = jwt::expiring("alice", Duration::from_secs(6));
    let place = Place::from("/contract-authexpiry").bearer(&token);
    let mut link = Link::socket(t, place).await?;
    link.hears("expiry", &[CLOSED_FOR_NOW]).await?;
    link.ends("expiry").await
}

async fn cl_07_detailed_errors(t: &Target) -> Outcome {
    for (what, text, error) in bad_input() {
        let mut link = Link::socket(t, "/contract-detailed").await?;
        link.say(&text).await?;
        let heard: Value = serde_json::from_str(&link.next(t.soon()).await?).unwrap_or_default();
        let error = format!("Connection closed with an error. InvalidDataException: {error}");
        same(what, json!({"type": 7, "error": error, "allowReconnect": true}), heard)?;
        link.ends(what).await?;
    }
    Ok(())
}

async fn cl_12_slow_on_disconnected(t: &Target) -> Outcome {
    for (what, text, closed) in [
        ("client's Close", hub::close(), CLOSED),
        ("Abort", hub::send("Abort", &json!([])), CLOSED),
        ("protocol error", "nonsense\u{1e}".into(), CLOSED_WITH_ERROR),
    ] {
        for transport in [Transport::WebSockets, Transport::ServerSentEvents] {
            let what = format!("{what}, {transport:?}");
            let mut link = Link::start(t, transport, "/contract-ondisconnected-slow").await?;
            link.say(&text).await?;
            link.hears(&what, &[closed]).await?;
            let began = Instant::now();
            link.ends(&what).await?;
            // OnDisconnectedAsync takes 1.5 s, and what it sends is dropped.
            holds(format!("{what}: the end later"), began.elapsed() > Duration::from_millis(900), began.elapsed())?;
        }
    }
    Ok(())
}

async fn cl_13_calls_behind_the_close(t: &Target) -> Outcome {
    let mut link = Link::socket(t, "/contract").await?;
    link.say(&(hub::close() + &hub::invocation("1", "Echo", &json!(["x"])))).await?;
    link.hears("no answer to the call", &[CLOSED]).await?;
    link.ends("no answer to the call").await
}

async fn cl_14_close_frame_while_a_call_runs(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = Link::socket(t, "/contract-ondisconnected-slow").await?;
    link.say(&hub::invocation("1", "Sleep", &json!([1000]))).await?;
    link.web_socket()?.send(&Frame::close(1000, "")).await?;
    link.hears("close frame", &["CLOSE 1000"]).await?;
    let began = Instant::now();
    link.hears("and no Completion", &["END"]).await?;
    // The end waits for OnDisconnectedAsync, which takes 1.5 s; the close frame does not. A gateway ends the client's
    // connection behind both close frames and waits for the hub alone.
    let waited = began.elapsed() > Duration::from_millis(900);
    holds("before OnDisconnectedAsync", waited || t.gateway, began.elapsed())?;
    observer.sees(&link, "disconnected").await
}

async fn cl_15_on_connected_aborts(t: &Target) -> Outcome {
    let mut link = Link::open(t, Transport::WebSockets, "/contract-onconnected-aborts").await?;
    link.say(&hub::handshake("json", 1)).await?;
    link.hears("OnConnectedAsync calls Abort", &["{}", CLOSED]).await?;
    link.ends("OnConnectedAsync calls Abort").await
}

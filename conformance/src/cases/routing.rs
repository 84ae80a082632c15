//! Group C: connection ids and routing (`signalr-wire` §2, §4).

use serde_json::json;

use super::cases;
use crate::expected::{self, Expected, Frames, ID_REQUIRED, NOT_DELETABLE, POST_REFUSED, TRANSPORT_CHANGED};
use crate::failure::{Outcome, Step, holds, same};
use crate::link::{CLOSED, Link, Observer, TRANSPORTS, Transport, flood};
use crate::runner::Run::{Quick, Waits};
use crate::target::{Place, Target};
use crate::wire::http::Request;
use crate::wire::web_socket::{WebSocket, upgrade_request};
use crate::wire::{self, hub};

cases! {
    "RTE-01" Quick => rte_01_without_id;
    "RTE-02" Quick => rte_02_empty_id;
    "RTE-03" Quick => rte_03_unknown_id;
    "RTE-04" Quick => rte_04_web_socket_without_id;
    "RTE-05" Quick => rte_05_disabled_transport;
    "RTE-06" Quick => rte_06_transport_changed;
    "RTE-07" Quick => rte_07_second_web_socket;
    "RTE-08" Quick => rte_08_second_event_stream;
    "RTE-09" Quick => rte_09_disposed_id;
    "RTE-10" Quick => rte_10_other_methods;
    "RTE-11" Quick => rte_11_accept_with_a_parameter;
    "RTE-12" Quick => rte_12_accept_among_others;
    "RTE-13" Quick => rte_13_upgrade_that_accepts_events;
    "RTE-14" Quick => rte_14_cache_headers_of_polls;
    "RTE-15" Quick => rte_15_web_socket_over_http2;
    "RTE-16" Waits(10) => rte_16_request_time_outs_do_not_apply;
    "RTE-17!" Quick => rte_17_token_belongs_to_its_endpoint;
    "RTE-18" Quick => rte_18_spellings_of_the_id;
    "RTE-19" Quick => rte_19_headers_of_every_answer;
    "RTE-20" Quick => rte_20_pipelined_polls;
    "RTE-21" Quick => rte_21_spellings_of_accept;
    "RTE-22" Quick => rte_22_odd_methods;
    "RTE-23" Quick => rte_23_bare_requests;
}

fn contract() -> Place {
    Place::from("/contract")
}

/// A token that nothing was ever negotiated for.
const UNKNOWN: &str = "AAAAAAAAAAAAAAAAAAAAAA";

async fn rte_01_without_id(t: &Target) -> Outcome {
    let required = Expected::text(400, ID_REQUIRED);
    let events = Request::new("GET", "/contract").header("Accept", "text/event-stream");
    required.check(t, "events", &t.exchange(&events).await?)?;
    required.check(t, "POST", &t.exchange(&Request::new("POST", "/contract").body("x")).await?)?;
    required.check(t, "DELETE", &t.exchange(&Request::new("DELETE", "/contract")).await?)?;
    for path in ["/contract", "/contract?other=1"] {
        required.clone().polled().check(t, path, &t.exchange(&Request::new("GET", path)).await?)?;
    }
    Ok(())
}

async fn rte_02_empty_id(t: &Target) -> Outcome {
    let (required, place) = (Expected::text(400, ID_REQUIRED), contract());
    required.check(t, "events", &t.exchange(&place.events("")).await?)?;
    required.check(t, "POST", &t.exchange(&place.post("", "x")).await?)?;
    required.check(t, "DELETE", &t.exchange(&place.delete("")).await?)?;
    required.clone().polled().check(t, "poll", &t.exchange(&place.poll("")).await?)?;
    required.polled().check(t, "id without =", &t.exchange(&Request::new("GET", "/contract?id")).await?)?;
    let socket = t.upgrade(&place.upgrade("")).await?;
    expected::check_switched("WebSocket", &socket.head, &[])
}

async fn rte_03_unknown_id(t: &Target) -> Outcome {
    let (unknown, place) = (Expected::no_connection(), contract());
    unknown.check(t, "events", &t.exchange(&place.events(UNKNOWN)).await?)?;
    unknown.check(t, "POST", &t.exchange(&place.post(UNKNOWN, "x")).await?)?;
    unknown.check(t, "DELETE", &t.exchange(&place.delete(UNKNOWN)).await?)?;
    unknown.clone().polled().check(t, "poll", &t.exchange(&place.poll(UNKNOWN)).await?)?;
    unknown.untyped().check(t, "WebSocket", &t.refused_upgrade(&place.upgrade(UNKNOWN)).await?)
}

async fn rte_04_web_socket_without_id(t: &Target) -> Outcome {
    let socket = t.upgrade(&contract().upgrade_alone()).await?;
    expected::check_switched("upgrade", &socket.head, &[])?;
    let mut link = Link::of_socket(t, socket);
    link.shake_hands().await?;
    let id = link.call("ConnectionId", json!([])).await?;
    let length = id.as_str().map(str::len);
    same("characters of the connection id", Some(22), length)
}

async fn rte_05_disabled_transport(t: &Target) -> Outcome {
    for (path, own) in [
        ("/contract-ws", Transport::WebSockets),
        ("/contract-sse", Transport::ServerSentEvents),
        ("/contract-lp", Transport::LongPolling),
    ] {
        if t.gateway && own == Transport::ServerSentEvents {
            // A gateway has no way to such a hub (edge rule D5).
            continue;
        }
        for other in TRANSPORTS.into_iter().filter(|other| *other != own) {
            let place = Place::from(path);
            let token = t.negotiate(&place).await?.token;
            let text = format!("{other:?} transport not supported by this end point type");
            let (refused, unknown) = (Expected::text(404, &text), Expected::no_connection());
            let what = format!("{path} {other:?}");
            for (expected, token) in [(refused, token.as_str()), (unknown, UNKNOWN)] {
                match other {
                    Transport::WebSockets => {
                        let expected = if token == UNKNOWN { expected.untyped() } else { expected };
                        expected.check(t, &what, &t.refused_upgrade(&place.upgrade(token)).await?)?;
                    }
                    Transport::ServerSentEvents => {
                        expected.check(t, &what, &t.exchange(&place.events(token)).await?)?;
                    }
                    Transport::LongPolling => {
                        expected.polled().check(t, &what, &t.exchange(&place.poll(token)).await?)?;
                    }
                }
            }
        }
    }
    Ok(())
}

async fn rte_06_transport_changed(t: &Target) -> Outcome {
    let (changed, place) = (Expected::text(400, TRANSPORT_CHANGED), contract());
    let mut polls = Link::start(t, Transport::LongPolling, &place).await?;
    changed.check(t, "polls, then events", &t.exchange(&place.events(&polls.token)).await?)?;
    changed.check(t, "polls, then WebSocket", &t.refused_upgrade(&place.upgrade(&polls.token)).await?)?;
    polls.works("polls go on").await?;
    let mut events = Link::start(t, Transport::ServerSentEvents, &place).await?;
    changed.clone().polled().check(t, "events, then poll", &t.exchange(&place.poll(&events.token)).await?)?;
    changed.check(t, "events, then WebSocket", &t.refused_upgrade(&place.upgrade(&events.token)).await?)?;
    let refused = Expected::text(400, NOT_DELETABLE);
    refused.check(t, "events, then DELETE", &t.exchange(&place.delete(&events.token)).await?)?;
    events.works("events go on").await?;
    let mut socket = Link::socket(t, &place).await?;
    changed.clone().polled().check(t, "WebSocket, then poll", &t.exchange(&place.poll(&socket.token)).await?)?;
    changed.check(t, "WebSocket, then events", &t.exchange(&place.events(&socket.token)).await?)?;
    refused.check(t, "WebSocket, then DELETE", &t.exchange(&place.delete(&socket.token)).await?)?;
    let post = t.exchange(&place.post(&socket.token, "x")).await?;
    Expected::text(405, POST_REFUSED).check(t, "WebSocket, then POST", &post)?;
    socket.works("the WebSocket goes on").await
}

async fn rte_07_second_web_socket(t: &Target) -> Outcome {
    let place = contract();
    let mut first = Link::socket(t, &place).await?;
    let second = t.refused_upgrade(&place.upgrade(&first.token)).await?;
    Expected::empty(409).check(t, "second", &second)?;
    first.works("first").await?;
    first.say(&hub::close()).await?;
    first.hears("first's end", &[CLOSED]).await?;
    first.ends("first's end").await?;
    t.removed("first's end", &place, &first.token).await?;
    let after = t.refused_upgrade(&place.upgrade(&first.token)).await?;
    Expected::no_connection().untyped().check(t, "after its end", &after)
}

async fn rte_08_second_event_stream(t: &Target) -> Outcome {
    let place = contract();
    let mut first = Link::start(t, Transport::ServerSentEvents, &place).await?;
    Expected::empty(409).check(t, "second", &t.exchange(&place.events(&first.token)).await?)?;
    first.works("first").await?;
    first.say(&hub::close()).await?;
    first.hears("first's end", &[CLOSED]).await?;
    first.ends("first's end").await?;
    t.removed("first's end", &place, &first.token).await?;
    Expected::no_connection().check(t, "after its end", &t.exchange(&place.events(&first.token)).await?)
}

async fn rte_09_disposed_id(t: &Target) -> Outcome {
    let place = contract();
    let mut observer = Observer::open(t).await?;
    // A gateway ends the connection whatever its hub's loop does, so there it is unknown at once (edge rule A2).
    let gone = Expected::no_connection();
    let or_gone = |reference: Expected| if t.gateway { gone.clone() } else { reference };
    let unknown_upgrade = |reference: Expected| if t.gateway { gone.clone().untyped() } else { reference };
    let mut polls = Link::start(t, Transport::LongPolling, &place).await?;
    polls.works("polls").await?;
    polls.stall(2500).await?;
    let token = polls.token.clone();
    Expected::empty(202).check(t, "DELETE", &t.exchange(&place.delete(&token)).await?)?;
    or_gone(Expected::empty(404)).polled().check(t, "poll", &t.exchange(&place.poll(&token)).await?)?;
    or_gone(Expected::empty(404)).check(t, "POST", &t.exchange(&place.post(&token, "x")).await?)?;
    or_gone(Expected::empty(202)).check(t, "second DELETE", &t.exchange(&place.delete(&token)).await?)?;
    observer.sees(&polls, "disconnected").await?;
    gone.clone().polled().check(t, "poll, loop ended", &t.exchange(&place.poll(&token)).await?)?;

    let mut events = Link::start(t, Transport::ServerSentEvents, &place).await?;
    events.stall(2500).await?;
    let (token, id) = (events.token.clone(), events.connection_id.clone());
    events.reset();
    if t.gateway {
        t.removed("events", &place, &token).await?;
    }
    or_gone(Expected::empty(409)).check(t, "events", &t.exchange(&place.events(&token)).await?)?;
    let refused = t.refused_upgrade(&place.upgrade(&token)).await?;
    let changed = Expected::text(400, TRANSPORT_CHANGED);
    unknown_upgrade(changed).check(t, "WebSocket on events", &refused)?;
    same("end of the events at the hub", true, observer.happened(&id, "disconnected", t.soon()).await?)?;

    let mut socket = Link::socket(t, &place).await?;
    socket.stall(2500).await?;
    let (token, id) = (socket.token.clone(), socket.connection_id.clone());
    socket.reset();
    if t.gateway {
        t.removed("WebSocket", &place, &token).await?;
    }
    let refused = t.refused_upgrade(&place.upgrade(&token)).await?;
    unknown_upgrade(Expected::empty(409)).check(t, "WebSocket", &refused)?;
    same("end of the WebSocket at the hub", true, observer.happened(&id, "disconnected", t.soon()).await?)
}

async fn rte_10_other_methods(t: &Target) -> Outcome {
    let token = t.negotiate(&contract()).await?.token;
    for method in ["PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND"] {
        for path in ["/contract".to_owned(), format!("/contract?id={token}")] {
            let answer = t.exchange(&Request::new(method, &path)).await.step(method)?;
            let refused = Expected::empty(405);
            let refused = if method == "HEAD" { refused.frames(Frames::Absent) } else { refused };
            refused.check(t, &format!("{method} {path}"), &answer)?;
        }
    }
    Ok(())
}

/// Whether the branch taken for a GET with these `Accept` lines is that of event streams.
async fn is_event_stream(t: &Target, accept: &[&str]) -> Outcome<bool> {
    let token = t.negotiate(&contract()).await?.token;
    let request = accept.iter().fold(contract().poll(&token), |request, value| request.header("Accept", *value));
    let mut connection = t.connect().await?;
    connection.send(&request).await?;
    let head = wire::within(t.soon(), connection.head()).await.step(format!("{accept:?}"))?;
    same(format!("{accept:?}"), 200, head.status)?;
    Ok(head.header("content-type") == Some("text/event-stream"))
}

async fn rte_11_accept_with_a_parameter(t: &Target) -> Outcome {
    for accept in [
        "text/event-stream;q=0.9",
        "text/event-stream; charset=utf-8",
        "text/event-stream;q=1",
        "text/event-streams",
        "",
    ] {
        same(accept, false, is_event_stream(t, &[accept]).await?)?;
    }
    Ok(())
}

async fn rte_12_accept_among_others(t: &Target) -> Outcome {
    for accept in ["text/html, text/event-stream", "text/event-stream,text/html", "text/html;q=0.5,text/event-stream"] {
        same(accept, true, is_event_stream(t, &[accept]).await?)?;
    }
    Ok(())
}

async fn rte_13_upgrade_that_accepts_events(t: &Target) -> Outcome {
    let place = contract();
    let token = t.negotiate(&place).await?.token;
    let mut stream = t.subscribe(&place.upgrade(&token).header("Accept", "text/event-stream")).await?;
    same("first bytes", b":\r\n".to_vec(), stream.bytes(3, t.soon()).await?)?;
    let alone = place.upgrade_alone().header("Accept", "text/event-stream");
    Expected::text(400, ID_REQUIRED).check(t, "without id", &t.refused_upgrade(&alone).await?)
}

async fn rte_14_cache_headers_of_polls(t: &Target) -> Outcome {
    let place = contract();
    let mut link = Link::start(t, Transport::LongPolling, &place).await?;
    let poll = place.poll(&link.token);
    let mut old = t.begin(&poll).await?;
    old.stays("first", t.moment()).await?;
    let mut new = t.begin(&poll).await?;
    let answer = old.answer(t.soon()).await.step("replaced")?;
    Expected::no_content().check(t, "replaced", &answer)?;
    link.say(&hub::send("SendToCaller", &json!(["x"]))).await?;
    let data = new.answer(t.soon()).await.step("with data")?;
    Expected::poll("").any_body().check(t, "with data", &data)?;
    let mut pending = t.begin(&poll).await?;
    pending.stays("pending", t.moment()).await?;
    Expected::empty(202).check(t, "DELETE has none", &t.exchange(&place.delete(&link.token)).await?)?;
    let last = pending.answer(t.soon()).await.step("deleted")?;
    let expected = if last.head.status == 204 { Expected::no_content() } else { Expected::poll("").any_body() };
    expected.check(t, "deleted", &last)?;
    t.removed("after DELETE", &place, &link.token).await?;
    let gone = Expected::no_connection().polled();
    gone.check(t, "after DELETE", &t.exchange(&poll).await?)
}

async fn rte_15_web_socket_over_http2(t: &Target) -> Outcome {
    let mut http2 = t.connect_http2().await?;
    let negotiated = wire::within(t.soon(), http2.exchange("POST", "/contract/negotiate", None, &[])).await?;
    same("negotiate", 200, negotiated.head.status)?;
    same("extended CONNECT announced", true, http2.extended_connect_announced())?;
    let version = [("sec-websocket-version", "13")];
    let token = t.negotiate(&contract()).await?.token;
    for target in [format!("/contract?id={token}"), "/contract".into()] {
        let connect = http2.request("CONNECT", &target, Some("websocket"), &version);
        let (head, channel) = wire::within(t.soon(), connect).await.step(&target)?;
        same(&target, 200, head.status)?;
        let mut link = Link::of_socket(t, WebSocket::over_http2(channel, head));
        link.shake_hands().await?;
        link.works(&target).await?;
        link.say(&hub::close()).await?;
        link.hears("end", &[CLOSED, "CLOSE 1000"]).await?;
    }
    let target = format!("/contract?id={UNKNOWN}");
    let refused = wire::within(t.soon(), http2.exchange("CONNECT", &target, Some("websocket"), &version)).await?;
    same("unknown id", (404, expected::NO_CONNECTION), (refused.head.status, refused.text().as_str()))
}

async fn rte_16_request_time_outs_do_not_apply(t: &Target) -> Outcome {
    let place = Place::from("/contract-requesttimeout");
    let mut polls = Link::start(t, Transport::LongPolling, &place).await?;
    let mut events = Link::start(t, Transport::ServerSentEvents, &place).await?;
    let mut socket = Link::socket(t, &place).await?;
    let mut blocked = Link::start(t, Transport::LongPolling, &place).await?;
    blocked.stall(8000).await?;
    let mut waiting = t.begin_apart(&place.post(&blocked.token, flood(t, 0).0)).await?;
    // The endpoint's time-out is one second; three show that nothing ends.
    let time = t.seconds(3);
    tokio::try_join!(
        polls.hears_nothing("poll", time),
        events.hears_nothing("events", time),
        socket.hears_nothing("WebSocket", time),
        waiting.stays("POST under back-pressure", time),
    )?;
    polls.works("poll").await?;
    events.works("events").await?;
    socket.works("WebSocket").await?;
    Expected::empty(200).check(t, "POST", &waiting.answer(t.soon()).await?)
}

async fn rte_17_token_belongs_to_its_endpoint(t: &Target) -> Outcome {
    let (own, other) = (contract(), Place::from("/contract-large"));
    let mut link = Link::start(t, Transport::LongPolling, &own).await?;
    let unknown = Expected::no_connection();
    unknown.check(t, "POST", &t.exchange(&other.post(&link.token, "")).await?)?;
    unknown.clone().polled().check(t, "poll", &t.exchange(&other.poll(&link.token)).await?)?;
    unknown.check(t, "DELETE", &t.exchange(&other.delete(&link.token)).await?)?;
    link.works("at its own endpoint").await
}

async fn rte_18_spellings_of_the_id(t: &Target) -> Outcome {
    let token = t.negotiate(&contract()).await?.token;
    let encoded: String = token.bytes().map(|byte| format!("%{byte:02X}")).collect();
    for (query, status) in [
        (format!("?ID={token}"), 200),
        (format!("?Id={token}"), 200),
        (format!("?id=&id={token}"), 200),
        (format!("?a=b&id={token}&c=d"), 200),
        (format!("?id={encoded}"), 200),
        (format!("/?id={token}"), 200),
        (format!("?id={token}&id={token}"), 404),
        (format!("?id=%20{token}"), 404),
        (String::new(), 400),
    ] {
        let request =
            Request::new("POST", format!("/contract{query}")).header("id", &token).body(format!("id={token}"));
        let answer = t.exchange(&request).await?;
        same(query.replace(&token, "T"), status, answer.head.status)?;
    }
    let answer = t.exchange(&Request::new("POST", format!("/CONTRACT?id={token}")).body("")).await?;
    same("/CONTRACT", 200, answer.head.status)
}

async fn rte_19_headers_of_every_answer(t: &Target) -> Outcome {
    let place = contract();
    let negotiated = t.exchange(&place.negotiate("negotiateVersion=1")).await?;
    Expected::json("").any_body().check(t, "negotiate", &negotiated)?;
    Expected::empty(405).check(t, "405", &t.exchange(&Request::new("PUT", "/contract")).await?)?;
    Expected::text(400, ID_REQUIRED).check(
        t,
        "400",
        &t.exchange(&Request::new("POST", "/contract").body("")).await?,
    )?;
    let link = Link::start(t, Transport::LongPolling, &place).await?;
    Expected::empty(200).check(t, "POST", &t.exchange(&place.post(&link.token, "")).await?)?;
    Expected::empty(202).check(t, "DELETE", &t.exchange(&place.delete(&link.token)).await?)?;
    let stream = t.subscribe(&place.events(&t.negotiate(&place).await?.token)).await?;
    super::server_sent_events::check_head(t, &stream.head)?;
    let unauthorized = Expected::bare(401).header("www-authenticate", "Bearer");
    let answer = t.exchange(&Place::from("/contract-auth").poll(UNKNOWN)).await?;
    unauthorized.check(t, "401", &answer)?;
    let refused = contract_from("http://other.example").upgrade_alone();
    Expected::bare(403).check(t, "403", &t.refused_upgrade(&refused).await?)?;
    Expected::bare(404).check(t, "unknown path", &t.exchange(&Request::new("GET", "/no-such-hub")).await?)?;
    if t.gateway {
        return Ok(());
    }
    let date = negotiated.head.header("date").is_some();
    same("Date and Server", (true, Some("Kestrel")), (date, negotiated.head.header("server")))?;
    same("version and phrase", ("HTTP/1.1", "OK"), (negotiated.head.version.as_str(), negotiated.head.reason.as_str()))
}

fn contract_from(origin: &str) -> Place {
    Place::from("/contract-origins").header("Origin", origin)
}

async fn rte_20_pipelined_polls(t: &Target) -> Outcome {
    let place = contract();
    let mut link = Link::start(t, Transport::LongPolling, &place).await?;
    let mut connection = t.connect().await?;
    let one = place.poll(&link.token).to_bytes(&t.address);
    connection.send_bytes(&[one.clone(), one].concat()).await?;
    let mut answer = Box::pin(async { wire::within(t.soon(), connection.answer("GET")).await });
    // Nothing may come yet: had the second replaced the first, its 204 would.
    let early = tokio::time::timeout(t.moment(), &mut answer).await.is_ok();
    same("an answer before there is data", false, early)?;
    link.say(&hub::send("SendToCaller", &json!(["first"]))).await?;
    let first = answer.await?;
    holds("first", first.head.status == 200 && first.text().contains("first"), first.brief())?;
    link.say(&hub::send("SendToCaller", &json!(["second"]))).await?;
    let second = wire::within(t.soon(), connection.answer("GET")).await?;
    holds("second", second.head.status == 200 && second.text().contains("second"), second.brief())
}

async fn rte_21_spellings_of_accept(t: &Target) -> Outcome {
    for accept in [
        &["TEXT/Event-Stream"][..],
        &["text/html", "text/event-stream"],
        &["text/event-stream;q=0.9, text/event-stream"],
    ] {
        same(format!("{accept:?}"), true, is_event_stream(t, accept).await?)?;
    }
    for accept in ["text/*", "*/*"] {
        same(accept, false, is_event_stream(t, &[accept]).await?)?;
    }
    Ok(())
}

async fn rte_22_odd_methods(t: &Target) -> Outcome {
    let place = contract();
    let token = t.negotiate(&place).await?.token;
    let mut request = upgrade_request(&format!("/contract?id={token}")).body("");
    request.method = "POST".into();
    Expected::empty(200).check(t, "POST with upgrade headers", &t.exchange(&request).await?)?;
    let answer = t.exchange(&place.request("get", &token)).await?;
    Expected::poll("").check(t, "get", &answer)
}

async fn rte_23_bare_requests(t: &Target) -> Outcome {
    // Such are all requests of these cases: no User-Agent, no X-Requested-With, no Accept but for events.
    for transport in TRANSPORTS {
        let mut link = Link::open(t, transport, "/contract").await?;
        let handshake = hub::handshake("json", 1);
        if transport == Transport::WebSockets {
            link.say(&handshake).await?;
        } else {
            let post = link.place.request("POST", &link.token).body(handshake);
            Expected::empty(200).check(t, "POST without Content-Type", &t.exchange(&post).await?)?;
        }
        link.hears("handshake", &["{}"]).await?;
        link.works(&format!("{transport:?}")).await?;
    }
    Ok(())
}

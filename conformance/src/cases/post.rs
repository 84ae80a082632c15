//! Group F: POST (`signalr-wire` §5.3).

use serde_json::json;

use super::cases;
use crate::expected::Expected;
use crate::failure::{Outcome, Step, holds, same};
use crate::link::{CLOSED_WITH_ERROR, Link, Observer, Transport, flood};
use crate::runner::Run::{Quick, Waits};
use crate::target::{Place, Target};
use crate::wire::http::{Connection, Request, chunk_bytes};
use crate::wire::{self, hub};

cases! {
    "PST-01" Quick => pst_01_reaches_the_hub;
    "PST-02" Waits(30) => pst_02_two_at_once;
    "PST-03" Quick => pst_03_without_content_type;
    "PST-04" Quick => pst_04_empty_body;
    "PST-05" Quick => pst_05_before_the_first_get;
    "PST-06" Waits(40) => pst_06_waits_for_room;
    "PST-07" Waits(30) => pst_07_disposed_while_waiting;
    "PST-08" Quick => pst_08_after_disposal;
    "PST-09" Quick => pst_09_aborted_half_way;
    "PST-10" Quick => pst_10_message_over_two_posts;
    "PST-11" Quick => pst_11_invalid_hub_data;
    "PST-12" Waits(15) => pst_12_unreadable_bodies;
    "PST-13" Quick => pst_13_half_a_record_in_a_broken_post;
    "PST-14" Quick => pst_14_room_before_a_transport;
    "PST-15" Quick => pst_15_encodings_are_ignored;
}

const POSTING: [Transport; 2] = [Transport::LongPolling, Transport::ServerSentEvents];

fn contract() -> Place {
    Place::from("/contract")
}

fn echo(text: &str) -> (String, String) {
    (hub::invocation("1", "Echo", &json!([text])), hub::completion("1", &json!(text)))
}

/// Posts a message and hears the answer to it.
async fn posts(t: &Target, link: &mut Link, what: &str, request: &Request, heard: &str) -> Outcome {
    Expected::empty(200).check(t, what, &t.exchange(request).await?)?;
    link.hears(what, &[heard]).await
}

async fn pst_01_reaches_the_hub(t: &Target) -> Outcome {
    for transport in POSTING {
        let mut link = Link::start(t, transport, &contract()).await?;
        let (call, answer) = echo("x");
        let request = link.place.post(&link.token, call);
        posts(t, &mut link, &format!("{transport:?}"), &request, &answer).await?;
    }
    Ok(())
}

/// A connection whose hub loop is stalled, so that posted bytes are not read. [`release`] ends that.
async fn stalled(t: &Target, observer: &mut Observer, transport: Transport) -> Outcome<Link> {
    let mut link = Link::start(t, transport, &contract()).await?;
    link.say(&hub::send("Block", &json!([]))).await?;
    observer.sees(&link, "blocked").await?;
    // A second plain call waits behind the first, and with it the loop that reads.
    link.say(&hub::send("Void", &json!([]))).await?;
    Ok(link)
}

async fn pst_02_two_at_once(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = stalled(t, &mut observer, Transport::LongPolling).await?;
    // A pending poll keeps the connection from being removed meanwhile.
    link.poll().await?;
    let (body, count) = flood(t, 0);
    let mut first = t.begin_apart(&link.place.post(&link.token, body)).await?;
    first.stays("first", t.seconds(1)).await?;
    let mut second = t.begin_apart(&link.place.post(&link.token, flood(t, count).0)).await?;
    second.stays("second", t.seconds(1)).await?;
    observer.unblock(&link).await?;
    Expected::empty(200).check(t, "first", &first.answer(t.soon()).await?)?;
    Expected::empty(200).check(t, "second", &second.answer(t.soon()).await?)?;
    let seen = link.call("Collected", json!([])).await?;
    same("records received and their disorder", json!([2 * count, 0]), seen)
}

async fn pst_03_without_content_type(t: &Target) -> Outcome {
    let mut link = Link::start(t, Transport::LongPolling, &contract()).await?;
    let (call, answer) = echo("x");
    let request = link.place.request("POST", &link.token).body(call.clone());
    posts(t, &mut link, "none", &request, &answer).await?;
    for kind in ["text/plain;charset=UTF-8", "application/octet-stream", "application/json", "nonsense"] {
        let request = link.place.request("POST", &link.token).header("Content-Type", kind).body(call.clone());
        posts(t, &mut link, kind, &request, &answer).await?;
    }
    Ok(())
}

async fn pst_04_empty_body(t: &Target) -> Outcome {
    let mut link = Link::start(t, Transport::LongPolling, &contract()).await?;
    link.hears_nothing("nothing yet", t.moment()).await?;
    for request in [link.place.post(&link.token, ""), link.place.request("POST", &link.token)] {
        Expected::empty(200).check(t, "empty", &t.exchange(&request).await?)?;
    }
    link.hears_nothing("after empty bodies", t.moment()).await?;
    link.works("alive").await
}

async fn pst_05_before_the_first_get(t: &Target) -> Outcome {
    let place = contract();
    for transport in [Transport::LongPolling, Transport::ServerSentEvents, Transport::WebSockets] {
        let negotiated = t.negotiate(&place).await?;
        let (call, answer) = echo("early");
        let post = place.post(&negotiated.token, hub::handshake("json", 1) + &call);
        Expected::empty(200).check(t, "POST", &t.exchange(&post).await?)?;
        let mut link = Link::attach(t, transport, &place, &negotiated).await?;
        link.hears(&format!("{transport:?}"), &["{}", &answer]).await?;
        link.works(&format!("{transport:?}")).await?;
    }
    Ok(())
}

async fn pst_06_waits_for_room(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    for transport in POSTING {
        let mut link = stalled(t, &mut observer, transport).await?;
        if transport == Transport::LongPolling {
            // A pending poll keeps the connection from being removed meanwhile.
            link.poll().await?;
        }
        let small = t.exchange(&link.place.post(&link.token, hub::send("Collect", &json!([0])))).await?;
        Expected::empty(200).check(t, "small", &small)?;
        let (body, count) = flood(t, 1);
        let mut large = t.begin_apart(&link.place.post(&link.token, body)).await?;
        large.stays("large", t.seconds(1)).await?;
        observer.unblock(&link).await?;
        Expected::empty(200).check(t, "large", &large.answer(t.soon()).await?)?;
        let seen = link.call("Collected", json!([])).await?;
        same(format!("{transport:?}: records received and their disorder"), json!([count + 1, 0]), seen)?;
    }
    Ok(())
}

async fn pst_07_disposed_while_waiting(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = Link::start(t, Transport::LongPolling, &contract()).await?;
    link.stall(12_000).await?;
    link.poll().await?;
    let mut first = t.begin_apart(&link.place.post(&link.token, flood(t, 0).0)).await?;
    first.stays("first", t.seconds(1)).await?;
    let mut second = t.begin_apart(&link.place.post(&link.token, flood(t, 0).0)).await?;
    second.stays("second", t.moment()).await?;
    let began = std::time::Instant::now();
    Expected::empty(202).check(t, "DELETE", &t.exchange(&link.place.delete(&link.token)).await?)?;
    Expected::empty(404).check(t, "first", &first.answer(t.soon()).await?)?;
    Expected::empty(404).check(t, "second", &second.answer(t.soon()).await?)?;
    let took = began.elapsed();
    holds("at once", took < t.seconds(4), took)?;
    let ended = observer.happened(&link.connection_id, "disconnected", t.seconds(15)).await?;
    same("end at the hub", true, ended)?;

    // An event stream that its client ends: the reference lets the POST wait until the loop goes on.
    let mut link = Link::start(t, Transport::ServerSentEvents, &contract()).await?;
    link.stall(6000).await?;
    let mut post = t.begin_apart(&link.place.post(&link.token, flood(t, 0).0)).await?;
    post.stays("POST", t.seconds(1)).await?;
    link.reset();
    let limit = if t.gateway { t.seconds(1) } else { t.soon() };
    let answer = post.answer(limit).await.step("POST after the event stream has ended")?;
    same("POST after the event stream has ended", (404, ""), (answer.head.status, answer.text().as_str()))
}

async fn pst_08_after_disposal(t: &Target) -> Outcome {
    let place = contract();
    let link = Link::start(t, Transport::LongPolling, &place).await?;
    t.exchange(&place.delete(&link.token)).await?;
    t.removed("after DELETE", &place, &link.token).await?;
    let mut link = Link::start(t, Transport::LongPolling, &place).await?;
    link.say(&hub::close()).await?;
    link.hears("Close", &[crate::link::CLOSED]).await?;
    let before = t.exchange(&place.post(&link.token, "x")).await?;
    Expected::empty(200).check(t, "before the closing 204", &before)?;
    link.hears("204", &["204"]).await?;
    t.removed("after the closing 204", &place, &link.token).await
}

/// A chunked POST whose first chunk has been sent and not yet answered.
async fn begin_post(t: &Target, link: &Link, bytes: &str) -> Outcome<Connection> {
    let head = link.place.request("POST", &link.token).chunks(Vec::new()).head_bytes(&t.address);
    let mut connection = t.connect().await?;
    connection.send_bytes(&[head, chunk_bytes(bytes.as_bytes())].concat()).await?;
    Ok(connection)
}

/// Ends it with a chunk that is none.
async fn break_post(t: &Target, mut connection: Connection) -> Outcome {
    connection.send_bytes(b"zz\r\n").await?;
    let answer = wire::within(t.soon(), connection.answer("POST")).await.step("bad chunk")?;
    Expected::empty(400).check(t, "bad chunk", &answer)
}

async fn pst_09_aborted_half_way(t: &Target) -> Outcome {
    for transport in POSTING {
        for way in ["FIN", "RST", "bad chunk"] {
            let what = format!("{transport:?}, {way}");
            let mut link = Link::start(t, transport, &contract()).await?;
            let (call, answer) = echo("whole");
            let connection = begin_post(t, &link, &call).await?;
            // They go to the hub as they come, before the host gives up on a body that is too slow (5 s).
            link.hears_within(&what, &[&answer], t.seconds(4)).await.step("bytes already sent")?;
            match way {
                "FIN" => drop(connection),
                "RST" => connection.reset(),
                _ => break_post(t, connection).await?,
            }
            link.works(&what).await?;
        }
    }
    Ok(())
}

async fn pst_10_message_over_two_posts(t: &Target) -> Outcome {
    for transport in POSTING {
        let mut link = Link::start(t, transport, &contract()).await?;
        let (call, answer) = echo("split");
        let (head, tail) = call.split_at(20);
        link.say(head).await?;
        link.say(tail).await?;
        link.hears(&format!("{transport:?}"), &[&answer]).await?;
    }
    Ok(())
}

async fn pst_11_invalid_hub_data(t: &Target) -> Outcome {
    let long = format!("{{\"x\":\"{}\"}}\u{1e}", "x".repeat(40_000));
    for transport in POSTING {
        for (what, bytes) in [("no JSON", "nonsense\u{1e}"), ("no type", "{}\u{1e}"), ("40 kB record", long.as_str())] {
            let mut link = Link::start(t, transport, &contract()).await?;
            let answer = t.exchange(&link.place.post(&link.token, bytes)).await?;
            Expected::empty(200).check(t, what, &answer)?;
            link.hears(what, &[CLOSED_WITH_ERROR]).await?;
            link.ends(what).await?;
            t.removed(what, &link.place, &link.token).await?;
        }
    }
    Ok(())
}

async fn pst_12_unreadable_bodies(t: &Target) -> Outcome {
    let mut link = Link::start(t, Transport::LongPolling, &contract()).await?;
    let refused = Expected::empty(400);
    let head = link.place.request("POST", &link.token).header("Content-Length", "30000001");
    let mut connection = t.connect().await?;
    connection.send(&head).await?;
    let answer = wire::within(t.soon(), connection.answer("POST")).await.step("30 000 001 bytes")?;
    refused.clone().header("connection", "close").check(t, "30 000 001 bytes", &answer)?;
    link.works("after too long a body").await?;

    let head = link.place.request("POST", &link.token).header("Content-Length", "1000");
    let mut connection = t.connect().await?;
    connection.send(&head).await?;
    let began = std::time::Instant::now();
    let answer = wire::within(t.seconds(12), connection.answer("POST")).await.step("slow body")?;
    same("slow body", (400, ""), (answer.head.status, answer.text().as_str()))?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds until a slow body is refused", (3.5..9.0 * t.patience as f32).contains(&took), took)?;
    link.works("after a slow body").await
}

async fn pst_13_half_a_record_in_a_broken_post(t: &Target) -> Outcome {
    for transport in POSTING {
        let mut link = Link::start(t, transport, &contract()).await?;
        let (call, answer) = echo("whole");
        let torn = hub::invocation("2", "Echo", &json!(["torn"]));
        let (head, tail) = torn.split_at(20);
        let connection = begin_post(t, &link, &(call + head)).await?;
        // The answer to the whole record tells that the chunk has been read.
        link.hears(&format!("{transport:?}"), &[&answer]).await?;
        break_post(t, connection).await?;
        link.say(tail).await?;
        link.hears(&format!("{transport:?}"), &[&hub::completion("2", &json!("torn"))]).await?;
    }
    Ok(())
}

async fn pst_14_room_before_a_transport(t: &Target) -> Outcome {
    let place = contract();
    let token = t.negotiate(&place).await?.token;
    let fits = t.exchange(&place.post(&token, vec![b'x'; 65_535])).await?;
    Expected::empty(200).check(t, "65 535 bytes", &fits)?;
    let token = t.negotiate(&place).await?.token;
    let mut waits = t.begin(&place.post(&token, vec![b'x'; 65_536])).await?;
    waits.stays("65 536 bytes", t.seconds(1)).await
}

async fn pst_15_encodings_are_ignored(t: &Target) -> Outcome {
    let mut link = Link::start(t, Transport::LongPolling, &contract()).await?;
    let (call, answer) = echo("x");
    let request = link.place.request("POST", &link.token).header("Content-Encoding", "gzip").body(call.clone());
    posts(t, &mut link, "gzip that is none", &request, &answer).await?;
    let (head, tail) = call.as_bytes().split_at(20);
    let request = link.place.request("POST", &link.token).chunks(vec![head.to_vec(), tail.to_vec()]);
    posts(t, &mut link, "chunked", &request, &answer).await?;
    let bare = t.exchange(&link.place.request("POST", &link.token)).await?;
    Expected::empty(200).check(t, "neither length nor chunks", &bare)
}

//! Group E: Server-Sent Events (`signalr-wire` §5.2).

use serde_json::{Value, json};

use super::cases;
use crate::expected::{self, Expected, NOT_DELETABLE, TRANSPORT_CHANGED};
use crate::failure::{Outcome, Step, holds, mismatch, same};
use crate::link::{CLOSED, CLOSED_WITH_ERROR, Link, Observer, Transport};
use crate::runner::Run::{Quick, Waits};
use crate::target::{DEFAULTS, Place, SHORT_TRANSPORT, Target, Times};
use crate::wire::events::{EventItem, EventStream, Subscription, data_of};
use crate::wire::http::{Connection, Head};
use crate::wire::{self, Error, hub, show};

cases! {
    "SSE-01" Quick => sse_01_headers;
    "SSE-02" Quick => sse_02_comment_first;
    "SSE-03" Quick => sse_03_not_buffered;
    "SSE-04" Quick => sse_04_payload;
    "SSE-05" Quick => sse_05_line_ends;
    "SSE-06" Quick => sse_06_whole_messages;
    "SSE-07" Quick => sse_07_handshake_and_invocation_by_post;
    "SSE-08" Quick => sse_08_message_pack_is_refused;
    "SSE-09" Quick => sse_09_client_closes;
    "SSE-10" Quick => sse_10_hub_finishes;
    "SSE-11" Waits(20) => sse_11_reader_stops;
    "SSE-11" Waits(20) => sse_11_reader_stops_short;
    "SSE-12" Quick => sse_12_large_message;
    "SSE-13" Quick => sse_13_delete;
    "SSE-17" Quick => sse_17_bytes_of_one_event;
    "SSE-18" Quick => sse_18_last_event_id;
    "SSE-19" Quick => sse_19_other_transports;
    "SSE-20" Quick => sse_20_posts_before_the_stream;
}

fn contract() -> Place {
    Place::from("/contract")
}

async fn start(t: &Target, place: impl Into<Place>) -> Outcome<Link> {
    Link::start(t, Transport::ServerSentEvents, place).await
}

/// Checks the headers of an event stream; a gateway adds `X-Accel-Buffering: no` (edge rule B9).
pub(super) fn check_head(t: &Target, head: &Head) -> Outcome {
    let mut expected = vec![
        ("cache-control", "no-cache,no-store"),
        ("content-encoding", "identity"),
        ("content-type", "text/event-stream"),
        ("pragma", "no-cache"),
    ];
    if t.gateway {
        expected.push(("x-accel-buffering", "no"));
    }
    let expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    same("status of the event stream", 200, head.status)?;
    same("headers of the event stream", expected, expected::compared_headers(head))
}

async fn sse_01_headers(t: &Target) -> Outcome {
    let place = contract();
    let stream = t.subscribe(&place.events(&t.negotiate(&place).await?.token)).await?;
    check_head(t, &stream.head)?;
    same("Transfer-Encoding", Some("chunked"), stream.head.header("transfer-encoding"))
}

async fn sse_02_comment_first(t: &Target) -> Outcome {
    let place = contract();
    let mut stream = t.subscribe(&place.events(&t.negotiate(&place).await?.token)).await?;
    same("first bytes", ":\r\n", show(&stream.bytes(3, t.soon()).await?).as_str())?;
    match stream.next(t.moment()).await {
        Err(Error::Late(_)) => Ok(()),
        other => mismatch("after the comment", "nothing", format!("{other:?}")),
    }
}

async fn sse_03_not_buffered(t: &Target) -> Outcome {
    let place = Place::from("/contract-compressed");
    let token = t.negotiate(&place).await?.token;
    let mut stream = t.subscribe(&place.events(&token).header("Accept-Encoding", "gzip")).await?;
    check_head(t, &stream.head)?;
    stream.bytes(3, t.soon()).await.step("the comment, at once")?;
    let post = t.exchange(&place.post(&token, hub::handshake("json", 1))).await?;
    Expected::empty(200).check(t, "POST", &post)?;
    let event = stream.next(t.soon()).await?;
    same("event", EventItem::Event(b"data: {}\x1e\r\n\r\n".to_vec()), event)
}

/// Opens an event stream at the raw endpoint, which echoes what is posted, and reads its comment.
async fn raw(t: &Target) -> Outcome<(Place, String, EventStream)> {
    let place = Place::from("/raw");
    let token = t.negotiate(&place).await?.token;
    let mut stream = t.subscribe(&place.events(&token)).await?;
    same("comment", b":\r\n".to_vec(), stream.bytes(3, t.soon()).await?)?;
    Ok((place, token, stream))
}

async fn sse_04_payload(t: &Target) -> Outcome {
    let (place, token, mut stream) = raw(t).await?;
    Expected::empty(200).check(t, "POST", &t.exchange(&place.post(&token, "Hello")).await?)?;
    same("event", "data: Hello\r\n\r\n", show(&stream.bytes(15, t.soon()).await?).as_str())
}

async fn sse_05_line_ends(t: &Target) -> Outcome {
    for (payload, event) in [
        (&b"Hello\nWorld"[..], &b"data: Hello\r\ndata: World\r\n\r\n"[..]),
        (b"Hello\r\nWorld", b"data: Hello\r\ndata: World\r\n\r\n"),
        (b"Hello\n", b"data: Hello\r\ndata: \r\n\r\n"),
        (b"Hello\r\n", b"data: Hello\r\ndata: \r\n\r\n"),
        (b"\n", b"data: \r\ndata: \r\n\r\n"),
        (b"\n\n", b"data: \r\ndata: \r\ndata: \r\n\r\n"),
        (b"Hello\rWorld", b"data: Hello\rWorld\r\n\r\n"),
        (b"Hello\r", b"data: Hello\r\r\n\r\n"),
        (b" leading", b"data:  leading\r\n\r\n"),
        (b"a\n\nb", b"data: a\r\ndata: \r\ndata: b\r\n\r\n"),
        (b":colon", b"data: :colon\r\n\r\n"),
        (b"\x1e", b"data: \x1e\r\n\r\n"),
        (b"\xe2\x82\xac\n\xe2\x82\xac", b"data: \xe2\x82\xac\r\ndata: \xe2\x82\xac\r\n\r\n"),
    ] {
        let (place, token, mut stream) = raw(t).await?;
        t.exchange(&place.post(&token, payload)).await?;
        same(format!("{payload:?}"), show(event), show(&stream.bytes(event.len(), t.soon()).await?))?;
    }
    // An empty first line keeps its CR at the reference, by accident; without it is right as well.
    let (place, token, mut stream) = raw(t).await?;
    t.exchange(&place.post(&token, "\r\n")).await?;
    let seen = stream.next(t.soon()).await?;
    let either = [&b"data: \r\r\ndata: \r\n\r\n"[..], b"data: \r\ndata: \r\n\r\n"];
    holds("CR LF", matches!(&seen, EventItem::Event(event) if either.contains(&event.as_slice())), &seen)
}

/// Reads events until `count` records have come; each event must be one data line of whole messages.
async fn whole_messages(t: &Target, stream: &mut EventStream, count: usize) -> Outcome<Vec<String>> {
    let mut records = Vec::new();
    while records.len() < count {
        let EventItem::Event(event) = stream.next(t.soon()).await.step(format!("after {} records", records.len()))?
        else {
            return mismatch("events", format!("{count} records"), records.len());
        };
        if event.starts_with(b":") {
            continue;
        }
        let lines = event.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"data:")).count();
        same("data lines of an event", 1, lines)?;
        let (whole, rest) = hub::split(&String::from_utf8_lossy(&data_of(&event)));
        same("rest of an event behind its last message", "", rest.as_str())?;
        records.extend(whole.into_iter().filter(|record| record != r#"{"type":6}"#));
    }
    Ok(records)
}

async fn sse_06_whole_messages(t: &Target) -> Outcome {
    for (count, size) in [(200, 10), (30, 5000), (10, 100_000)] {
        let mut link = start(t, &contract()).await?;
        link.say(&hub::invocation("p", "Push", &json!([count, size]))).await?;
        let expected = usize::try_from(count).unwrap_or_default() + 1;
        let records = whole_messages(t, link.event_stream()?, expected).await?;
        let last = records.last().map(String::as_str);
        same(format!("last of {count} of {size}"), Some(r#"{"type":3,"invocationId":"p","result":null}"#), last)?;
        for (at, record) in records.iter().enumerate().take(expected - 1) {
            let json: Value = serde_json::from_str(record).unwrap_or_default();
            same("number", Some(at as u64), json.pointer("/arguments/0").and_then(Value::as_u64))?;
        }
    }
    Ok(())
}

async fn sse_07_handshake_and_invocation_by_post(t: &Target) -> Outcome {
    let place = contract();
    let mut link = Link::open(t, Transport::ServerSentEvents, &place).await?;
    let post = async |text: &str, what: &str| -> Outcome {
        Expected::empty(200).check(t, what, &t.exchange(&place.post(&link.token, text)).await?)
    };
    post(&hub::handshake("json", 1), "handshake").await?;
    post(&hub::invocation("1", "Echo", &json!(["x"])), "invocation").await?;
    post("{}\u{1e}", "invalid").await?;
    link.hears("events", &["{}", &hub::completion("1", &json!("x")), CLOSED_WITH_ERROR, "LAST CHUNK"]).await?;
    t.removed("event stream", &place, &link.token).await
}

async fn sse_08_message_pack_is_refused(t: &Target) -> Outcome {
    let place = contract();
    let mut link = Link::open(t, Transport::ServerSentEvents, &place).await?;
    link.say(&hub::handshake("messagepack", 1)).await?;
    let error = r#"{"error":"Cannot use the 'messagepack' protocol on the current transport. The transport does not support 'Binary' transfer format."}"#;
    link.hears("refusal", &[error, "LAST CHUNK"]).await?;
    t.removed("event stream", &place, &link.token).await
}

async fn sse_09_client_closes(t: &Target) -> Outcome {
    let place = contract();
    let mut observer = Observer::open(t).await?;
    for way in ["FIN", "RST", "half-close"] {
        let mut link = start(t, &place).await?;
        let (id, token) = (link.connection_id.clone(), link.token.clone());
        match way {
            "FIN" => drop(link),
            "RST" => link.reset(),
            _ => {
                link.event_stream()?.connection().finish().await;
                // Kept open, so that it is the half-close that ends it.
                let ended = observer.happened(&id, "disconnected", t.seconds(5)).await?;
                same("half-close: end at the hub", true, ended)?;
                drop(link);
            }
        }
        same(format!("{way}: end at the hub"), true, observer.happened(&id, "disconnected", t.seconds(5)).await?)?;
        t.removed(way, &place, &token).await?;
    }
    Ok(())
}

async fn sse_10_hub_finishes(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let ends = [
        ("Abort", hub::send("Abort", &json!([])), CLOSED, None),
        ("client's Close", hub::close(), CLOSED, None),
        ("protocol error", "nonsense\u{1e}".to_owned(), CLOSED_WITH_ERROR, Some("Error reading JSON.")),
    ];
    for (what, message, heard, error) in ends {
        let place = contract();
        let mut link = start(t, &place).await?;
        link.say(&message).await?;
        link.hears(what, &[heard, "LAST CHUNK"]).await?;
        observer.sees_end(&link, error).await.step(what)?;
        let again = wire::within(t.soon(), link.event_stream()?.connection().exchange(&place.post("x", ""))).await;
        same(format!("{what}: the TCP connection serves on"), 404, again?.head.status)?;
        t.removed(what, &place, &link.token).await?;
    }
    let mut link = Link::open(t, Transport::ServerSentEvents, "/contract-onconnected-throws").await?;
    link.say(&hub::handshake("json", 1)).await?;
    let closed = r#"{"type":7,"error":"Connection closed with an error."}"#;
    link.hears("OnConnected throws", &["{}", closed, "LAST CHUNK"]).await?;
    for (path, events) in [("/raw-throws", &b""[..]), ("/raw-ends", b"data: bye\r\n\r\n")] {
        let place = Place::from(path);
        let token = t.negotiate(&place).await?.token;
        let mut stream = t.subscribe(&place.events(&token)).await?;
        stream.bytes(3, t.soon()).await?;
        t.exchange(&place.post(&token, "bye")).await?;
        same(path, show(events), show(&stream.bytes(events.len(), t.soon()).await?))?;
        same(path, EventItem::End(wire::End::LastChunk), stream.next(t.soon()).await?)?;
    }
    Ok(())
}

async fn sse_11_reader_stops(t: &Target) -> Outcome {
    reader_stops(t, DEFAULTS).await
}

async fn sse_11_reader_stops_short(t: &Target) -> Outcome {
    reader_stops(&t.with_short_times()?, SHORT_TRANSPORT).await
}

async fn reader_stops(t: &Target, times: Times) -> Outcome {
    let place = Place::from(times.path);
    let mut observer = Observer::open(t).await?;
    let negotiated = t.negotiate(&place).await?;
    let connection = Connection::open_narrow(&t.address, 32 * 1024).await?;
    let request = place.events(&negotiated.token);
    let Subscription::Open(mut stream) = EventStream::open(connection, &request).await? else {
        return mismatch("event stream", "200", "a refusal");
    };
    let messages = hub::handshake("json", 1) + &hub::send("Push", &json!([200, 100_000]));
    t.exchange(&place.post(&negotiated.token, messages)).await?;
    let began = std::time::Instant::now();
    let limit = t.seconds(times.send + 10);
    let ended = observer.happened(&negotiated.connection_id, "disconnected", limit).await?;
    same("end at the hub", true, ended)?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds until the end", took > times.send as f32 - 0.6, took)?;
    let mut last = stream.next(t.soon()).await;
    while let Ok(EventItem::Event(_)) = last {
        last = stream.next(t.soon()).await;
    }
    let broken = matches!(last, Ok(EventItem::End(wire::End::Fin | wire::End::Reset)));
    holds("end of the stream without last chunk", broken, &last)?;
    t.removed("reader stops", &place, &negotiated.token).await
}

async fn sse_12_large_message(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    link.say(&hub::invocation("1", "Big", &json!([1_048_576]))).await?;
    let records = whole_messages(t, link.event_stream()?, 1).await?;
    let expected = hub::completion("1", &json!("")).len() + 1_048_576;
    same("length of the record", vec![expected], records.iter().map(String::len).collect::<Vec<_>>())
}

async fn sse_13_delete(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    let answer = t.exchange(&link.place.delete(&link.token)).await?;
    Expected::text(400, NOT_DELETABLE).check(t, "DELETE", &answer)?;
    link.works("unaffected").await
}

async fn sse_17_bytes_of_one_event(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    let expected = format!("data: {}\u{1e}\r\n\r\n", hub::completion("1", &json!("x")));
    link.event_stream()?.chunk_sizes.clear();
    link.say(&hub::invocation("1", "Echo", &json!(["x"]))).await?;
    let stream = link.event_stream()?;
    same("event", show(expected.as_bytes()), show(&stream.bytes(expected.len(), t.soon()).await?))?;
    if t.gateway {
        // How bytes are cut into chunks is nobody's business but the reference's.
        return Ok(());
    }
    same("chunks", vec![6, expected.len() - 10, 2, 2], stream.chunk_sizes.clone())
}

async fn sse_18_last_event_id(t: &Target) -> Outcome {
    let place = contract().header("Last-Event-ID", "17");
    let mut link = start(t, &place).await?;
    link.works("event stream").await
}

async fn sse_19_other_transports(t: &Target) -> Outcome {
    let place = contract();
    let mut link = start(t, &place).await?;
    let changed = Expected::text(400, TRANSPORT_CHANGED);
    changed.clone().polled().check(t, "poll", &t.exchange(&place.poll(&link.token)).await?)?;
    changed.check(t, "WebSocket", &t.refused_upgrade(&place.upgrade(&link.token)).await?)?;
    link.works("unaffected").await?;
    link.say(&hub::close()).await?;
    link.hears("end", &[CLOSED, "LAST CHUNK"]).await?;
    t.removed("end", &place, &link.token).await?;
    let unknown = Expected::no_connection();
    unknown.check(t, "events", &t.exchange(&place.events(&link.token)).await?)?;
    unknown.clone().polled().check(t, "poll", &t.exchange(&place.poll(&link.token)).await?)?;
    unknown.untyped().check(t, "WebSocket", &t.refused_upgrade(&place.upgrade(&link.token)).await?)
}

async fn sse_20_posts_before_the_stream(t: &Target) -> Outcome {
    let place = contract();
    let negotiated = t.negotiate(&place).await?;
    for text in [hub::handshake("json", 1), hub::invocation("1", "Echo", &json!(["early"]))] {
        Expected::empty(200).check(t, "POST", &t.exchange(&place.post(&negotiated.token, text)).await?)?;
    }
    let mut link = Link::attach(t, Transport::ServerSentEvents, &place, &negotiated).await?;
    link.hears("first events", &["{}", &hub::completion("1", &json!("early"))]).await
}

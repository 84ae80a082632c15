//! Group G: long polling (`signalr-wire` §5.4).

use std::time::{Duration, Instant};

use rmpv::Value as Pack;
use serde_json::json;
use tokio::time::sleep;

use super::cases;
use crate::expected::{Expected, NOT_DELETABLE};
use crate::failure::{Outcome, Problem, Step, holds, same};
use crate::jwt;
use crate::link::{CLOSED, CLOSED_FOR_NOW, CLOSED_WITH_ERROR, Link, Observer, Transport, flood};
use crate::runner::Run::{Long, Quick, Waits};
use crate::target::{DEFAULTS, Pending, Place, SHORT_CLIENT, SHORT_PING, SHORT_TRANSPORT, Target, Times};
use crate::wire::http::{Answer, Connection};
use crate::wire::{self, Error, frame, hub};

cases! {
    "LP-01" Quick => lp_01_first_poll;
    "LP-02" Quick => lp_02_all_in_one_body;
    "LP-03" Long(100) => lp_03_idle_poll;
    "LP-03" Waits(10) => lp_03_idle_poll_short;
    "LP-04" Quick => lp_04_newer_poll;
    "LP-05" Quick => lp_05_racing_polls;
    "LP-06" Quick => lp_06_hub_ends;
    "LP-07" Quick => lp_07_hub_ends_with_data_queued;
    "LP-08" Waits(22) => lp_08_no_poll;
    "LP-09" Waits(22) => lp_09_aborted_poll;
    "LP-10" Quick => lp_10_delete;
    "LP-11" Quick => lp_11_delete_between_polls;
    "LP-12" Quick => lp_12_delete_while_a_method_hangs;
    "LP-13" Quick => lp_13_delete_twice;
    "LP-14" Quick => lp_14_close_after_delete;
    "LP-15" Quick => lp_15_write_error;
    "LP-16" Waits(25) => lp_16_reader_stops;
    "LP-16" Waits(20) => lp_16_reader_stops_short;
    "LP-17" Long(75) => lp_17_no_pings;
    "LP-17" Waits(15) => lp_17_no_pings_short;
    "LP-18" Quick => lp_18_extra_parameter;
    "LP-19" Quick => lp_19_message_pack;
    "LP-20" Quick => lp_20_poll_while_a_post_waits;
    "LP-26" Quick => lp_26_poll_by_another_user;
    "LP-27?" Quick => lp_27_connection_handler_fails;
    "LP-28" Quick => lp_28_newer_polls_while_a_body_is_not_read;
    "LP-29" Quick => lp_29_long_messages;
    "LP-30" Quick => lp_30_bytes_before_the_first_poll;
    "LP-31" Waits(15) => lp_31_slow_reader;
}

/// The other user's 403 of 11.0 and of a gateway (edge rule A4).
pub(super) const USER_CHANGED: &str = "The user associated with this connection changed.";

fn contract() -> Place {
    Place::from("/contract")
}

async fn start(t: &Target, place: impl Into<Place>) -> Outcome<Link> {
    Link::start(t, Transport::LongPolling, place).await
}

/// Sends a poll and waits for its answer.
async fn poll(t: &Target, link: &Link) -> Outcome<Answer> {
    t.exchange(&link.place.poll(&link.token)).await.step("poll")
}

/// Sends a poll that must be pending.
async fn pending(t: &Target, link: &Link) -> Outcome<Pending> {
    let mut poll = t.begin(&link.place.poll(&link.token)).await?;
    poll.stays("pending poll", t.moment()).await?;
    Ok(poll)
}

async fn delete(t: &Target, link: &Link) -> Outcome {
    Expected::empty(202).check(t, "DELETE", &t.exchange(&link.place.delete(&link.token)).await?)
}

/// Polls until the connection is removed. While it is being disposed the 404 has no text yet (`signalr-wire` §4.2).
async fn removed(t: &Target, link: &Link, what: &str) -> Outcome {
    let until = Instant::now() + t.soon();
    loop {
        let answer = poll(t, link).await?;
        if !answer.body.is_empty() || Instant::now() > until {
            return gone().check(t, what, &answer);
        }
        Expected::empty(404).polled().check(t, what, &answer)?;
    }
}

fn gone() -> Expected {
    Expected::no_connection().polled()
}

fn record(text: &str) -> String {
    format!("{text}{}", hub::SEPARATOR)
}

async fn lp_01_first_poll(t: &Target) -> Outcome {
    let place = contract();
    let token = t.negotiate(&place).await?.token;
    let began = Instant::now();
    let first = t.exchange(&place.poll(&token)).await?;
    Expected::poll("").check(t, "first", &first)?;
    holds("at once", began.elapsed() < t.seconds(5), began.elapsed())?;
    same("Content-Length", Some("0"), first.head.header("content-length"))
}

async fn lp_02_all_in_one_body(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    let mut observer = Observer::open(t).await?;
    let calls: String = (0..5).map(|n| hub::send("SendToCaller", &json!([n.to_string()]))).collect();
    link.say(&(calls + &hub::invocation("1", "Void", &json!([])))).await?;
    observer.sees(&link, "void").await?;
    // The completion is written right after the event; what came before it is in the pipe already.
    let mut expected: String =
        (0..5).map(|n| record(&format!(r#"{{"type":1,"target":"Message","arguments":["{n}"]}}"#))).collect();
    let answer = poll(t, &link).await?;
    let completion = record(r#"{"type":3,"invocationId":"1","result":null}"#);
    if answer.text() == expected {
        return Expected::poll(&completion).check(t, "completion", &poll(t, &link).await?);
    }
    expected.push_str(&completion);
    Expected::poll(&expected).check(t, "all", &answer)?;
    pending(t, &link).await.map(drop)
}

async fn lp_03_idle_poll(t: &Target) -> Outcome {
    idle_poll(t, DEFAULTS).await
}

async fn lp_03_idle_poll_short(t: &Target) -> Outcome {
    idle_poll(&t.with_short_times()?, SHORT_TRANSPORT).await
}

async fn idle_poll(t: &Target, times: Times) -> Outcome {
    let mut link = start(t, times.path).await?;
    let began = Instant::now();
    let mut idle = t.begin(&link.place.poll(&link.token)).await?;
    let answer = idle.answer(t.seconds(times.poll + 5)).await?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds of the idle poll", took > times.poll as f32 - 0.5, took)?;
    Expected::empty(200).polled().check(t, "idle poll", &answer)?;
    link.works("afterwards").await
}

async fn lp_04_newer_poll(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    let mut old = pending(t, &link).await?;
    let mut new = t.begin(&link.place.poll(&link.token)).await?;
    Expected::no_content().check(t, "old", &old.answer(t.soon()).await?)?;
    new.stays("new", t.moment()).await?;
    link.say(&hub::invocation("1", "Echo", &json!(["x"]))).await?;
    let answer = new.answer(t.soon()).await?;
    Expected::poll(&record(&hub::completion("1", &json!("x")))).check(t, "new", &answer)
}

/// Waits for polls until all but one are answered; the others must be 204 or 409.
async fn one_stays(t: &Target, polls: Vec<Pending>) -> Outcome<Pending> {
    let mut staying = Vec::new();
    for mut poll in polls {
        if poll.is_pending(t.moment()).await? {
            staying.push(poll);
            continue;
        }
        let answer = poll.answer(t.soon()).await?;
        let expected = if answer.head.status == 204 { Expected::no_content() } else { Expected::empty(409).polled() };
        expected.check(t, "a poll that lost", &answer)?;
    }
    let count = staying.len();
    match (staying.pop(), count) {
        (Some(poll), 1) => Ok(poll),
        _ => crate::failure::mismatch("pending polls", 1, count),
    }
}

async fn lp_05_racing_polls(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    for _ in 0..5 {
        let request = link.place.poll(&link.token);
        let polls = futures_util::future::try_join_all((0..5).map(|_| t.begin(&request))).await?;
        let mut staying = one_stays(t, polls).await?;
        link.say(&hub::invocation("1", "Echo", &json!(["x"]))).await?;
        let answer = staying.answer(t.soon()).await?;
        Expected::poll(&record(&hub::completion("1", &json!("x")))).check(t, "the poll that won", &answer)?;
    }
    Ok(())
}

async fn lp_06_hub_ends(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    let mut last = pending(t, &link).await?;
    link.say(&hub::send("Abort", &json!([]))).await?;
    Expected::poll(&record(CLOSED)).check(t, "hub", &last.answer(t.soon()).await?)?;
    Expected::no_content().check(t, "hub, queue empty", &poll(t, &link).await?)?;
    gone().check(t, "hub, then", &poll(t, &link).await?)?;

    let mut link = Link::open(t, Transport::LongPolling, "/raw-ends").await?;
    let mut last = pending(t, &link).await?;
    link.say("bye").await?;
    Expected::poll("bye").check(t, "no hub", &last.answer(t.soon()).await?)?;
    Expected::no_content().check(t, "no hub, queue empty", &poll(t, &link).await?)?;
    gone().check(t, "no hub, then", &poll(t, &link).await?)
}

async fn lp_07_hub_ends_with_data_queued(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = start(t, &contract()).await?;
    link.say(&(hub::send("SendToCaller", &json!(["a"])) + &hub::send("Abort", &json!([])))).await?;
    observer.sees(&link, "disconnected").await?;
    let words = record(r#"{"type":1,"target":"Message","arguments":["a"]}"#) + &record(CLOSED);
    Expected::poll(&words).check(t, "data", &poll(t, &link).await?)?;
    Expected::no_content().check(t, "then", &poll(t, &link).await?)?;
    gone().check(t, "at last", &poll(t, &link).await?)?;

    let mut link = Link::open(t, Transport::LongPolling, &contract()).await?;
    link.say(&hub::handshake("nope", 1)).await?;
    let error = record(r#"{"error":"The protocol 'nope' is not supported."}"#);
    Expected::poll(&error).check(t, "failed handshake", &poll(t, &link).await?)?;
    Expected::no_content().check(t, "then", &poll(t, &link).await?)?;
    gone().check(t, "at last", &poll(t, &link).await?)
}

async fn lp_08_no_poll(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut idle = start(t, &contract()).await?;
    let mut waiting = start(t, &contract()).await?;
    waiting.say(&hub::send("SendToCaller", &json!(["waiting"]))).await?;
    sleep(Duration::from_secs(9)).await;
    idle.say("").await.step("POST after 9 s")?;
    observer.sees_no(&idle, "disconnected").await?;
    for (what, link) in [("idle", &idle), ("data waiting", &waiting)] {
        let ended = observer.happened(&link.connection_id, "disconnected", t.seconds(10)).await?;
        same(format!("{what}: end at the hub"), true, ended)?;
        gone().check(t, what, &poll(t, link).await?)?;
        let post = t.exchange(&link.place.post(&link.token, "")).await?;
        Expected::no_connection().check(t, what, &post)?;
    }
    Ok(())
}

async fn lp_09_aborted_poll(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    for reset in [false, true] {
        let mut link = start(t, &contract()).await?;
        let aborted = pending(t, &link).await?;
        if reset {
            aborted.connection.reset();
        } else {
            drop(aborted);
        }
        // The server must have noticed, or what it writes would go to the dead poll.
        link.hears_nothing("next poll", t.moment()).await?;
        link.say(&hub::invocation("1", "Echo", &json!(["kept"]))).await?;
        link.hears(&format!("reset {reset}"), &[&hub::completion("1", &json!("kept"))]).await?;
    }
    let link = start(t, &contract()).await?;
    let began = Instant::now();
    drop(pending(t, &link).await?);
    let ended = observer.happened(&link.connection_id, "disconnected", t.seconds(19)).await?;
    same("end at the hub after the abort", true, ended)?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds until the end", took > 14.0, took)?;
    gone().check(t, "then", &poll(t, &link).await?)
}

/// What a poll that was pending at DELETE gets: Close, or 204 by a race that the reference has seldom.
fn check_deleted(t: &Target, what: &str, answer: &Answer) -> Outcome {
    let expected =
        if answer.head.status == 204 { Expected::no_content() } else { Expected::poll(&record(CLOSED_FOR_NOW)) };
    expected.check(t, what, answer)
}

async fn lp_10_delete(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let link = start(t, &contract()).await?;
    let mut last = pending(t, &link).await?;
    delete(t, &link).await?;
    check_deleted(t, "pending poll", &last.answer(t.soon()).await?)?;
    observer.sees_end(&link, None).await?;
    removed(t, &link, "poll").await?;
    let unknown = Expected::no_connection();
    unknown.check(t, "POST", &t.exchange(&link.place.post(&link.token, "x")).await?)?;
    unknown.check(t, "DELETE again", &t.exchange(&link.place.delete(&link.token)).await?)?;
    unknown.check(t, "events", &t.exchange(&link.place.events(&link.token)).await?)?;
    unknown.untyped().check(t, "WebSocket", &t.refused_upgrade(&link.place.upgrade(&link.token)).await?)?;

    let link = Link::open(t, Transport::LongPolling, "/raw").await?;
    let mut last = pending(t, &link).await?;
    delete(t, &link).await?;
    Expected::no_content().check(t, "no hub", &last.answer(t.soon()).await?)?;
    removed(t, &link, "no hub, then").await
}

async fn lp_11_delete_between_polls(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = start(t, &contract()).await?;
    link.say(&hub::send("SendToCaller", &json!(["waiting"]))).await?;
    delete(t, &link).await?;
    observer.sees(&link, "disconnected").await?;
    removed(t, &link, "then").await?;
    let link = Link::open(t, Transport::LongPolling, &contract()).await?;
    delete(t, &link).await.step("before the handshake")?;
    removed(t, &link, "before the handshake").await?;
    let token = t.negotiate(&contract()).await?.token;
    let answer = t.exchange(&contract().delete(&token)).await?;
    Expected::text(400, NOT_DELETABLE).check(t, "before the first poll", &answer)
}

async fn lp_12_delete_while_a_method_hangs(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = start(t, &contract()).await?;
    link.say(&hub::send("Sleep", &json!([8000]))).await?;
    let mut last = pending(t, &link).await?;
    let began = Instant::now();
    delete(t, &link).await?;
    holds("at once", began.elapsed() < t.seconds(4), began.elapsed())?;
    check_deleted(t, "pending poll", &last.answer(t.soon()).await?)?;
    removed(t, &link, "then").await?;
    observer.sees(&link, "disconnected").await
}

async fn lp_13_delete_twice(t: &Target) -> Outcome {
    for _ in 0..10 {
        let link = start(t, &contract()).await?;
        let request = link.place.delete(&link.token);
        let (first, second) = tokio::try_join!(t.exchange(&request), t.exchange(&request))?;
        let statuses = [first.head.status, second.head.status];
        let right = statuses.contains(&202) && statuses.iter().all(|status| [202, 404].contains(status));
        holds("two at once", right, statuses)?;
        let third = t.exchange(&request).await?.head.status;
        holds("and one more", third == 404 || third == 202, third)?;
    }
    Ok(())
}

async fn lp_14_close_after_delete(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let link = start(t, &contract()).await?;
    delete(t, &link).await?;
    let close = t.exchange(&link.place.post(&link.token, hub::close())).await?;
    same("Close after DELETE", 404, close.head.status)?;
    observer.sees_end(&link, None).await
}

async fn lp_15_write_error(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let link = Link::open(t, Transport::LongPolling, "/contract-writefails").await?;
    let mut last = pending(t, &link).await?;
    let post = t.exchange(&link.place.post(&link.token, hub::handshake("json", 1))).await?;
    Expected::empty(200).check(t, "POST", &post)?;
    Expected::bare(500).check(t, "poll", &last.answer(t.soon()).await?)?;
    observer.sees(&link, "disconnected").await?;
    t.removed("write error", &link.place, &link.token).await
}

/// Begins a poll with a narrow receive buffer, for a connection that has much to say.
async fn narrow_poll(t: &Target, link: &Link) -> Outcome<Connection> {
    let mut connection = Connection::open_narrow(&t.address, NARROW).await?;
    connection.send(&link.place.poll(&link.token)).await?;
    Ok(connection)
}

/// Receive buffer of a reader that is to be felt when it stops, in bytes.
const NARROW: u32 = 32 * 1024;

/// Bytes of the message that no socket buffer takes whole.
const HUGE: usize = 10_000_000;

async fn lp_16_reader_stops(t: &Target) -> Outcome {
    reader_stops(t, DEFAULTS).await
}

async fn lp_16_reader_stops_short(t: &Target) -> Outcome {
    reader_stops(&t.with_short_times()?, SHORT_TRANSPORT).await
}

async fn reader_stops(t: &Target, times: Times) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = start(t, times.path).await?;
    link.say(&hub::invocation("1", "Big", &json!([HUGE]))).await?;
    let mut connection = narrow_poll(t, &link).await?;
    // On a busy machine a poll or two may end empty before so long a message has come.
    while wire::within(t.soon(), connection.head()).await.step("the response begins")?.header("content-length")
        == Some("0")
    {
        connection = narrow_poll(t, &link).await?;
    }
    let began = Instant::now();
    let ended = observer.happened(&link.connection_id, "disconnected", t.seconds(times.send + 4)).await?;
    same("end at the hub", true, ended)?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds until the end", took > times.send as f32 - 0.6, took)?;
    gone().check(t, "then", &poll(t, &link).await?)?;
    // What was on its way can be read; the announced length is never reached.
    let mut read = 0;
    loop {
        read += connection.buffer().split().len();
        match wire::within(t.soon(), connection.fill()).await {
            Ok(()) => {}
            Err(Error::Ended { .. }) => return holds("bytes before it is broken off", read < HUGE, read),
            Err(other) => return Err(other).step(format!("after {read} bytes")),
        }
    }
}

async fn lp_17_no_pings(t: &Target) -> Outcome {
    no_pings(t, DEFAULTS, DEFAULTS).await
}

async fn lp_17_no_pings_short(t: &Target) -> Outcome {
    no_pings(t, SHORT_PING, SHORT_CLIENT).await
}

async fn no_pings(t: &Target, pinging: Times, times: Times) -> Outcome {
    let (mut silent, mut pinged) = (start(t, pinging.path).await?, start(t, times.path).await?);
    silent.hears_pings = true;
    pinged.hears_pings = true;
    pinged.say(&hub::ping()).await?;
    let began = Instant::now();
    let idle = async {
        // Twice the client time-out, which is more than twice the interval of pings.
        let until = Duration::from_secs(times.client * 2 + 2);
        match silent.next(until).await {
            Err(failure) if matches!(failure.problem, Problem::Wire(Error::Late(_))) => {}
            Err(failure) => return Err(failure),
            Ok(heard) => return crate::failure::mismatch("idle long polling", "no Ping", heard),
        }
        silent.works("a client that never pinged").await
    };
    let timed_out = async {
        pinged.hears_within("after one Ping", &[CLOSED_WITH_ERROR], t.seconds(times.client + 4)).await?;
        let took = began.elapsed().as_secs_f32();
        holds("seconds until the time-out", took > times.client as f32 - 0.5, took)?;
        pinged.ends("after one Ping").await
    };
    tokio::try_join!(idle, timed_out).map(drop)
}

async fn lp_18_extra_parameter(t: &Target) -> Outcome {
    let mut link = start(t, contract().query("_=1700000000000")).await?;
    link.works("with _ before id").await?;
    let request = link.place.poll(&format!("{}&_=123", link.token));
    t.begin(&request).await?.stays("with _ behind id", t.moment()).await
}

async fn lp_19_message_pack(t: &Target) -> Outcome {
    let mut link = Link::open(t, Transport::LongPolling, &contract()).await?;
    link.say(&hub::handshake("messagepack", 1)).await?;
    Expected::poll("{}\u{1e}").check(t, "handshake", &poll(t, &link).await?)?;
    let call = hub::packed_invocation("1", "Echo", vec![Pack::from("hé")]);
    link.say_bytes(&call, frame::BINARY).await?;
    let answer = poll(t, &link).await?;
    Expected::poll("").any_body().check(t, "echo", &answer)?;
    same("echo", hub::packed_completion("1", "hé".into()), answer.body)
}

async fn lp_20_poll_while_a_post_waits(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = start(t, &contract()).await?;
    link.say(&hub::send("Block", &json!([]))).await?;
    observer.sees(&link, "blocked").await?;
    link.say(&hub::send("Void", &json!([]))).await?;
    let mut post = t.begin_apart(&link.place.post(&link.token, flood(t, 0).0)).await?;
    post.stays("POST", t.seconds(1)).await?;
    let mut old = pending(t, &link).await?;
    let mut new = t.begin(&link.place.poll(&link.token)).await?;
    Expected::no_content().check(t, "old poll", &old.answer(t.soon()).await?)?;
    let mut other = Link::socket(t, &contract()).await?;
    other.call("SendToConnection", json!([link.connection_id, "hello"])).await?;
    let data = record(r#"{"type":1,"target":"Message","arguments":["hello"]}"#);
    Expected::poll(&data).check(t, "data while the POST waits", &new.answer(t.soon()).await?)?;
    post.stays("POST still", t.moment()).await?;
    observer.unblock(&link).await?;
    Expected::empty(200).check(t, "POST", &post.answer(t.soon()).await?)
}

async fn lp_26_poll_by_another_user(t: &Target) -> Outcome {
    let (alice, bob) = (jwt::of("alice"), jwt::of("bob"));
    let own = contract().bearer(&alice);
    let mut link = start(t, &own).await?;
    same("user", json!("alice"), link.call("User", json!([])).await?)?;
    let foreign = contract().bearer(&bob).poll(&link.token);
    if t.gateway {
        let refused = t.exchange(&foreign).await?;
        Expected::text(403, USER_CHANGED).polled().check(t, "another user's poll", &refused)?;
    } else {
        let mut accepted = t.begin(&foreign).await?;
        accepted.stays("another user's poll", t.moment()).await?;
        link.say(&hub::invocation("1", "User", &json!([]))).await?;
        let answer = accepted.answer(t.soon()).await?;
        Expected::poll(&record(&hub::completion("1", &json!("alice")))).check(t, "another user's poll", &answer)?;
    }
    same("user afterwards", json!("alice"), link.call("User", json!([])).await?)
}

async fn lp_27_connection_handler_fails(t: &Target) -> Outcome {
    let mut link = Link::open(t, Transport::LongPolling, "/raw-throws").await?;
    let mut last = pending(t, &link).await?;
    link.say("x").await?;
    let answer = last.answer(t.soon()).await?;
    if t.gateway {
        // It may remove the connection at once; a 5xx would make no difference to a client.
        return holds("status", [204, 404, 500].contains(&answer.head.status), answer.brief());
    }
    let failed = Expected::empty(500).polled();
    failed.check(t, "pending poll", &answer)?;
    failed.check(t, "next poll", &poll(t, &link).await?)?;
    link.say("y").await?;
    delete(t, &link).await?;
    removed(t, &link, "after DELETE").await
}

async fn lp_28_newer_polls_while_a_body_is_not_read(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    link.say(&hub::invocation("1", "Big", &json!([HUGE]))).await?;
    let mut older = narrow_poll(t, &link).await?;
    let head = wire::within(t.soon(), older.head()).await?;
    let request = link.place.poll(&link.token);
    let newer = futures_util::future::try_join_all((0..3).map(|_| t.begin(&request))).await?;
    let (body, _) = wire::within(t.soon(), older.body(&head, "GET")).await.step("the older one's body is completed")?;
    same("bytes of the older one's body", hub::completion("1", &json!("")).len() + 1 + HUGE, body.len())?;
    let mut staying = one_stays(t, newer).await?;
    link.say(&hub::invocation("2", "Echo", &json!(["x"]))).await?;
    let answer = staying.answer(t.soon()).await?;
    Expected::poll(&record(&hub::completion("2", &json!("x")))).check(t, "the poll that stayed", &answer)
}

async fn lp_29_long_messages(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    link.say(&hub::invocation("1", "Big", &json!([200_000]))).await?;
    let body = poll(t, &link).await?.text();
    same("200 kB in one body", hub::completion("1", &json!("")).len() + 1 + 200_000, body.len())?;
    link.say(&hub::invocation("p", "Push", &json!([6, 30_000]))).await?;
    let mut seen = 0;
    while seen < 7 {
        let body = poll(t, &link).await?.text();
        let (records, rest) = hub::split(&body);
        same("a body ends on a message boundary", "", rest.as_str())?;
        seen += records.len();
    }
    same("messages", 7, seen)
}

async fn lp_30_bytes_before_the_first_poll(t: &Target) -> Outcome {
    let place = contract();
    let token = t.negotiate(&place).await?.token;
    let early = hub::handshake("json", 1) + &hub::invocation("1", "Echo", &json!(["early"]));
    Expected::empty(200).check(t, "POST", &t.exchange(&place.post(&token, early)).await?)?;
    Expected::poll("").check(t, "first poll", &t.exchange(&place.poll(&token)).await?)?;
    let mut body = String::new();
    while hub::split(&body).0.len() < 2 {
        body.push_str(&t.exchange(&place.poll(&token)).await?.text());
    }
    same("second poll", format!("{}{}", record("{}"), record(&hub::completion("1", &json!("early")))), body)
}

async fn lp_31_slow_reader(t: &Target) -> Outcome {
    let mut link = start(t, &contract()).await?;
    link.say(&hub::invocation("1", "Big", &json!([HUGE]))).await?;
    let mut connection = narrow_poll(t, &link).await?;
    let head = wire::within(t.soon(), connection.head()).await?;
    sleep(Duration::from_secs(5)).await;
    let (body, _) = wire::within(t.soon(), connection.body(&head, "GET")).await?;
    same("bytes", hub::completion("1", &json!("")).len() + 1 + HUGE, body.len())?;
    link.works("afterwards").await
}

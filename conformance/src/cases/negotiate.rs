//! Group A: negotiate (`signalr-wire` §2 and §3).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};

use super::cases;
use crate::expected::{Expected, Frames, compared_headers};
use crate::failure::{Outcome, Step, holds, same};
use crate::link::{Link, Transport};
use crate::runner::Run::{Quick, Waits};
use crate::servers::CORS_ORIGIN;
use crate::target::{Place, Target};
use crate::wire::http::{Answer, Payload, Request};
use crate::wire::{self, End, hub};

cases! {
    "NEG-01" Quick => neg_01_without_parameters_is_version_0;
    "NEG-02" Quick => neg_02_version_1_has_id_and_token;
    "NEG-03" Quick => neg_03_version_7_is_answered_as_1;
    "NEG-04" Quick => neg_04_version_must_be_an_integer;
    "NEG-05" Quick => neg_05_version_given_twice;
    "NEG-06" Quick => neg_06_negative_version;
    "NEG-07" Quick => neg_07_minimum_1_without_parameter;
    "NEG-08" Quick => neg_08_minimum_1_with_version_0;
    "NEG-09" Quick => neg_09_other_methods;
    "NEG-10" Quick => neg_10_parameter_in_any_letter_case;
    "NEG-11" Quick => neg_11_body_is_ignored;
    "NEG-12" Quick => neg_12_enabled_transports_only;
    "NEG-13" Quick => neg_13_host_without_web_sockets;
    "NEG-14" Quick => neg_14_transports_in_order;
    "NEG-15" Quick => neg_15_stateful_reconnect_granted;
    "NEG-16" Quick => neg_16_stateful_reconnect_not_granted;
    "NEG-17" Quick => neg_17_stateful_reconnect_not_a_boolean;
    "NEG-18" Waits(20) => neg_18_unused_token_is_removed;
    "NEG-19" Quick => neg_19_public_id_is_not_the_token;
    "NEG-20" Quick => neg_20_token_keeps_letter_case;
    "NEG-21" Quick => neg_21_two_negotiates_differ;
    "NEG-22" Quick => neg_22_no_nulls;
    "NEG-23" Quick => neg_23_pre_flight;
    "NEG-24" Quick => neg_24_spellings_of_the_version;
    "NEG-25" Quick => neg_25_minimum_2;
    "NEG-26" Quick => neg_26_spellings_of_the_path;
    "NEG-27" Quick => neg_27_connection_is_kept;
    "NEG-28" Quick => neg_28_expect_continue;
    "NEG-29" Quick => neg_29_answers_to_other_origins;
}

const ALL: &str = r#"[{"transport":"WebSockets","transferFormats":["Text","Binary"]},{"transport":"ServerSentEvents","transferFormats":["Text"]},{"transport":"LongPolling","transferFormats":["Text","Binary"]}]"#;
const VERSION_0: &str = r#"{"negotiateVersion":0,"connectionId":"<id>","availableTransports":<all>}"#;
const VERSION_1: &str =
    r#"{"negotiateVersion":1,"connectionId":"<id>","connectionToken":"<token>","availableTransports":<all>}"#;

fn contract() -> Place {
    Place::from("/contract")
}

async fn ask(t: &Target, place: &Place, parameters: &str) -> Outcome<Answer> {
    t.exchange(&place.negotiate(parameters)).await.step(format!("negotiate?{parameters}"))
}

/// The body with ids, tokens and the full list of transports replaced by their names.
fn named(answer: &Answer) -> String {
    let mut text = answer.text().replace(ALL, "<all>");
    if let Ok(json) = serde_json::from_slice::<Value>(&answer.body) {
        for (property, name) in [("connectionToken", "<token>"), ("connectionId", "<id>")] {
            if let Some(value) = json.get(property).and_then(Value::as_str).filter(|value| !value.is_empty()) {
                text = text.replacen(&format!(r#""{property}":"{value}""#), &format!(r#""{property}":"{name}""#), 1);
            }
        }
    }
    text
}

async fn answers(t: &Target, place: &Place, parameters: &str, body: &str) -> Outcome<Answer> {
    let answer = ask(t, place, parameters).await?;
    let what = format!("negotiate?{parameters}");
    Expected::json("").any_body().check(t, &what, &answer)?;
    same(format!("{what}: body"), body, named(&answer).as_str())?;
    Ok(answer)
}

async fn refuses(t: &Target, place: &Place, parameters: &str, error: &str) -> Outcome {
    let body = format!(r#"{{"error":"{error}"}}"#);
    let answer = ask(t, place, parameters).await?;
    Expected::json(&body).check(t, &format!("negotiate?{parameters}"), &answer)
}

/// The text for a version that is no integer, which is older in 8.0.
fn not_an_integer(t: &Target, raw: &str) -> String {
    match t.version {
        8 => format!("The client requested an invalid protocol version '{raw}'"),
        _ => "The client requested a non-integer protocol version.".into(),
    }
}

fn too_low(version: i32) -> String {
    format!("The client requested version '{version}', but the server does not support this version.")
}

/// An id of 16 random bytes in 22 characters. A gateway's own token is longer, within unreserved characters (A1).
fn check_id(t: &Target, what: &str, text: &str, may_be_sealed: bool) -> Outcome {
    if t.gateway && may_be_sealed {
        let unreserved = |c: char| c.is_ascii_alphanumeric() || "-._~".contains(c);
        return holds(what, !text.is_empty() && text.len() <= 300 && text.chars().all(unreserved), text);
    }
    let bytes = URL_SAFE_NO_PAD.decode(text).map(|bytes| bytes.len()).ok();
    same(format!("{what} {text:?}: characters and bytes"), (22, Some(16)), (text.len(), bytes))
}

async fn neg_01_without_parameters_is_version_0(t: &Target) -> Outcome {
    let answer = answers(t, &contract(), "", VERSION_0).await?;
    holds("Content-Length", answer.framing == wire::http::Framing::Length, &answer.framing)?;
    let negotiated = t.negotiate_with("/contract", "").await?;
    check_id(t, "connectionId", &negotiated.connection_id, true)
}

async fn neg_02_version_1_has_id_and_token(t: &Target) -> Outcome {
    answers(t, &contract(), "negotiateVersion=1", VERSION_1).await?;
    let negotiated = t.negotiate("/contract").await?;
    check_id(t, "connectionId", &negotiated.connection_id, false)?;
    check_id(t, "connectionToken", &negotiated.token, true)?;
    holds("distinct", negotiated.connection_id != negotiated.token, &negotiated.token)
}

async fn neg_03_version_7_is_answered_as_1(t: &Target) -> Outcome {
    answers(t, &contract(), "negotiateVersion=7", VERSION_1).await.map(drop)
}

async fn neg_04_version_must_be_an_integer(t: &Target) -> Outcome {
    refuses(t, &contract(), "negotiateVersion=abc", &not_an_integer(t, "abc")).await
}

async fn neg_05_version_given_twice(t: &Target) -> Outcome {
    refuses(t, &contract(), "negotiateVersion=1&negotiateVersion=1", &not_an_integer(t, "1,1")).await
}

async fn neg_06_negative_version(t: &Target) -> Outcome {
    refuses(t, &contract(), "negotiateVersion=-1", &too_low(-1)).await
}

async fn neg_07_minimum_1_without_parameter(t: &Target) -> Outcome {
    refuses(t, &"/contract-min1".into(), "", &too_low(0)).await
}

async fn neg_08_minimum_1_with_version_0(t: &Target) -> Outcome {
    let place = "/contract-min1".into();
    refuses(t, &place, "negotiateVersion=0", &too_low(0)).await?;
    refuses(t, &place, "negotiateVersion=-1", &too_low(-1)).await?;
    answers(t, &place, "negotiateVersion=1", VERSION_1).await.map(drop)
}

async fn neg_09_other_methods(t: &Target) -> Outcome {
    for method in ["GET", "PUT", "HEAD", "OPTIONS", "DELETE", "PATCH", "TRACE", "PROPFIND"] {
        let answer = t.exchange(&Request::new(method, "/contract/negotiate")).await.step(method)?;
        let expected = Expected::empty(405);
        let expected = if method == "HEAD" { expected.frames(Frames::Absent) } else { expected };
        expected.check(t, method, &answer)?;
    }
    Ok(())
}

async fn neg_10_parameter_in_any_letter_case(t: &Target) -> Outcome {
    for name in ["NEGOTIATEVERSION", "NegotiateVersion", "negotiateversion"] {
        answers(t, &contract(), &format!("{name}=1"), VERSION_1).await?;
    }
    Ok(())
}

async fn neg_11_body_is_ignored(t: &Target) -> Outcome {
    let request = || Request::new("POST", "/contract/negotiate?negotiateVersion=1");
    let check = async |what: &str, request: Request| -> Outcome {
        let answer = t.exchange(&request).await.step(what)?;
        Expected::json("").any_body().check(t, what, &answer)?;
        same(what, VERSION_1, named(&answer).as_str())
    };
    for kind in ["text/plain", "application/json", "application/octet-stream", "application/x-www-form-urlencoded"] {
        check(kind, request().header("Content-Type", kind).body(r#"{"negotiateVersion":0}"#)).await?;
    }
    check("100 KiB", request().body(vec![b'x'; 100 * 1024])).await?;
    check("chunked", request().chunks(vec![b"a=1".to_vec(), b"&b=2".to_vec()])).await?;
    check("neither length nor chunks", request()).await
}

async fn neg_12_enabled_transports_only(t: &Target) -> Outcome {
    let one = [
        ("/contract-ws", r#"[{"transport":"WebSockets","transferFormats":["Text","Binary"]}]"#),
        ("/contract-sse", r#"[{"transport":"ServerSentEvents","transferFormats":["Text"]}]"#),
        ("/contract-lp", r#"[{"transport":"LongPolling","transferFormats":["Text","Binary"]}]"#),
        ("/contract-none", "[]"),
    ];
    for (path, transports) in one {
        if t.gateway && path == "/contract-sse" {
            // It has no way to such a hub, and says so (edge rule D5).
            let answer = ask(t, &path.into(), "negotiateVersion=1").await?;
            let error = serde_json::from_slice::<Value>(&answer.body).ok().and_then(|json| json.get("error").cloned());
            holds(path, answer.head.status == 200 && error.is_some(), answer.brief())?;
            continue;
        }
        answers(t, &path.into(), "negotiateVersion=1", &VERSION_1.replace("<all>", transports)).await.step(path)?;
    }
    Ok(())
}

async fn neg_13_host_without_web_sockets(t: &Target) -> Outcome {
    let transports = r#"[{"transport":"ServerSentEvents","transferFormats":["Text"]},{"transport":"LongPolling","transferFormats":["Text","Binary"]}]"#;
    let body = VERSION_1.replace("<all>", transports);
    answers(t, &"/contract-nowebsockets".into(), "negotiateVersion=1", &body).await.map(drop)
}

async fn neg_14_transports_in_order(t: &Target) -> Outcome {
    // The names are `<all>` only when the list's text, order included, is the reference's.
    let answer = answers(t, &contract(), "negotiateVersion=1", VERSION_1).await?;
    holds("compact JSON", !answer.text().contains(' '), answer.text())
}

async fn neg_15_stateful_reconnect_granted(t: &Target) -> Outcome {
    let place = "/contract-stateful".into();
    let granted = |body: &str| body.replacen('{', r#"{"useStatefulReconnect":true,"#, 1);
    for value in ["true", "True", "TRUE", "%20true%20"] {
        let parameters = format!("negotiateVersion=1&useStatefulReconnect={value}");
        answers(t, &place, &parameters, &granted(VERSION_1)).await?;
    }
    answers(t, &place, "negotiateVersion=1&USESTATEFULRECONNECT=true", &granted(VERSION_1)).await?;
    answers(t, &place, "useStatefulReconnect=true", &granted(VERSION_0)).await.map(drop)
}

async fn neg_16_stateful_reconnect_not_granted(t: &Target) -> Outcome {
    let place = "/contract-stateful".into();
    answers(t, &place, "negotiateVersion=1", VERSION_1).await?;
    answers(t, &place, "negotiateVersion=1&useStatefulReconnect=false", VERSION_1).await?;
    if t.gateway {
        // A gateway keeps connections itself, whatever the hub offers (rule I1).
        return Ok(());
    }
    answers(t, &contract(), "negotiateVersion=1&useStatefulReconnect=true", VERSION_1).await.map(drop)
}

async fn neg_17_stateful_reconnect_not_a_boolean(t: &Target) -> Outcome {
    let place = "/contract-stateful".into();
    for value in ["banana", "1", "yes", "", "true&useStatefulReconnect=true"] {
        answers(t, &place, &format!("negotiateVersion=1&useStatefulReconnect={value}"), VERSION_1).await?;
    }
    Ok(())
}

async fn neg_18_unused_token_is_removed(t: &Target) -> Outcome {
    let place = contract();
    let began = Instant::now();
    let (unused, posted, polled) = tokio::try_join!(t.negotiate(&place), t.negotiate(&place), t.negotiate(&place))?;
    sleep_until(began + Duration::from_secs(5)).await;
    let post = t.exchange(&place.post(&posted.token, hub::handshake("json", 1))).await?;
    Expected::empty(200).check(t, "POST after 5 s", &post)?;
    sleep_until(began + Duration::from_secs(10)).await;
    let post = t.exchange(&place.post(&posted.token, "")).await?;
    Expected::empty(200).check(t, "POST after 10 s", &post)?;
    let poll = t.exchange(&place.poll(&polled.token)).await?;
    Expected::poll("").check(t, "poll after 10 s", &poll)?;
    sleep_until(began + Duration::from_secs(19)).await;
    let unknown = Expected::no_connection();
    let answer = t.exchange(&place.poll(&unused.token)).await?;
    unknown.clone().polled().check(t, "poll after 19 s", &answer)?;
    unknown.check(t, "events", &t.exchange(&place.events(&unused.token)).await?)?;
    unknown.check(t, "POST", &t.exchange(&place.post(&unused.token, "")).await?)?;
    unknown.check(t, "DELETE", &t.exchange(&place.delete(&unused.token)).await?)?;
    let refused = t.refused_upgrade(&place.upgrade(&unused.token)).await?;
    unknown.clone().untyped().check(t, "WebSocket", &refused)?;
    unknown.check(t, "POSTs did not prolong", &t.exchange(&place.post(&posted.token, "")).await?)?;
    let mut poll = t.begin(&place.poll(&polled.token)).await?;
    poll.stays("poll of the polled one", t.moment()).await
}

async fn neg_19_public_id_is_not_the_token(t: &Target) -> Outcome {
    let place = contract();
    let id = t.negotiate(&place).await?.connection_id;
    let unknown = Expected::no_connection();
    unknown.clone().polled().check(t, "poll", &t.exchange(&place.poll(&id)).await?)?;
    unknown.check(t, "POST", &t.exchange(&place.post(&id, "")).await?)?;
    unknown.untyped().check(t, "WebSocket", &t.refused_upgrade(&place.upgrade(&id)).await?)
}

async fn neg_20_token_keeps_letter_case(t: &Target) -> Outcome {
    let place = contract();
    let token = t.negotiate(&place).await?.token;
    let swapped: String = token
        .chars()
        .map(|c| if c.is_ascii_lowercase() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() })
        .collect();
    let unknown = Expected::no_connection();
    unknown.check(t, "POST", &t.exchange(&place.post(&swapped, "")).await?)?;
    unknown.polled().check(t, "poll", &t.exchange(&place.poll(&swapped)).await?)?;
    Expected::empty(200).check(t, "right case", &t.exchange(&place.post(&token, "")).await?)
}

async fn neg_21_two_negotiates_differ(t: &Target) -> Outcome {
    let mut first = Link::open(t, Transport::LongPolling, "/contract").await?;
    let mut second = Link::open(t, Transport::LongPolling, "/contract").await?;
    holds("ids differ", first.connection_id != second.connection_id, &first.connection_id)?;
    holds("tokens differ", first.token != second.token, &first.token)?;
    first.shake_hands().await?;
    second.shake_hands().await
}

async fn neg_22_no_nulls(t: &Target) -> Outcome {
    for parameters in ["", "negotiateVersion=1", "negotiateVersion=abc", "negotiateVersion=1&useStatefulReconnect=true"]
    {
        let answer = ask(t, &contract(), parameters).await?;
        holds(parameters, !answer.text().contains("null"), answer.text())?;
    }
    Ok(())
}

fn pre_flight(path: &str, origin: &str, method: &str, headers: &str) -> Request {
    let request =
        Request::new("OPTIONS", path).header("Origin", origin).header("Access-Control-Request-Method", method);
    if headers.is_empty() { request } else { request.header("Access-Control-Request-Headers", headers) }
}

async fn neg_23_pre_flight(t: &Target) -> Outcome {
    let allowed = |method: &str, headers: &str| {
        let answer = Expected::bare(204)
            .frames(Frames::Absent)
            .header("access-control-allow-origin", CORS_ORIGIN)
            .header("access-control-allow-credentials", "true")
            .header("access-control-allow-methods", method);
        if headers.is_empty() { answer } else { answer.header("access-control-allow-headers", headers) }
    };
    let asked = "x-requested-with,x-signalr-user-agent,authorization";
    for (path, method, headers) in [
        ("/contract/negotiate?negotiateVersion=1", "POST", asked),
        ("/contract?id=x", "POST", "content-type"),
        ("/contract?id=x", "DELETE", asked),
        ("/contract?id=x", "GET", "x-requested-with"),
        ("/contract/negotiate", "POST", ""),
        ("/contract-auth/negotiate", "POST", "authorization"),
    ] {
        let answer = t.exchange(&pre_flight(path, CORS_ORIGIN, method, headers)).await?;
        allowed(method, headers).check(t, &format!("{method} {path}"), &answer)?;
    }
    let answer = t.exchange(&pre_flight("/contract/negotiate", "http://other.example", "POST", asked)).await?;
    Expected::bare(204).frames(Frames::Absent).check(t, "other origin", &answer)
}

async fn neg_24_spellings_of_the_version(t: &Target) -> Outcome {
    let minus = "\u{2212}1";
    for (written, raw) in [
        ("", ""),
        ("1.0", "1.0"),
        ("1,0", "1,0"),
        ("0x1", "0x1"),
        ("1e0", "1e0"),
        ("2147483648", "2147483648"),
        ("-2147483649", "-2147483649"),
        ("%E2%88%921", minus),
    ] {
        if t.version == 8 && written == "%E2%88%921" {
            // 8.0 writes the sign escaped; the digest does not say how.
            continue;
        }
        refuses(t, &contract(), &format!("negotiateVersion={written}"), &not_an_integer(t, raw)).await?;
    }
    for written in ["%2B1", "+1", "01", "%201", "1%20", "2147483647"] {
        answers(t, &contract(), &format!("negotiateVersion={written}"), VERSION_1).await?;
    }
    for written in ["0", "-0"] {
        answers(t, &contract(), &format!("negotiateVersion={written}"), VERSION_0).await?;
    }
    Ok(())
}

async fn neg_25_minimum_2(t: &Target) -> Outcome {
    let place = "/contract-min2".into();
    refuses(t, &place, "", &too_low(0)).await?;
    refuses(t, &place, "negotiateVersion=1", &too_low(1)).await?;
    answers(t, &place, "negotiateVersion=2", VERSION_1).await?;
    answers(t, &place, "negotiateVersion=3", VERSION_1).await.map(drop)
}

async fn neg_26_spellings_of_the_path(t: &Target) -> Outcome {
    for path in ["/CONTRACT/Negotiate", "/contract/negotiate/", "/contract/%6eegotiate", "/contract/negotiate?"] {
        let answer = t.exchange(&Request::new("POST", path).body("")).await?;
        same(path, VERSION_0, named(&answer).as_str())?;
    }
    for path in ["/contract//negotiate", "/contract/negotiate/x", "/contract/other", "//contract/negotiate"] {
        let answer = t.exchange(&Request::new("POST", path).body("")).await?;
        Expected::bare(404).check(t, path, &answer)?;
    }
    Ok(())
}

async fn neg_27_connection_is_kept(t: &Target) -> Outcome {
    let place = contract();
    let mut connection = t.connect().await?;
    let mut ask = async |request: Request, status: u16| -> Outcome<Answer> {
        let what = format!("{} {}", request.method, request.target);
        let answer = wire::within(t.soon(), connection.exchange(&request)).await.step(&what)?;
        same(&what, status, answer.head.status)?;
        same(format!("{what}: Connection header"), None, answer.head.header("connection"))?;
        Ok(answer)
    };
    let negotiated = ask(place.negotiate("negotiateVersion=1"), 200).await?;
    let json: Value = serde_json::from_slice(&negotiated.body).unwrap_or_default();
    let token = json.get("connectionToken").and_then(Value::as_str).unwrap_or_default().to_owned();
    ask(place.poll("unknown"), 404).await?;
    ask(Request::new("PUT", "/contract"), 405).await?;
    ask(Request::new("GET", "/contract"), 400).await?;
    ask(place.poll(&token), 200).await?;
    ask(place.post(&token, hub::handshake("json", 1)), 200).await?;
    ask(place.delete(&token), 202).await?;
    ask(place.poll("unknown"), 404).await?;
    closes(t, place.negotiate("negotiateVersion=1").header("Connection", "close")).await?;
    closes(t, place.negotiate("negotiateVersion=1").version("HTTP/1.0")).await
}

/// The answer comes and then the connection ends.
async fn closes(t: &Target, request: Request) -> Outcome {
    let what = format!("{} {:?}", request.version, request.headers);
    let mut connection = t.connect().await?;
    let answer = wire::within(t.soon(), connection.exchange(&request)).await.step(&what)?;
    same(&what, 200, answer.head.status)?;
    same(format!("{what}: end"), End::Fin, connection.ended(t.soon()).await.step(&what)?)
}

async fn neg_28_expect_continue(t: &Target) -> Outcome {
    let place = contract();
    let expecting = |request: Request| request.header("Expect", "100-continue");
    let at_once = |request: Request| async {
        let what = format!("{} {}", request.method, request.target);
        let mut connection = t.connect().await?;
        connection.send_bytes(&expecting(request).head_bytes(&t.address)).await?;
        Outcome::Ok((wire::within(t.soon(), connection.answer("POST")).await.step(what)?, connection))
    };
    // A gateway reads what is not a hub's for all it knows; from here on it knows.
    t.negotiate(&place).await?;
    let (answer, _) = at_once(Request::new("POST", "/contract/negotiate?negotiateVersion=1").body("12345")).await?;
    same("negotiate", (Vec::<u16>::new(), 200), (answer.interim, answer.head.status))?;
    let (answer, _) = at_once(place.post("unknown", "12345")).await?;
    same("unknown id", (Vec::<u16>::new(), 404), (answer.interim, answer.head.status))?;
    let token = t.negotiate(&place).await?.token;
    let request = expecting(place.post(&token, "12345"));
    let mut connection = t.connect().await?;
    connection.send_bytes(&request.head_bytes(&t.address)).await?;
    let interim = wire::within(t.soon(), connection.head()).await.step("known id")?;
    same("known id", 100, interim.status)?;
    let Payload::Sized(body) = &request.payload else { return Ok(()) };
    connection.send_bytes(body).await?;
    let answer = wire::within(t.soon(), connection.answer("POST")).await.step("known id, after the body")?;
    same("known id, after the body", 200, answer.head.status)
}

async fn neg_29_answers_to_other_origins(t: &Target) -> Outcome {
    let cors = |answer: &Answer| -> Vec<(String, String)> {
        let headers = compared_headers(&answer.head).into_iter();
        headers.filter(|(name, _)| name.starts_with("access-control-")).collect()
    };
    let both = vec![
        ("access-control-allow-credentials".to_owned(), "true".to_owned()),
        ("access-control-allow-origin".to_owned(), CORS_ORIGIN.to_owned()),
    ];
    let place = contract().header("Origin", CORS_ORIGIN);
    for (request, status) in [
        (place.negotiate("negotiateVersion=1"), 200),
        (Place::from("/contract-auth").header("Origin", CORS_ORIGIN).negotiate("negotiateVersion=1"), 401),
        (place.poll("unknown"), 404),
        (Request::new("PUT", "/contract").header("Origin", CORS_ORIGIN), 405),
    ] {
        let answer = t.exchange(&request).await?;
        let what = format!("{} {}", request.method, request.target);
        same(&what, (status, &both), (answer.head.status, &cors(&answer)))?;
    }
    let link = Link::start(t, Transport::LongPolling, place.clone()).await?;
    let post = t.exchange(&place.post(&link.token, "")).await?;
    same("POST", (200, &both), (post.head.status, &cors(&post)))?;
    let delete = t.exchange(&place.delete(&link.token)).await?;
    same("DELETE", (202, &both), (delete.head.status, &cors(&delete)))?;
    let stream = t.subscribe(&place.events(&t.negotiate(&place).await?.token)).await?;
    let head =
        Answer { head: stream.head, body: Vec::new(), framing: wire::http::Framing::Absent, interim: Vec::new() };
    same("event stream", &both, &cors(&head))?;
    let other = contract().header("Origin", "http://other.example").negotiate("negotiateVersion=1");
    let answer = t.exchange(&other).await?;
    same("other origin", (200, Vec::new()), (answer.head.status, cors(&answer)))?;
    let plain = Request::new("OPTIONS", "/contract/negotiate").header("Origin", CORS_ORIGIN);
    same("OPTIONS without a requested method", 405, t.exchange(&plain).await?.head.status)
}

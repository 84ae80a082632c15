//! Group H: the hub handshake (`signalr-wire` §6).

use std::time::{Duration, Instant};

use serde_json::json;

use super::cases;
use crate::failure::{Outcome, Step, holds, same};
use crate::link::{CLOSED_WITH_ERROR, Link, Observer, Transport};
use crate::runner::Run::{Quick, Waits};
use crate::target::{DEFAULTS, Place, SHORT_HANDSHAKE, Target, Times};
use crate::wire::frame::{self, Frame};
use crate::wire::{Error, hub};

cases! {
    "HS-01" Quick => hs_01_json;
    "HS-02" Quick => hs_02_message_pack;
    "HS-03" Quick => hs_03_lower_versions;
    "HS-04" Quick => hs_04_version_too_high;
    "HS-05" Quick => hs_05_unknown_protocol;
    "HS-06" Quick => hs_06_protocol_in_any_letter_case;
    "HS-07" Quick => hs_07_order_extras_white_space;
    "HS-08" Quick => hs_08_one_byte_a_frame;
    "HS-09" Quick => hs_09_invocation_in_the_same_frame;
    "HS-10" Waits(20) => hs_10_time_out;
    "HS-10" Waits(8) => hs_10_time_out_short;
    "HS-11" Quick => hs_11_size_limit;
    "HS-12" Quick => hs_12_malformed;
    "HS-13" Quick => hs_13_garbage_behind_the_object;
    "HS-14" Quick => hs_14_hub_message_first;
    "HS-15" Quick => hs_15_half_a_handshake;
    "HS-16" Quick => hs_16_restricted_protocols;
    "HS-17" Quick => hs_17_no_close_message_after_refusal;
    "HS-18" Quick => hs_18_last_duplicate_wins;
    "HS-27" Quick => hs_27_version_not_a_plain_integer;
    "HS-28" Quick => hs_28_names_are_case_sensitive;
    "HS-29" Quick => hs_29_escapes;
    "HS-30" Quick => hs_30_protocol_before_version;
    "HS-31" Quick => hs_31_messages_behind_a_refused_handshake;
    "HS-32" Waits(12) => hs_32_time_runs_from_the_attach;
    "HS-33" Quick => hs_33_slow_on_connected;
    "HS-34" Quick => hs_34_second_handshake;
}

const UNEXPECTED: &str = "An unexpected error occurred during connection handshake.";
const CANCELED: &str = r#"{"error":"Handshake was canceled."}"#;

async fn open(t: &Target, path: &str) -> Outcome<Link> {
    Link::open(t, Transport::WebSockets, path).await
}

fn error(text: &str) -> String {
    json!({ "error": text }).to_string()
}

/// Sends a request (its separator is added) in a Text frame and hears the response.
async fn succeeds(t: &Target, path: &str, request: &str, response: &str) -> Outcome {
    let mut link = open(t, path).await?;
    link.say(&format!("{request}\u{1e}")).await?;
    link.hears(request, &[response]).await
}

/// Sends a request and hears that error, then the end.
async fn fails(t: &Target, path: &str, request: &str, text: &str) -> Outcome {
    let mut link = open(t, path).await?;
    link.say(&format!("{request}\u{1e}")).await?;
    link.hears(request, &[&error(text), "CLOSE 1000", "END"]).await
}

fn version(protocol: &str, version: &str) -> String {
    format!(r#"{{"protocol":"{protocol}","version":{version}}}"#)
}

fn unsupported(protocol: &str) -> String {
    format!("The protocol '{protocol}' is not supported.")
}

async fn hs_01_json(t: &Target) -> Outcome {
    let mut link = open(t, "/contract").await?;
    link.say(&hub::handshake("json", 1)).await?;
    let event = link.web_socket()?.event(t.soon()).await?;
    let bytes = vec![0x7b, 0x7d, 0x1e];
    same("response", crate::wire::web_socket::Event::Message(frame::TEXT, bytes), event)?;
    link.hears_nothing("afterwards", t.moment()).await
}

async fn hs_02_message_pack(t: &Target) -> Outcome {
    let mut link = open(t, "/contract").await?;
    link.say_bytes(hub::handshake("messagepack", 1).as_bytes(), frame::BINARY).await?;
    link.hears("response", &["bin:{}"]).await?;
    link.hears_nothing("afterwards", t.moment()).await
}

async fn hs_03_lower_versions(t: &Target) -> Outcome {
    for number in ["2", "0", "-5", "-2147483648"] {
        succeeds(t, "/contract", &version("json", number), "{}").await?;
        succeeds(t, "/contract", &version("messagepack", number), "bin:{}").await?;
    }
    Ok(())
}

async fn hs_04_version_too_high(t: &Target) -> Outcome {
    for (protocol, number) in [("json", "3"), ("JSON", "3"), ("messagepack", "3"), ("json", "2147483647")] {
        let text = format!("The server does not support version {number} of the '{protocol}' protocol.");
        fails(t, "/contract", &version(protocol, number), &text).await?;
    }
    Ok(())
}

async fn hs_05_unknown_protocol(t: &Target) -> Outcome {
    for protocol in ["blah", "", "json "] {
        fails(t, "/contract", &version(protocol, "1"), &unsupported(protocol)).await?;
    }
    fails(t, "/contract", &version(r#"it's \"ä<>&+"#, "1"), &unsupported("it's \"ä<>&+")).await
}

async fn hs_06_protocol_in_any_letter_case(t: &Target) -> Outcome {
    succeeds(t, "/contract", &version("JSON", "1"), "{}").await?;
    succeeds(t, "/contract", &version("Json", "1"), "{}").await?;
    succeeds(t, "/contract", &version("MessagePack", "1"), "bin:{}").await
}

async fn hs_07_order_extras_white_space(t: &Target) -> Outcome {
    for request in [
        r#"{"version":1,"protocol":"json"}"#,
        r#"{"protocol":"json","version":1,"extra":{"a":[1,{"b":null}]},"x":"y"}"#,
        " \t\r\n{ \"protocol\" : \"json\" ,\n \"version\" : 1 } ",
        r#"{"a":[],"protocol":"json","b":{},"version":1}"#,
    ] {
        succeeds(t, "/contract", request, "{}").await?;
    }
    Ok(())
}

async fn hs_08_one_byte_a_frame(t: &Target) -> Outcome {
    let mut link = open(t, "/contract").await?;
    for byte in hub::handshake("json", 1).bytes() {
        link.say_bytes(&[byte], frame::TEXT).await?;
    }
    link.hears("response", &["{}"]).await?;
    link.works("afterwards").await
}

async fn hs_09_invocation_in_the_same_frame(t: &Target) -> Outcome {
    let (call, answer) = (hub::invocation("1", "Echo", &json!(["x"])), hub::completion("1", &json!("x")));
    let mut link = open(t, "/contract").await?;
    link.say(&(hub::handshake("json", 1) + &call)).await?;
    link.hears("JSON", &["{}", &answer]).await?;
    let mut link = open(t, "/contract").await?;
    let (head, tail) = call.split_at(20);
    link.say(&(hub::handshake("json", 1) + head)).await?;
    link.say(tail).await?;
    link.hears("with half a message", &["{}", &answer]).await?;
    let mut link = open(t, "/contract").await?;
    let packed = hub::packed_invocation("1", "Echo", vec!["hi".into()]);
    let bytes = [hub::handshake("messagepack", 1).into_bytes(), packed].concat();
    link.say_bytes(&bytes, frame::BINARY).await?;
    link.hears("MessagePack", &["bin:{}", "bin:09950380a13103a26869"]).await
}

async fn hs_10_time_out(t: &Target) -> Outcome {
    time_out(t, DEFAULTS, Transport::WebSockets, "").await
}

async fn hs_10_time_out_short(t: &Target) -> Outcome {
    time_out(t, SHORT_HANDSHAKE, Transport::WebSockets, "").await?;
    time_out(t, SHORT_HANDSHAKE, Transport::WebSockets, r#"{"protocol":"js"#).await?;
    time_out(t, SHORT_HANDSHAKE, Transport::ServerSentEvents, "").await
}

async fn time_out(t: &Target, times: Times, transport: Transport, begun: &str) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = Link::open(t, transport, times.path).await?;
    if !begun.is_empty() {
        link.say(begun).await?;
    }
    let began = Instant::now();
    link.hears_within("time-out", &[CANCELED], t.seconds(times.handshake + 4)).await?;
    let took = began.elapsed().as_secs_f32();
    holds("seconds until the time-out", took > times.handshake as f32 - 0.5, took)?;
    link.ends("time-out").await?;
    observer.sees_no(&link, "connected").await
}

/// A handshake of exactly that many bytes, the separator included.
fn padded(size: usize) -> String {
    let bare = hub::handshake("json", 1);
    let padding = " ".repeat(size.saturating_sub(bare.len()));
    format!("{padding}{bare}")
}

async fn hs_11_size_limit(t: &Target) -> Outcome {
    for size in [32_767, 32_768] {
        let mut link = open(t, "/contract").await?;
        link.say(&padded(size)).await?;
        link.hears(&format!("{size} bytes"), &["{}"]).await?;
    }
    let mut link = open(t, "/contract").await?;
    link.say(&padded(32_769)).await?;
    link.hears("32 769 bytes", &[CANCELED, "CLOSE 1000", "END"]).await?;
    let mut link = open(t, "/contract").await?;
    link.say(&" ".repeat(32_768)).await?;
    link.hears_nothing("32 768 bytes without separator", t.moment()).await?;
    link.say(" ").await?;
    link.hears("32 769 bytes without separator", &[CANCELED, "CLOSE 1000", "END"]).await
}

async fn hs_12_malformed(t: &Target) -> Outcome {
    for (request, detail) in [
        ("{}", "InvalidDataException: Missing required property 'protocol'. Message content: {}"),
        ("[]", "InvalidDataException: Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
        ("42", "InvalidDataException: Unexpected JSON Token Type 'Number'. Expected a JSON Object."),
        (
            "",
            "JsonReaderException: The input does not contain any JSON tokens. Expected the input to start with a valid JSON token, when isFinalBlock is true. LineNumber: 0 | BytePositionInLine: 0.",
        ),
        (r#"{"protocol":1,"version":1}"#, "InvalidDataException: Expected 'protocol' to be of type String."),
        (r#"{"protocol":"json","version":"x"}"#, "InvalidDataException: Expected 'version' to be of type Number."),
    ] {
        fails(t, "/contract", request, UNEXPECTED).await?;
        fails(t, "/contract-detailed", request, &format!("{UNEXPECTED} {detail}")).await?;
    }
    fails(t, "/contract", &version("json", "null"), UNEXPECTED).await
}

async fn hs_13_garbage_behind_the_object(t: &Target) -> Outcome {
    let good = version("json", "1");
    for garbage in ["garbage", "}", &good] {
        succeeds(t, "/contract", &format!("{good}{garbage}"), "{}").await?;
    }
    fails(t, "/contract", &format!("garbage{good}"), UNEXPECTED).await
}

async fn hs_14_hub_message_first(t: &Target) -> Outcome {
    fails(t, "/contract", r#"{"type":6}"#, UNEXPECTED).await?;
    let detail = r#"InvalidDataException: Missing required property 'protocol'. Message content: {"type":6}"#;
    fails(t, "/contract-detailed", r#"{"type":6}"#, &format!("{UNEXPECTED} {detail}")).await
}

async fn hs_15_half_a_handshake(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = open(t, "/contract").await?;
    link.say(r#"{"protocol":"js"#).await?;
    link.web_socket()?.send(&Frame::close(1000, "")).await?;
    link.hears("close frame", &["CLOSE 1000", "END"]).await?;
    t.removed("close frame", &link.place, &link.token).await?;
    observer.sees_no(&link, "connected").await?;
    let mut link = open(t, "/contract").await?;
    link.say(r#"{"protocol":"js"#).await?;
    link.web_socket()?.finish().await;
    link.hears("FIN", &["END"]).await?;
    t.removed("FIN", &link.place, &link.token).await?;
    observer.sees_no(&link, "connected").await
}

async fn hs_16_restricted_protocols(t: &Target) -> Outcome {
    fails(t, "/contract-messagepack", &version("json", "1"), &unsupported("json")).await?;
    succeeds(t, "/contract-messagepack", &version("messagepack", "1"), "bin:{}").await
}

async fn hs_17_no_close_message_after_refusal(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = open(t, "/contract").await?;
    link.say(&hub::handshake("blah", 1)).await?;
    link.hears("refusal", &[&error(&unsupported("blah")), "CLOSE 1000", "END"]).await?;
    observer.sees_no(&link, "connected").await?;
    t.removed("refusal", &link.place, &link.token).await
}

async fn hs_18_last_duplicate_wins(t: &Target) -> Outcome {
    succeeds(t, "/contract", r#"{"protocol":"json","version":9,"version":1}"#, "{}").await?;
    succeeds(t, "/contract", r#"{"protocol":"blah","protocol":"json","version":1}"#, "{}").await?;
    let text = "The server does not support version 9 of the 'json' protocol.";
    fails(t, "/contract", r#"{"protocol":"json","version":1,"version":9}"#, text).await
}

async fn hs_27_version_not_a_plain_integer(t: &Target) -> Outcome {
    for number in ["1.0", "1e0", "1.5", "2147483648"] {
        fails(t, "/contract", &version("json", number), UNEXPECTED).await?;
    }
    Ok(())
}

async fn hs_28_names_are_case_sensitive(t: &Target) -> Outcome {
    fails(t, "/contract", r#"{"Protocol":"json","version":1}"#, UNEXPECTED).await?;
    fails(t, "/contract", r#"{"protocol":"json","Version":1}"#, UNEXPECTED).await
}

async fn hs_29_escapes(t: &Target) -> Outcome {
    succeeds(t, "/contract", r#"{"\u0070rotocol":"json","version":1}"#, "{}").await?;
    succeeds(t, "/contract", r#"{"protocol":"js\u006fn","version":1}"#, "{}").await
}

async fn hs_30_protocol_before_version(t: &Target) -> Outcome {
    fails(t, "/contract", &version("blah", "9"), &unsupported("blah")).await
}

async fn hs_31_messages_behind_a_refused_handshake(t: &Target) -> Outcome {
    let mut observer = Observer::open(t).await?;
    let mut link = open(t, "/contract").await?;
    link.say(&(hub::handshake("blah", 1) + &hub::invocation("1", "Void", &json!([])))).await?;
    link.hears("refusal", &[&error(&unsupported("blah")), "CLOSE 1000", "END"]).await?;
    observer.sees_no(&link, "connected").await
}

async fn hs_32_time_runs_from_the_attach(t: &Target) -> Outcome {
    let place = Place::from(SHORT_HANDSHAKE.path);
    let negotiated = t.negotiate(&place).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let mut link = Link::attach(t, Transport::WebSockets, &place, &negotiated).await?;
    let began = Instant::now();
    loop {
        match link.next(Duration::from_millis(400)).await {
            Ok(heard) => {
                same("time-out", CANCELED, heard.as_str())?;
                break;
            }
            Err(failure) if matches!(failure.problem, crate::failure::Problem::Wire(Error::Late(_))) => {
                link.say(" ").await.step("bytes without separator")?;
            }
            Err(failure) => return Err(failure),
        }
    }
    let took = began.elapsed().as_secs_f32();
    holds("seconds from the attach", (0.6..4.0 * t.patience as f32).contains(&took), took)?;
    link.ends("time-out").await
}

async fn hs_33_slow_on_connected(t: &Target) -> Outcome {
    let mut link = open(t, "/contract-onconnected-slow").await?;
    link.say(&(hub::handshake("json", 1) + &hub::invocation("1", "Echo", &json!(["x"])))).await?;
    link.hears("at once", &["{}", r#"{"type":1,"target":"Message","arguments":["connecting"]}"#]).await?;
    let began = Instant::now();
    link.hears("after OnConnectedAsync", &[&hub::completion("1", &json!("x"))]).await?;
    // OnConnectedAsync takes 1.5 s after it has sent its message.
    holds("after OnConnectedAsync", began.elapsed() > Duration::from_millis(900), began.elapsed())
}

async fn hs_34_second_handshake(t: &Target) -> Outcome {
    let mut link = Link::socket(t, "/contract").await?;
    link.say(&hub::handshake("json", 1)).await?;
    link.hears("second", &[CLOSED_WITH_ERROR]).await?;
    link.ends("second").await
}

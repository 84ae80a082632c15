//! Transcoding: what ASP.NET Core writes in one protocol against what it writes in the other, and rule I7.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use hubgate_protocol::message::{Close, Completion, Invocation, Outcome, StreamInvocation, StreamItem};
use hubgate_protocol::transcode::{Answer, Cause, Error, Hints, PropertyNames, Rules, Step, Transcoder, value};
use hubgate_protocol::{HubMessage, HubProtocol, Incoming};
use proptest::prelude::*;
use serde_json::json;

use crate::strategy;

const BYTES_MAX: usize = 1 << 20;
const PROTOCOLS: [HubProtocol; 2] = [HubProtocol::Json, HubProtocol::MessagePack];

fn other(protocol: HubProtocol) -> HubProtocol {
    if protocol == HubProtocol::Json { HubProtocol::MessagePack } else { HubProtocol::Json }
}

/// The hint that each recorded value needs, and whether member names are cased.
fn hint(name: &str) -> Option<&'static str> {
    Some(match name {
        "bytes" | "bytes.empty" | "bytes.urlchars" | "memory" => "bytes",
        "decimal" | "decimal.max" => "decimal",
        "double.two" | "double.1e15" | "double.1e16" => "float",
        "char" | "char.umlaut" => "char",
        "timespan" | "timespan.negative" => "timespan",
        "dateonly" => "day",
        "timeonly" => "time",
        "enum" | "enum.undefined" => "enum(Red, Green, DarkBlue)",
        "enum.flags" => "flags(None, Read, Write, Run = 4)",
        "enum.byte" => "enum(A = 200)",
        "dict.int" => "integer-keys",
        "tuple" => "tuple",
        "keyvalue" => "pair",
        "keyed" => "tuple(one, , two)",
        "dict.string" | "dict.enum" => "dictionary",
        name if name.starts_with("date.") => "date",
        name if name.starts_with("offset") => "date-offset",
        _ => return None,
    })
}

/// Hints inside of values.
fn inner_hints(name: &str) -> &'static [(&'static str, &'static str)] {
    match name {
        "custom" => &[("result.dateTimeProp", "date"), ("result.ByteArrProp", "bytes")],
        "record" => &[("result.favourite", "enum(Red, Green, DarkBlue)")],
        "enumlist" => &[("result.*", "enum(Red, Green, DarkBlue)")],
        "dict.object" => &[("result", "dictionary"), ("result.D", "float")],
        _ => &[],
    }
}

/// Values whose two forms say different things, or say them in another order.
const APART: &[&str] =
    &["bigint", "tuple.value", "derived", "holder", "fields", "attributed", "namedkeys", "jsonelement", "jsonnode"];

/// In JSON nothing tells a 32-bit float, or an integer of fixed width.
const TO_MESSAGEPACK_APART: &[&str] = &["float", "float.tenth", "half", "dict.object", "objectarray"];

/// In MessagePack nothing tells the zone of a date, or that there is none.
const TO_JSON_APART: &[&str] = &["date.unspecified", "date.local", "date.min", "date.max"];

fn rules(target: &str, hints: &[(&str, &str)], cased: bool) -> Arc<Rules> {
    let mut rules = Rules::default();
    for (path, hint) in hints {
        rules.hints.add(target, path, hint).unwrap();
    }
    if cased {
        let declared = ["ID", "URLValue", "lower", "_under", "IOStream", "lastName"];
        rules.property_names = PropertyNames::CamelToPascal(declared.into_iter().collect());
    }
    Arc::new(rules)
}

/// The result that a client of the other protocol gets when the hub answers a call to `T` with `result`.
fn result_through(from: HubProtocol, result: &Bytes, rules: &Arc<Rules>) -> Result<Bytes, Error> {
    let client = other(from);
    let mut transcoder = Transcoder::new(client, Arc::clone(rules), BYTES_MAX, BYTES_MAX);
    let call = HubMessage::Invocation(Invocation {
        invocation_id: Some("x".to_owned()),
        target: "t".to_owned(),
        arguments: client.join_arguments::<&[u8]>(&[]),
        ..Invocation::default()
    });
    assert!(matches!(transcoder.client_message(&body(client, &client.to_bytes(&call))), Step::Pass(_)));
    let answer = from.to_bytes(&HubMessage::Completion(Completion::result("x", result.clone())));
    match transcoder.hub_message(&body(from, &answer)) {
        Step::Pass(framed) => match client.read(&body(client, &framed)).unwrap() {
            Incoming::Message(HubMessage::Completion(Completion { outcome: Outcome::Result(result), .. })) => {
                Ok(result)
            }
            other => panic!("{other:?}"),
        },
        Step::Refused { error, answer: Answer::Client(_) } => Err(error),
        other => panic!("{other:?}"),
    }
}

fn body(protocol: HubProtocol, framed: &Bytes) -> Bytes {
    let mut buffer = BytesMut::from(&framed[..]);
    let whole = protocol.splitter(usize::MAX).next(&mut buffer).unwrap().expect("a whole message");
    assert!(buffer.is_empty(), "one message");
    whole.body()
}

/// Equal but for the text of numbers.
fn alike(one: &serde_json::Value, two: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (one, two) {
        (Number(one), Number(two)) => one == two || one.as_f64() == two.as_f64(),
        (Array(one), Array(two)) => one.len() == two.len() && one.iter().zip(two).all(|(one, two)| alike(one, two)),
        (Object(one), Object(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.0 == two.0 && alike(one.1, two.1))
        }
        _ => one == two,
    }
}

#[test]
fn values_of_the_reference_become_what_its_other_protocol_writes() {
    let mut compared = 0;
    for line in include_str!("../vectors/values.txt").lines() {
        let mut parts = line.split('\t');
        let mut next = || parts.next().unwrap();
        let (name, text, encoded) = (next(), next(), Bytes::from(crate::hex(next())));
        if APART.contains(&name) {
            continue;
        }
        let mut hints: Vec<_> = hint(name).map(|hint| ("result", hint)).into_iter().collect();
        hints.extend(inner_hints(name));
        let rules = rules("T", &hints, true);
        if !TO_MESSAGEPACK_APART.contains(&name) {
            let got = result_through(HubProtocol::Json, &Bytes::from(text), &rules);
            assert_eq!(got.map(|got| got.escape_ascii().to_string()), Ok(encoded.escape_ascii().to_string()), "{name}");
            compared += 1;
        }
        if !TO_JSON_APART.contains(&name) {
            let got = result_through(HubProtocol::MessagePack, &encoded, &rules).unwrap();
            let values = [&got[..], text.as_bytes()].map(|text| serde_json::from_slice(text).unwrap());
            assert!(alike(&values[0], &values[1]), "{name}: {} for {text}", got.escape_ascii());
            compared += 1;
        }
    }
    assert!(compared > 180, "only {compared}");
}

#[test]
fn without_hints_and_casing_bytes_alone_decide() {
    let plain = Rules::default();
    for (text, encoded) in [
        ("null", "c0"),
        ("[true,false]", "92c3c2"),
        ("18446744073709551615", "cfffffffffffffffff"),
        ("-9223372036854775808", "d38000000000000000"),
        ("100000000000000000000", "cb4415af1d78b58c40"),
        ("2.0", "cb4000000000000000"),
        ("-0.0", "cb8000000000000000"),
        ("0.1", "cb3fb999999999999a"),
        ("\"\\u001E\\\"\"", "a21e22"),
        ("{\"a\":1,\"a\":[2]}", "82a16101a1619102"),
        ("{\"\":{}}", "81a080"),
    ] {
        let (text, encoded) = (Bytes::from(text), Bytes::from(crate::hex(encoded)));
        assert_eq!(value(HubProtocol::Json, &text, &plain, BYTES_MAX), Ok(encoded.clone()), "{text:?}");
        let back = value(HubProtocol::MessagePack, &encoded, &plain, BYTES_MAX).unwrap();
        let values = [&back[..], &text].map(|text| serde_json::from_slice::<serde_json::Value>(text).unwrap());
        assert!(alike(&values[0], &values[1]), "{back:?} for {text:?}");
    }
    for (encoded, text) in [
        ("c403010203", "\"AQID\""),
        ("d6ff58ec2b0b", "\"2017-04-11T01:02:03Z\""),
        ("ca3dcccccd", "0.1"),
        ("82050101a16202", "!"),
        ("8205a161ff02", "{\"5\":\"a\",\"-1\":2}"),
        ("a2ff41", "\"\u{FFFD}A\""),
    ] {
        let got = value(HubProtocol::MessagePack, &Bytes::from(crate::hex(encoded)), &plain, BYTES_MAX);
        match text {
            "!" => assert_eq!(got, Err(Error::Malformed), "{encoded}"),
            _ => assert_eq!(got, Ok(Bytes::from(text)), "{encoded}"),
        }
    }
}

#[test]
fn er_i6_what_has_no_form_is_refused_with_its_reason() {
    let plain = Rules::default();
    let nested = |count: usize| Bytes::from(format!("{}{}", "[".repeat(count), "]".repeat(count)));
    for (text, error) in [
        (Bytes::from("1e400"), Error::NumberRange),
        (Bytes::from("123456789012345678901234567890"), Error::NumberRange),
        (Bytes::from("\"\\ud800\""), Error::LoneSurrogate),
        (Bytes::from_static(b"\"\xFF\""), Error::InvalidUtf8),
        (Bytes::from("[1,]"), Error::Malformed),
        (Bytes::from("[1] 2"), Error::Malformed),
        (nested(64), Error::TooDeep),
    ] {
        assert_eq!(value(HubProtocol::Json, &text, &plain, BYTES_MAX), Err(error), "{text:?}");
    }
    assert!(value(HubProtocol::Json, &nested(63), &plain, BYTES_MAX).is_ok());
    for (encoded, error) in [
        ("cb7ff8000000000000", Error::NotFinite),
        ("caff800000", Error::NotFinite),
        ("d40101", Error::Extension { extension_type: 1 }),
        ("d4ff01", Error::DateRange),
        ("c70cff000000007fffffffffffffff", Error::DateRange),
        ("81c001", Error::Key),
        ("81c40101c0", Error::Key),
        ("dfffffffff", Error::Malformed),
        ("dbffffffff41", Error::Malformed),
        ("c1", Error::Malformed),
        ("0102", Error::Malformed),
    ] {
        let encoded = Bytes::from(crate::hex(encoded));
        assert_eq!(value(HubProtocol::MessagePack, &encoded, &plain, BYTES_MAX), Err(error), "{encoded:?}");
    }
    let mut deep = vec![0x91; 63];
    deep.push(0xC0);
    assert!(value(HubProtocol::MessagePack, &Bytes::from(deep.clone()), &plain, BYTES_MAX).is_ok());
    for containers in [64, 100_000] {
        deep.insert(0, 0x91);
        deep.resize(containers + 1, 0x91);
        let got = value(HubProtocol::MessagePack, &Bytes::from(deep.clone()), &plain, BYTES_MAX);
        assert_eq!(got, Err(Error::TooDeep), "{containers}");
    }
}

fn call(id: Option<&str>, target: &str, arguments: Bytes, stream_ids: &[&str]) -> HubMessage {
    HubMessage::Invocation(Invocation {
        invocation_id: id.map(str::to_owned),
        target: target.to_owned(),
        arguments,
        stream_ids: stream_ids.iter().copied().map(str::to_owned).collect(),
        ..Invocation::default()
    })
}

fn item(id: &str, item: &'static [u8]) -> HubMessage {
    HubMessage::StreamItem(StreamItem {
        invocation_id: id.to_owned(),
        item: Bytes::from_static(item),
        ..StreamItem::default()
    })
}

fn completion(id: &str, result: &'static [u8]) -> HubMessage {
    HubMessage::Completion(Completion::result(id, Bytes::from_static(result)))
}

fn transcoder(client: HubProtocol) -> Transcoder {
    Transcoder::new(client, Arc::default(), BYTES_MAX, BYTES_MAX)
}

/// NaN, which JSON has not; half a surrogate pair, which MessagePack has not.
const NAN: &[u8] = b"\xCB\x7F\xF8\0\0\0\0\0\0";
const HALF: &[u8] = b"\"\\ud800\"";

fn refused(step: Step) -> (Error, Answer) {
    match step {
        Step::Refused { error, answer } => (error, answer),
        other => panic!("{other:?}"),
    }
}

fn read(protocol: HubProtocol, framed: &Bytes) -> HubMessage {
    match protocol.read(&body(protocol, framed)) {
        Ok(Incoming::Message(message)) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn er_i6_calls_of_the_client_are_answered_and_the_hub_is_untouched() {
    for (client, bad) in [(HubProtocol::MessagePack, NAN), (HubProtocol::Json, HALF)] {
        let arguments = client.join_arguments(&[bad]);
        let mut transcoder = transcoder(client);
        let with_id = client.to_bytes(&call(Some("7"), "Go", arguments.clone(), &[]));
        let (error, answer) = refused(transcoder.client_message(&body(client, &with_id)));
        let Answer::Client(answer) = answer else { panic!("{answer:?}") };
        let text = format!("The gateway cannot transcode the call to {}: {error}.", other(client).name());
        assert_eq!(read(client, &answer), HubMessage::Completion(Completion::error("7", text)));
        assert_eq!(error.cause(), Cause::Value);

        let without = client.to_bytes(&call(None, "Go", arguments.clone(), &[]));
        assert_eq!(refused(transcoder.client_message(&body(client, &without))).1, Answer::None);

        let streaming = client.to_bytes(&HubMessage::StreamInvocation(StreamInvocation {
            invocation_id: "8".to_owned(),
            target: "Go".to_owned(),
            arguments,
            ..StreamInvocation::default()
        }));
        assert!(matches!(refused(transcoder.client_message(&body(client, &streaming))).1, Answer::Client(_)));
    }
}

#[test]
fn er_i6_items_and_results_of_the_client_fail_at_the_hub() {
    for (client, bad) in [(HubProtocol::MessagePack, NAN), (HubProtocol::Json, HALF)] {
        let hub = other(client);
        for message in [item("s", bad), completion("s", bad)] {
            let (_, answer) = refused(transcoder(client).client_message(&body(client, &client.to_bytes(&message))));
            let Answer::Hub(answer) = answer else { panic!("{answer:?}") };
            let HubMessage::Completion(answer) = read(hub, &answer) else { panic!("no completion") };
            assert_eq!(answer.invocation_id, "s");
            assert!(matches!(answer.outcome, Outcome::Error(text) if text.contains("cannot transcode")));
        }
    }
}

#[test]
fn er_i6_results_of_the_hub_become_errors_and_its_calls_end_the_connection() {
    for (client, bad) in [(HubProtocol::MessagePack, HALF), (HubProtocol::Json, NAN)] {
        let hub = other(client);
        let mut transcoder = transcoder(client);
        let (_, answer) = refused(transcoder.hub_message(&body(hub, &hub.to_bytes(&completion("1", bad)))));
        let Answer::Client(answer) = answer else { panic!("{answer:?}") };
        assert!(matches!(read(client, &answer), HubMessage::Completion(Completion { outcome: Outcome::Error(_), .. })));
        for message in [call(None, "Got", hub.join_arguments(&[bad]), &[]), item("1", bad)] {
            let (_, answer) = refused(transcoder.hub_message(&body(hub, &hub.to_bytes(&message))));
            let Answer::End(close) = answer else { panic!("{answer:?}") };
            let HubMessage::Close(Close { error: Some(error), .. }) = read(client, &close) else { panic!("no close") };
            assert!(error.starts_with("Connection closed with an error. The gateway cannot transcode"), "{error}");
        }
    }
}

#[test]
fn broken_envelopes_end_the_connection_and_unknown_types_are_ignored() {
    for (client, broken, unknown) in [
        (HubProtocol::Json, &b"{\"type\":1}"[..], &b"{\"type\":77}"[..]),
        (HubProtocol::Json, b"{\"type\":4,\"target\":\"a\",\"arguments\":[]}", b"{\"type\":10}"),
        (HubProtocol::MessagePack, b"\x91\x01", b"\x91\x4D"),
    ] {
        let mut transcoder = transcoder(client);
        let (error, answer) = refused(transcoder.client_message(&Bytes::from_static(broken)));
        assert_eq!(error.cause(), Cause::Protocol);
        let Answer::End(close) = answer else { panic!("{answer:?}") };
        assert_eq!(read(client, &close), HubMessage::Close(Close::with_error(None)));
        assert_eq!(transcoder.client_message(&Bytes::from_static(unknown)), Step::Ignore);
    }
}

#[test]
fn what_only_one_protocol_allows_is_refused_or_left_out() {
    let json = |text: &'static str| transcoder(HubProtocol::Json).client_message(&Bytes::from(text));
    let empty_target = json("{\"type\":1,\"invocationId\":\"1\",\"target\":\"\",\"arguments\":[]}");
    assert_eq!(refused(empty_target).0, Error::EmptyTarget);
    let empty_stream = json("{\"type\":1,\"target\":\"a\",\"arguments\":[],\"streamIds\":[\"\"]}");
    assert_eq!(refused(empty_stream).0, Error::EmptyStreamId);
    let headers = "{\"type\":5,\"invocationId\":\"1\",\"headers\":{\"\":\"a\",\"b\":\"\",\"c\":\"d\"}}";
    assert_eq!(json(headers), Step::Pass(Bytes::from(crate::hex("09930581a163a164a131"))));
    let no_array = Bytes::from(crate::hex("950180a131a16107"));
    assert_eq!(refused(transcoder(HubProtocol::MessagePack).client_message(&no_array)).0, Error::Arguments);
}

/// signalr-wire §8.2 and §8.3: an empty error is a failure to a hub, so its form must not be lost on the way there.
#[test]
fn empty_errors_reach_the_hub_as_errors() {
    let empty = HubMessage::Completion(Completion::error("x", ""));
    let messagepack = body(HubProtocol::MessagePack, &HubProtocol::MessagePack.to_bytes(&empty));
    let to_hub = transcoder(HubProtocol::MessagePack).client_message(&messagepack);
    assert_eq!(to_hub, Step::Pass(Bytes::from("{\"type\":3,\"invocationId\":\"x\",\"error\":\"\"}\u{1E}")));
    let to_client = transcoder(HubProtocol::Json).hub_message(&messagepack);
    assert_eq!(to_client, Step::Pass(Bytes::from("{\"type\":3,\"invocationId\":\"x\"}\u{1E}")));
    let json = Bytes::from("{\"type\":3,\"invocationId\":\"x\",\"error\":\"\"}");
    let to_hub = transcoder(HubProtocol::Json).client_message(&json);
    assert_eq!(to_hub, Step::Pass(HubProtocol::MessagePack.to_bytes(&empty)));
}

#[test]
fn er_i7_limits_hold_for_the_output() {
    let control = "\u{1}".repeat(100);
    let cancel = HubMessage::Close(Close { error: Some(control), allow_reconnect: false });
    let framed = HubProtocol::MessagePack.to_bytes(&cancel);
    let mut narrow = Transcoder::new(HubProtocol::Json, Arc::default(), BYTES_MAX, 200);
    let got = narrow.hub_message(&body(HubProtocol::MessagePack, &framed));
    assert_eq!(refused(got).0, Error::TooLarge { bytes_max: 200 });
    let zeros = Bytes::from(crate::hex(&format!("c464{}", "00".repeat(100))));
    let plain = Rules::default();
    assert_eq!(value(HubProtocol::MessagePack, &zeros, &plain, 130), Err(Error::TooLarge { bytes_max: 130 }));
    assert_eq!(value(HubProtocol::MessagePack, &zeros, &plain, 138).map(|text| text.len()), Ok(138));
}

#[test]
fn hints_follow_calls_streams_and_results_both_ways() {
    let hints = [
        ("arguments.0", "bytes"),
        ("arguments.1.*.when", "date"),
        ("streams.1", "timespan"),
        ("item", "char"),
        ("result", "bytes"),
    ];
    let mut transcoder = Transcoder::new(HubProtocol::Json, rules("Work", &hints, false), BYTES_MAX, BYTES_MAX);
    let mut client = |message: &str| match transcoder.client_message(&Bytes::from(message.to_owned())) {
        Step::Pass(framed) => body(HubProtocol::MessagePack, &framed).escape_ascii().to_string(),
        other => panic!("{other:?}"),
    };
    let call = "{\"type\":1,\"invocationId\":\"1\",\"target\":\"WORK\",\"arguments\":[\"AQID\",[{\"when\":\
                \"1970-01-01T01:00:00+01:00\"}],\"AQID\"],\"streamIds\":[\"2\",\"3\"]}";
    let arguments = "\\x93\\xc4\\x03\\x01\\x02\\x03\\x91\\x81\\xa4when\\xd6\\xff\\x00\\x00\\x00\\x00\\xa4AQID";
    assert_eq!(client(call), format!("\\x96\\x01\\x80\\xa11\\xa4WORK{arguments}\\x92\\xa12\\xa13"));
    assert_eq!(
        client("{\"type\":2,\"invocationId\":\"2\",\"item\":\"00:00:01\"}"),
        "\\x94\\x02\\x80\\xa12\\xa800:00:01"
    );
    let ticks = "\\x94\\x02\\x80\\xa13\\xce\\x00\\x98\\x96\\x80";
    assert_eq!(client("{\"type\":2,\"invocationId\":\"3\",\"item\":\"00:00:01\"}"), ticks);
    let mut hub = |message: &HubMessage| match transcoder
        .hub_message(&body(HubProtocol::MessagePack, &HubProtocol::MessagePack.to_bytes(message)))
    {
        Step::Pass(framed) => body(HubProtocol::Json, &framed).escape_ascii().to_string().replace("\\\"", "'"),
        other => panic!("{other:?}"),
    };
    assert_eq!(hub(&item("1", b"c")), "{'type':2,'invocationId':'1','item':'c'}");
    assert_eq!(hub(&item("9", b"c")), "{'type':2,'invocationId':'9','item':99}");
    assert_eq!(hub(&completion("1", b"\xC4\x01\x00")), "{'type':3,'invocationId':'1','result':'AA=='}");
    let of_the_hub = call_of_the_hub();
    assert_eq!(hub(&of_the_hub), "{'type':1,'invocationId':'s1','target':'Work','arguments':['AA==']}");
    let result = transcoder.client_message(&Bytes::from("{\"type\":3,\"invocationId\":\"s1\",\"result\":\"AQID\"}"));
    assert_eq!(result, Step::Pass(Bytes::from(crate::hex("0c950380a2733103c403010203"))));
    let wrong = "{\"type\":1,\"invocationId\":\"4\",\"target\":\"Work\",\"arguments\":[\"no base64\"]}";
    let (error, _) = refused(transcoder.client_message(&Bytes::from(wrong)));
    assert_eq!((error.cause(), error), (Cause::Hint, Error::Hint { hint: "bytes" }));
}

fn call_of_the_hub() -> HubMessage {
    call(Some("s1"), "Work", HubProtocol::MessagePack.join_arguments(&[b"\xC4\x01\x00"]), &[])
}

#[test]
fn hints_that_cannot_be_are_refused() {
    let mut hints = Hints::default();
    for path in ["", "arguments", "arguments.x", "argument.0", "result..a", "streams"] {
        assert!(hints.add("T", path, "bytes").is_err(), "{path}");
    }
    for hint in ["", "byte", "enum", "enum()", "enum(A=x)", "tuple(", "bytes(1)"] {
        assert!(hints.add("T", "result", hint).is_err(), "{hint}");
    }
    hints.add("T", "result.a", "bytes").unwrap();
    assert!(hints.add("t", "result.a", "date").is_err(), "twice");
}

/// Whatever is kept for hints is bounded.
#[test]
fn er_i7_calls_that_nobody_answers_are_bounded() {
    let mut transcoder = Transcoder::new(HubProtocol::Json, rules("T", &[("result", "bytes")], false), 1000, 1000);
    let id = "x".repeat(500);
    let refusal = (0..10_000).find_map(|number| {
        let text = format!("{{\"type\":1,\"invocationId\":\"{id}{number}\",\"target\":\"T\",\"arguments\":[]}}");
        match transcoder.client_message(&Bytes::from(text)) {
            Step::Refused { error, .. } => Some(error),
            _ => None,
        }
    });
    assert_eq!(refusal, Some(Error::TooManyCalls));
}

/// What an independent reader makes of a payload in either protocol.
fn parses(protocol: HubProtocol, raw: &[u8]) -> bool {
    match protocol {
        HubProtocol::Json => serde_json::from_slice::<serde::de::IgnoredAny>(raw).is_ok(),
        HubProtocol::MessagePack => {
            let mut rest = raw;
            rmpv::decode::read_value(&mut rest).is_ok() && rest.is_empty()
        }
    }
}

proptest! {
    /// Whatever is inside, one message goes in and one well-formed message comes out, by independent readers.
    #[test]
    fn er_i7_one_message_in_one_message_out(client in prop::sample::select(PROTOCOLS.to_vec()), (json, messagepack) in
        (strategy::message(HubProtocol::Json), strategy::message(HubProtocol::MessagePack)), to_hub in any::<bool>())
    {
        let from = if to_hub { client } else { other(client) };
        let message = if from == HubProtocol::Json { json } else { messagepack };
        let mut transcoder = transcoder(client);
        let input = body(from, &from.to_bytes(&message));
        let step = if to_hub { transcoder.client_message(&input) } else { transcoder.hub_message(&input) };
        match step {
            Step::Pass(framed) => {
                let to = other(from);
                let out = body(to, &framed);
                prop_assert!(parses(to, &out), "{}", out.escape_ascii());
                let read = read(to, &framed);
                prop_assert_eq!(read.message_type(), message.message_type());
                // Back again and there again gives the same bytes: nothing is lost on the second way.
                let mut back = Transcoder::new(if to_hub { to } else { from }, Arc::default(), BYTES_MAX, BYTES_MAX);
                let Step::Pass(again) = (if to_hub { back.client_message(&out) } else { back.hub_message(&out) }) else {
                    return Err(TestCaseError::fail("not taken back"));
                };
                let again = body(from, &again);
                let mut forth = Transcoder::new(if to_hub { from } else { to }, Arc::default(), BYTES_MAX, BYTES_MAX);
                let third = if to_hub { forth.client_message(&again) } else { forth.hub_message(&again) };
                prop_assert_eq!(third, Step::Pass(framed));
            }
            Step::Refused { error, .. } => prop_assert_ne!(error.cause(), Cause::Protocol),
            Step::Ignore => return Err(TestCaseError::fail("ignored")),
        }
    }

    #[test]
    fn er_i7_no_text_key_or_binary_ends_a_record(text in strategy::text(), data in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut encoded = vec![0x93];
        let value = |value: rmpv::Value, out: &mut Vec<u8>| rmpv::encode::write_value(out, &value).unwrap();
        value(rmpv::Value::from(text.as_str()), &mut encoded);
        value(rmpv::Value::Binary(data.clone()), &mut encoded);
        value(rmpv::Value::Map(vec![(rmpv::Value::from(text.as_str()), rmpv::Value::Nil)]), &mut encoded);
        let got = self::value(HubProtocol::MessagePack, &Bytes::from(encoded), &Rules::default(), BYTES_MAX).unwrap();
        prop_assert!(!got.contains(&0x1E));
        let parsed: serde_json::Value = serde_json::from_slice(&got).unwrap();
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD.encode(&data);
        prop_assert_eq!(parsed, json!([text.clone(), base64, { text: null }]));
    }

    /// Strings of raw bytes, which may be no UTF-8, still give JSON.
    #[test]
    fn er_i7_strings_that_are_no_text_still_give_json(data in prop::collection::vec(any::<u8>(), 0..31)) {
        let mut encoded = vec![0x82, 0xA0 | u8::try_from(data.len()).unwrap()];
        encoded.extend_from_slice(&data);
        encoded.extend_from_slice(&[0xC0, 0xA0, 0xA0 | u8::try_from(data.len()).unwrap()]);
        encoded.extend_from_slice(&data);
        let got = value(HubProtocol::MessagePack, &Bytes::from(encoded), &Rules::default(), BYTES_MAX).unwrap();
        let text = String::from_utf8_lossy(&data);
        let parsed: serde_json::Value = serde_json::from_slice(&got).unwrap();
        prop_assert_eq!(&parsed[""], &json!(text));
    }

    #[test]
    fn er_i7_numbers_keep_their_value(number in any::<f64>(), integer in any::<i64>(), unsigned in any::<u64>()) {
        let plain = Rules::default();
        let there_and_back = |encoded: rmpv::Value| {
            let mut bytes = Vec::new();
            rmpv::encode::write_value(&mut bytes, &encoded).unwrap();
            let text = value(HubProtocol::MessagePack, &Bytes::from(bytes.clone()), &plain, BYTES_MAX).unwrap();
            let back = value(HubProtocol::Json, &text, &plain, BYTES_MAX).unwrap();
            (back == bytes, text)
        };
        for encoded in [rmpv::Value::from(integer), rmpv::Value::from(unsigned), rmpv::Value::F64(number)] {
            if matches!(encoded, rmpv::Value::F64(number) if !number.is_finite()) {
                continue;
            }
            let (same, text) = there_and_back(encoded.clone());
            prop_assert!(same, "{encoded} as {text:?}");
        }
    }

    /// Hinted values of every kind come back as they went.
    #[test]
    fn hinted_values_come_back(
        seconds in -62_135_596_800i64..=253_402_300_799, nanoseconds in prop_oneof![Just(0u32), 0..1_000_000_000u32],
        ticks in any::<i64>(), day in 0i64..=3_652_058, offset in -840i64..=840, time in 0i64..864_000_000_000,
    ) {
        let mut extension = vec![0xC7, 12, 0xFF];
        extension.extend_from_slice(&nanoseconds.to_be_bytes());
        extension.extend_from_slice(&seconds.to_be_bytes());
        let written = |value: rmpv::Value| {
            let mut out = Vec::new();
            rmpv::encode::write_value(&mut out, &value).unwrap();
            out
        };
        let local = [&[0x92][..], &extension, &written(offset.into())].concat();
        for (hint, encoded) in [
            ("date", extension.clone()),
            ("date-offset", local),
            ("timespan", written(ticks.into())),
            ("day", written(day.into())),
            ("time", written(time.into())),
        ] {
            let rules = rules("T", &[("result", hint)], false);
            let text = result_through(HubProtocol::MessagePack, &Bytes::from(encoded.clone()), &rules).unwrap();
            prop_assert!(parses(HubProtocol::Json, &text));
            let back = result_through(HubProtocol::Json, &text, &rules).unwrap();
            let again = result_through(HubProtocol::MessagePack, &back, &rules).unwrap();
            prop_assert_eq!(again, text.clone(), "{} {:?}", hint, text);
            prop_assert!(back.len() <= encoded.len(), "the smallest form");
            if !hint.starts_with("date") {
                prop_assert_eq!(back, encoded);
            }
        }
    }

    /// Garbage neither panics nor passes as something malformed.
    #[test]
    fn er_i7_garbage_is_refused_or_becomes_a_message(bytes in crate::garbage::nearly(), client in prop::sample::select(PROTOCOLS.to_vec())) {
        let hints = [("arguments.*", "date"), ("arguments.*.a", "tuple(a, , b)"), ("result", "timespan"), ("item", "bytes")];
        let rules = rules("T", &hints, true);
        let bytes = Bytes::from(bytes);
        for to_hub in [true, false] {
            let mut transcoder = Transcoder::new(client, Arc::clone(&rules), 4096, 4096);
            let (step, to) = if to_hub {
                (transcoder.client_message(&bytes), other(client))
            } else {
                (transcoder.hub_message(&bytes), client)
            };
            if let Step::Pass(framed) = step {
                prop_assert!(framed.len() <= 4096);
                prop_assert!(parses(to, &body(to, &framed)), "{}", framed.escape_ascii());
            }
        }
        for from in PROTOCOLS {
            if let Ok(raw) = value(from, &bytes, &rules, 4096) {
                prop_assert!(parses(other(from), &raw), "{}", raw.escape_ascii());
            }
        }
    }
}

/// Heads are widened at sixteen elements and at 65,536, also around containers that were widened before.
#[test]
fn containers_of_any_length_have_the_right_head() {
    const LENS: [usize; 7] = [0, 1, 15, 16, 17, 65_535, 65_536];
    for outer in LENS {
        for inner in LENS.into_iter().filter(|inner| inner * outer < 1_000_000) {
            let filled = |len: usize, last: serde_json::Value| {
                let mut array = vec![json!(0); len.saturating_sub(1)];
                array.extend((len > 0).then_some(last));
                array
            };
            let object: serde_json::Map<_, _> =
                (0..).map(|at| format!("{at:05}")).zip(filled(inner, json!(null))).collect();
            let nested = json!([filled(outer, json!(object))]);
            let text = Bytes::from(nested.to_string());
            let got = value(HubProtocol::Json, &text, &Rules::default(), 1 << 24).unwrap();
            assert!(rmpv_of(&nested) == got, "{outer} around {inner}");
        }
    }
}

fn rmpv_of(value: &serde_json::Value) -> Vec<u8> {
    fn convert(value: &serde_json::Value) -> rmpv::Value {
        match value {
            serde_json::Value::Array(values) => rmpv::Value::Array(values.iter().map(convert).collect()),
            serde_json::Value::Object(members) => {
                let pairs = members.iter().map(|(name, value)| (rmpv::Value::from(name.as_str()), convert(value)));
                rmpv::Value::Map(pairs.collect())
            }
            serde_json::Value::Null => rmpv::Value::Nil,
            _ => rmpv::Value::from(0),
        }
    }
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, &convert(value)).unwrap();
    out
}

//! What a reader must accept (signalr-wire §8.3, §9.2) and the reference's error texts (§8.4, §9.5).

use bytes::Bytes;
use hubgate_protocol::message::Outcome;
use hubgate_protocol::{HubMessage, HubProtocol, Incoming};

fn json(text: &str) -> Result<Incoming, String> {
    HubProtocol::Json.read(&Bytes::copy_from_slice(text.as_bytes())).map_err(|error| error.detail())
}

fn messagepack(digits: &str) -> Result<Incoming, String> {
    HubProtocol::MessagePack.read(&Bytes::from(crate::hex(&digits.replace(' ', "")))).map_err(|error| error.detail())
}

fn call(incoming: Result<Incoming, String>) -> (Option<String>, String, String) {
    match incoming {
        Ok(Incoming::Message(HubMessage::Invocation(call))) => {
            (call.invocation_id, call.target, call.arguments.escape_ascii().to_string())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn json_order_space_duplicates_and_extras_do_not_matter() {
    for text in [
        r#"{"type":1,"invocationId":"0","target":"Add","arguments":[1,2]}"#,
        r#"{"arguments":[1,2],"invocationId":"0","target":"Add","type":1}"#,
        "\t{ \"type\" :\r\n1 , \"invocationId\":\"0\",\"target\":\"Add\" ,\"arguments\": [1,2] } ",
        r#"{"type":6,"target":"No","type":1,"invocationId":"1","target":"Add","arguments":[],"invocationId":"0","arguments":[1,2]}"#,
        r#"{"type":1,"x":{"a":[1,{"type":9}],"b":"}"},"invocationId":"0","target":"Add","arguments":[1,2]}garbage"#,
        r#"{"\u0074ype":1,"invocationId":"\u0030","t\u0061rget":"A\u0064d","arguments":[1,2],"Type":5,"headers":{}}"#,
    ] {
        assert_eq!(call(json(text)), (Some("0".to_owned()), "Add".to_owned(), "[1,2]".to_owned()), "{text}");
    }
}

#[test]
fn json_calls_without_an_answer_and_without_a_name() {
    assert_eq!(call(json(r#"{"type":1,"target":"T","arguments":[],"invocationId":""}"#)).0, None);
    assert_eq!(call(json(r#"{"type":1,"target":"","arguments":[]}"#)).1, "");
    let Ok(Incoming::Message(HubMessage::StreamInvocation(call))) = json(r#"{"type":4,"target":"T","arguments":[]}"#)
    else {
        panic!("left to the hub, which fails it only when the arguments bind")
    };
    assert_eq!(call.invocation_id, "");
}

#[test]
fn json_headers_are_unique_and_the_last_wins() {
    let Ok(Incoming::Message(HubMessage::CancelInvocation(cancel))) =
        json(r#"{"type":5,"invocationId":"1","headers":{"a":"1","b":"2","a":"3"}}"#)
    else {
        panic!("not read")
    };
    assert_eq!(cancel.headers, [("a".to_owned(), "3".to_owned()), ("b".to_owned(), "2".to_owned())]);
}

#[test]
fn json_payloads_may_be_odd() {
    let mut body = br#"{"type":1,"target":"T","arguments":["xx\ud800"]}"#.to_vec();
    body[37] = 0xFF;
    assert!(HubProtocol::Json.read(&Bytes::from(body)).is_ok(), "invalid UTF-8 in an argument is not fatal");
}

#[test]
fn unknown_types_are_told_not_refused() {
    for message_type in [0, 10, 42, -1, i32::MAX] {
        let text = format!("{{\"type\":{message_type},\"x\":[]}}");
        assert_eq!(json(&text), Ok(Incoming::Unknown { message_type }));
    }
    assert_eq!(messagepack("92 0a 01"), Ok(Incoming::Unknown { message_type: 10 }));
    assert_eq!(messagepack("91 00"), Ok(Incoming::Unknown { message_type: 0 }));
    assert_eq!(messagepack("91 d0 d0"), Ok(Incoming::Unknown { message_type: -48 }));
}

#[test]
fn json_that_is_no_message() {
    for text in [
        "",
        " ",
        "{",
        "}",
        "{\"type\":6",
        "{\"type\":6,}",
        "{type:6}",
        "{'type':6}",
        "{\"type\":06}",
        "{\"type\":+6}",
        "{\"type\":6 \"x\":1}",
        "{\"x\":\"\n\",\"type\":6}",
        "{\"x\":\"\\q\",\"type\":6}",
        "{\"x\":\"\\u12G4\",\"type\":6}",
        "/**/{\"type\":6}",
        "{\"type\":6//\n}",
        "\u{FEFF}{\"type\":6}",
        "{\"x\":tru,\"type\":6}",
        "{\"x\":1.,\"type\":6}",
        "{\"x\":-,\"type\":6}",
        "{\"x\":1e,\"type\":6}",
        "{\"x\":[1}],\"type\":6}",
        "{\"x\":{1:2},\"type\":6}",
        "word",
        "{\"x\":[,],\"type\":6}",
        "{\"x\":{\"a\"},\"type\":6}",
        "{\"x\":truex,\"type\":6}",
        "[1",
        "\"abc",
    ] {
        assert_eq!(json(text), Err("InvalidDataException: Error reading JSON.".to_owned()), "{text:?}");
    }
}

#[test]
fn json_error_texts() {
    let data = "InvalidDataException: ";
    let format = "FormatException: Either the JSON value is not in a supported format, or is out of bounds for an ";
    let operation = "InvalidOperationException: ";
    for (text, exception, detail) in [
        ("null", data, "Unexpected JSON Token Type 'Null'. Expected a JSON Object."),
        ("\"x\"", data, "Unexpected JSON Token Type 'String'. Expected a JSON Object."),
        ("[]", data, "Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
        ("42", data, "Unexpected JSON Token Type 'Number'. Expected a JSON Object."),
        ("true", data, "Unexpected JSON Token Type 'True'. Expected a JSON Object."),
        ("{}", data, "Missing required property 'type'."),
        (r#"{"protocol":"json","version":1}"#, data, "Missing required property 'type'."),
        (r#"{"type":"6"}"#, data, "Expected 'type' to be of type Number."),
        (r#"{"type":null}"#, data, "Expected 'type' to be of type Number."),
        (r#"{"type":6.0}"#, format, "Int32."),
        (r#"{"type":6e0}"#, format, "Int32."),
        (r#"{"type":2147483648}"#, format, "Int32."),
        (r#"{"type":6,"invocationId":1}"#, data, "Expected 'invocationId' to be of type String."),
        (r#"{"type":1,"invocationId":null}"#, data, "Expected 'invocationId' to be of type String."),
        (r#"{"type":6,"target":5}"#, data, "Expected 'target' to be of type String."),
        (r#"{"type":1,"arguments":[]}"#, data, "Missing required property 'target'."),
        (r#"{"type":1,"target":""}"#, data, "Missing required property 'target'."),
        (r#"{"type":4,"target":"T"}"#, data, "Missing required property 'arguments'."),
        (r#"{"type":1,"target":"T","arguments":{}}"#, data, "Expected 'arguments' to be of type Array."),
        (r#"{"type":2,"item":1}"#, data, "Missing required property 'invocationId'."),
        (r#"{"type":2,"invocationId":"","item":1}"#, "KeyNotFoundException: ", "No stream with id '' could be found."),
        (r#"{"type":2,"invocationId":"1"}"#, data, "Missing required property 'item'."),
        (r#"{"type":3}"#, data, "Missing required property 'invocationId'."),
        (r#"{"type":3,"invocationId":""}"#, data, "Missing required property 'invocationId'."),
        (
            r#"{"type":3,"invocationId":"1","error":"","result":null}"#,
            data,
            "The 'error' and 'result' properties are mutually exclusive.",
        ),
        (r#"{"type":5}"#, data, "Missing required property 'invocationId'."),
        (r#"{"type":7,"error":null}"#, data, "Expected 'error' to be of type String."),
        (r#"{"type":7,"allowReconnect":1}"#, data, "Expected 'allowReconnect' to be true or false."),
        (r#"{"type":6,"headers":[]}"#, data, "Expected 'headers' to be of type StartObject."),
        (r#"{"type":6,"headers":{"Foo":12}}"#, data, "Expected header 'Foo' to be of type String."),
        (r#"{"type":6,"streamIds":"1"}"#, data, "Expected 'streamIds' to be of type Array."),
        (r#"{"type":6,"streamIds":["1",null]}"#, data, "Null value for 'streamIds' is not valid."),
        (r#"{"type":6,"streamIds":[1]}"#, operation, "Cannot get the value of a token type 'Number' as a string."),
        (r#"{"type":6,"streamIds":[[]]}"#, operation, "Cannot get the value of a token type 'StartArray' as a string."),
        (r#"{"type":8}"#, data, "Missing required property 'sequenceId'."),
        (r#"{"type":9,"sequenceId":null}"#, data, "Missing required property 'sequenceId'."),
        (r#"{"type":9,"sequenceId":"1"}"#, data, "Expected 'sequenceId' to be of type Number."),
        (r#"{"type":9,"sequenceId":1.5}"#, format, "Int64."),
        (
            r#"{"type":5,"invocationId":"\ud800"}"#,
            operation,
            "Cannot read incomplete UTF-16 JSON text as string with missing low surrogate.",
        ),
        (
            r#"{"type":5,"invocationId":"\ud800\ud800"}"#,
            operation,
            "Cannot read incomplete UTF-16 JSON text as string with missing low surrogate.",
        ),
    ] {
        assert_eq!(json(text), Err(format!("{exception}{detail}")), "{text}");
    }
    let mut body = br#"{"type":5,"invocationId":"xx"}"#.to_vec();
    body[27] = 0xC3;
    let error = HubProtocol::Json.read(&Bytes::from(body)).unwrap_err();
    assert_eq!(error.detail(), format!("{operation}Cannot transcode invalid UTF-8 JSON text to UTF-16 string."));
}

#[test]
fn numbers_below_one_are_read_in_acks() {
    assert!(json(r#"{"type":8,"sequenceId":-5}"#).is_ok());
    assert!(json(r#"{"type":8,"sequenceId":-0}"#).is_ok());
    assert!(messagepack("92 08 ff").is_ok());
}

#[test]
fn messagepack_error_texts() {
    let data = "InvalidDataException: ";
    let code = "MessagePackSerializationException: Unexpected msgpack code ";
    let end = "EndOfStreamException: Attempted to read past the end of the stream.";
    for (digits, exception, detail) in [
        ("", "", end),
        ("06", code, "6 (positive fixint) encountered."),
        ("c0", code, "192 (nil) encountered."),
        ("80", code, "128 (fixmap) encountered."),
        ("a1 78", code, "161 (fixstr) encountered."),
        ("90", data, "Reading 'messageType' as Int32 failed."),
        ("91 a1 78", data, "Reading 'messageType' as Int32 failed."),
        ("91 cf ff ff ff ff ff ff ff ff", data, "Reading 'messageType' as Int32 failed."),
        ("93 05 c0 a1 78", data, "Reading map length for 'headers' failed."),
        ("93 05 81 01 a1 78", data, "Reading 'headers[0].Key' as String failed."),
        ("93 05 82 a1 61 a1 62 a1 63 01", data, "Reading 'headers[1].Value' as String failed."),
        ("93 05 81 a0 a1 78", data, "Null or empty key in header."),
        ("93 05 81 a1 78 c0", data, "Null or empty value in header."),
        (
            "93 05 82 a1 61 a1 62 a1 61 a1 62",
            "ArgumentException: ",
            "An item with the same key has already been added. Key: a",
        ),
        ("93 05 80 01", data, "Reading 'invocationId' as String failed."),
        ("93 05 80 c0", data, "Null or empty invocation ID for CancelInvocation message."),
        ("94 02 80 a0 01", data, "Null or empty invocation ID for StreamItem message."),
        ("94 03 80 a0 02", data, "Null or empty invocation ID for Completion message."),
        ("95 04 80 c0 a1 54 90", data, "Null or empty invocation ID for StreamInvocation message."),
        ("93 01 80 c0", data, "Reading 'target' as String failed."),
        ("95 01 80 c0 c0 90", data, "Null or empty target for Invocation message."),
        ("95 04 80 a1 31 a0 90", data, "Null or empty target for StreamInvocation message."),
        ("96 01 80 c0 a1 54 90 c0", data, "Reading array length for 'streamIds' failed."),
        ("96 01 80 c0 a1 54 90 91 a0", data, "Null or empty value in streamIds received."),
        ("96 01 80 c0 a1 54 90 91 06", code, "6 (positive fixint) encountered."),
        ("94 03 80 a1 31 c0", data, "Reading 'resultKind' as Int32 failed."),
        ("94 03 80 a1 31 2a", data, "Invalid invocation result kind."),
        ("95 03 80 a1 31 01 05", data, "Reading 'error' as String failed."),
        ("94 03 80 a1 31 03", "", end),
        ("91 07", data, "Reading 'error' as String failed."),
        ("93 07 c0 01", data, "Reading 'allowReconnect' as Boolean failed."),
        ("91 08", data, "Reading 'sequenceId' as Int64 failed."),
        ("92 09 cf ff ff ff ff ff ff ff ff", data, "Reading 'sequenceId' as Int64 failed."),
    ] {
        assert_eq!(messagepack(digits), Err(format!("{exception}{detail}")), "{digits}");
    }
}

#[test]
fn messagepack_that_fails_only_at_binding_is_handed_on() {
    // Four items: no arguments. Arguments that are no array; that are cut off.
    for (digits, arguments) in [
        ("94 01 80 a1 31 a1 54", ""),
        ("95 01 80 a1 31 a1 54 05", "05"),
        ("96 01 80 a1 31 a1 54 05 c0", "05"),
        ("95 01 80 a1 31 a1 54 92 01", "9201"),
    ] {
        let Ok(Incoming::Message(HubMessage::Invocation(call))) = messagepack(digits) else { panic!("{digits}") };
        assert_eq!(call.arguments, crate::hex(arguments), "{digits}");
        assert!(HubProtocol::MessagePack.split_arguments(&call.arguments).is_err(), "{digits}");
    }
    let Ok(Incoming::Message(HubMessage::StreamItem(item))) = messagepack("93 02 80 a1 31") else { panic!() };
    assert!(item.item.is_empty());
    let Ok(Incoming::Message(HubMessage::Completion(completion))) = messagepack("95 03 80 a1 31 01 c0") else {
        panic!()
    };
    assert_eq!(completion.outcome, Outcome::Void);
}

#[test]
fn messagepack_strings_replace_what_is_no_utf8() {
    let Ok(Incoming::Message(HubMessage::CancelInvocation(cancel))) = messagepack("93 05 80 a2 61 ff") else {
        panic!()
    };
    assert_eq!(cancel.invocation_id, "a\u{FFFD}");
}

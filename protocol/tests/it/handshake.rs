//! Handshakes as the reference takes and refuses them (signalr-wire §6).

use bytes::BytesMut;
use hubgate_protocol::HubProtocol;
use hubgate_protocol::handshake::{
    HandshakeRequest, HandshakeResponse, RequestReader, parse_request, parse_response, write_request, write_response,
};

const BOTH: [HubProtocol; 2] = [HubProtocol::Json, HubProtocol::MessagePack];

fn request(text: &str) -> Result<HandshakeRequest, String> {
    let record = format!("{text}\u{1e}rest");
    match parse_request(record.as_bytes(), 32_768) {
        Ok(Some(complete)) => {
            assert_eq!(complete.consumed, text.len() + 1);
            Ok(complete.value)
        }
        Ok(None) => panic!("incomplete"),
        Err(error) => Err(error.client_text(true)),
    }
}

#[test]
fn requests_are_taken_in_any_shape() {
    for text in [
        r#"{"protocol":"json","version":1}"#,
        r#"{"version":1,"protocol":"json"}"#,
        "\t\r\n{ \"protocol\" : \"json\" ,\n \"version\" : 1 } ",
        r#"{"a":[],"protocol":"json","b":{"version":[null]},"version":1,"x":"y"}"#,
        r#"{"\u0070rotocol":"js\u006fn","version":1}"#,
        r#"{"protocol":"json","version":1}garbage"#,
        r#"{"protocol":"json","version":1}}"#,
        r#"{"protocol":"blah","protocol":"json","version":9,"version":1}"#,
    ] {
        assert_eq!(request(text), Ok(HandshakeRequest { protocol: "json".to_owned(), version: 1 }), "{text}");
    }
}

#[test]
fn malformed_requests_get_the_references_texts() {
    let lead = "An unexpected error occurred during connection handshake. ";
    for (text, detail) in [
        ("{}", "InvalidDataException: Missing required property 'protocol'. Message content: {}"),
        (
            r#"{"protocol":"json"}"#,
            r#"InvalidDataException: Missing required property 'version'. Message content: {"protocol":"json"}"#,
        ),
        (
            r#"{"protocol":"json","version":1,"version":null}"#,
            "InvalidDataException: Missing required property 'version'. Message content: \
             {\"protocol\":\"json\",\"version\":1,\"version\":null}",
        ),
        (
            r#"{"Protocol":"json","version":1}"#,
            r#"InvalidDataException: Missing required property 'protocol'. Message content: {"Protocol":"json","version":1}"#,
        ),
        (r#"{"protocol":5,"version":1}"#, "InvalidDataException: Expected 'protocol' to be of type String."),
        (r#"{"protocol":"json","version":"1"}"#, "InvalidDataException: Expected 'version' to be of type Number."),
        ("[]", "InvalidDataException: Unexpected JSON Token Type 'Array'. Expected a JSON Object."),
        ("42", "InvalidDataException: Unexpected JSON Token Type 'Number'. Expected a JSON Object."),
        (
            r#"{"protocol":"json","version":1.0}"#,
            "FormatException: Either the JSON value is not in a supported format, or is out of bounds for an Int32.",
        ),
        (
            r#"{"protocol":"json","version":2147483648}"#,
            "FormatException: Either the JSON value is not in a supported format, or is out of bounds for an Int32.",
        ),
        (
            "",
            "JsonReaderException: The input does not contain any JSON tokens. Expected the input to start with a valid \
             JSON token, when isFinalBlock is true. LineNumber: 0 | BytePositionInLine: 0.",
        ),
        (
            "\u{FEFF}{}",
            "JsonReaderException: '0xEF' is an invalid start of a value. LineNumber: 0 | BytePositionInLine: 0.",
        ),
        (
            r#"{"protocol":"json","version":1"#,
            "JsonReaderException: '1' is an invalid end of a number. Expected a delimiter. LineNumber: 0 | \
             BytePositionInLine: 30.",
        ),
        (
            r#"{"protocol":"json","version":1,}"#,
            "JsonReaderException: The JSON object contains a trailing comma at the end which is not supported in this \
             mode. Change the reader options. LineNumber: 0 | BytePositionInLine: 31.",
        ),
        (
            "{'protocol':'json'}",
            "JsonReaderException: ''' is an invalid start of a property name. Expected a '\"'. LineNumber: 0 | \
             BytePositionInLine: 1.",
        ),
        (
            r#"{"protocol":"json"/*c*/,"version":1}"#,
            "JsonReaderException: '/' is invalid after a value. Expected either ',', '}', or ']'. LineNumber: 0 | \
             BytePositionInLine: 18.",
        ),
        ("garbage", "JsonReaderException: 'g' is an invalid start of a value. LineNumber: 0 | BytePositionInLine: 0."),
    ] {
        assert_eq!(request(text), Err(format!("{lead}{detail}")), "{text}");
        let error = parse_request(format!("{text}\u{1e}").as_bytes(), 100).unwrap_err();
        assert_eq!(error.client_text(false), lead.trim_end());
    }
}

#[test]
fn size_limit_counts_the_separator_and_nothing_behind_it() {
    let padded = |len: usize| {
        let request = "{\"protocol\":\"json\",\"version\":1}";
        format!("{request}{}\u{1e}", " ".repeat(len - request.len() - 1))
    };
    assert!(parse_request(padded(100).as_bytes(), 100).unwrap().is_some());
    assert!(parse_request((padded(100) + &"x".repeat(500)).as_bytes(), 100).unwrap().is_some());
    assert_eq!(parse_request(&[b' '; 100], 100), Ok(None));
    for text in [padded(101), " ".repeat(101)] {
        let error = parse_request(text.as_bytes(), 100).unwrap_err();
        assert_eq!(error.client_text(true), "Handshake was canceled.");
    }
}

#[test]
fn a_reader_goes_on_where_it_stopped() {
    let bytes = b"{\"protocol\":\"messagepack\",\"version\":2}\x1e\x02\x91\x06";
    let mut reader = RequestReader::new(100);
    for len in 0..bytes.len() - 3 {
        assert_eq!(reader.read(&bytes[..len]), Ok(None), "{len}");
    }
    let complete = reader.read(bytes).unwrap().unwrap();
    assert_eq!(complete.value, HandshakeRequest { protocol: "messagepack".to_owned(), version: 2 });
    assert_eq!(&bytes[complete.consumed..], b"\x02\x91\x06");
}

#[test]
fn requests_are_judged_by_protocol_then_version_then_transport() {
    let judge = |protocol: &str, version, supported: &[HubProtocol], binary| {
        HandshakeRequest { protocol: protocol.to_owned(), version }.judge(supported, binary)
    };
    for version in [2, 1, 0, -5, i32::MIN] {
        assert_eq!(judge("JSON", version, &BOTH, false), Ok(HubProtocol::Json));
        assert_eq!(judge("MessagePack", version, &BOTH, true), Ok(HubProtocol::MessagePack));
    }
    for (protocol, version, text) in [
        ("blah", 9, "The protocol 'blah' is not supported."),
        ("json ", 1, "The protocol 'json ' is not supported."),
        ("", 1, "The protocol '' is not supported."),
        ("JSON", 3, "The server does not support version 3 of the 'JSON' protocol."),
        (
            "MESSAGEPACK",
            1,
            "Cannot use the 'messagepack' protocol on the current transport. The transport does not support 'Binary' \
             transfer format.",
        ),
    ] {
        assert_eq!(judge(protocol, version, &BOTH, false), Err(text.to_owned()));
    }
    let refused = judge("json", 1, &[HubProtocol::MessagePack], true);
    assert_eq!(refused, Err("The protocol 'json' is not supported.".to_owned()));
}

#[test]
fn what_is_written_is_the_references_text() {
    let mut out = BytesMut::new();
    write_request("it's \"ä<>&+", 1, &mut out);
    assert_eq!(out, "{\"protocol\":\"it's \\\"ä<>&+\",\"version\":1}\u{1e}".as_bytes());
    out.clear();
    write_response(&HandshakeResponse::default(), &mut out);
    assert_eq!(&out[..], b"{}\x1e");
    out.clear();
    let refusal = HandshakeResponse { error: Some("The protocol 'it's \"ä' is not supported.".to_owned()) };
    write_response(&refusal, &mut out);
    assert_eq!(out, "{\"error\":\"The protocol 'it's \\\"ä' is not supported.\"}\u{1e}".as_bytes());
    assert_eq!(parse_response(&out, 100).unwrap().unwrap().value, refusal);
}

#[test]
fn responses_are_told_from_hub_messages() {
    let response = |text: &str| parse_response(format!("{text}\u{1e}").as_bytes(), 100).map(Option::unwrap);
    assert_eq!(response("{\"minorVersion\":0,\"x\":[]}").unwrap().value.error, None);
    assert_eq!(response("{\"error\":\"\"}").unwrap().value.error.as_deref(), Some(""));
    assert_eq!(response("{\"type\":6}").unwrap_err().to_string(), "Expected a handshake response from the server.");
    assert!(response("[]").is_err());
    assert!(response("{\"error\":null}").is_err());
}

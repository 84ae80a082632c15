//! Negotiate requests and answers (signalr-wire §3).

use hubgate_protocol::negotiate::{
    AvailableTransport, NegotiateRequest, NegotiateResponse, NegotiatedConnection, Redirect, RequestError,
    ResponseError,
};
use hubgate_protocol::{TransferFormat, Transport};

const GOLDEN: &str = r#"{"negotiateVersion":1,"connectionId":"807809a5","connectionToken":"05265228","availableTransports":[{"transport":"WebSockets","transferFormats":["Text","Binary"]},{"transport":"ServerSentEvents","transferFormats":["Text"]},{"transport":"LongPolling","transferFormats":["Text","Binary"]}]}"#;

fn connection(json: &str) -> NegotiatedConnection {
    match NegotiateResponse::from_json(json.as_bytes()) {
        Ok(NegotiateResponse::Connection(connection)) => connection,
        other => panic!("{other:?} for {json}"),
    }
}

fn refusal(json: &str) -> String {
    NegotiateResponse::from_json(json.as_bytes()).unwrap_err().to_string()
}

#[test]
fn versions_are_read_as_the_reference_does() {
    for (query, version) in [
        ("", 0),
        ("?negotiateVersion=1", 1),
        ("negotiateversion=%2B1", 1),
        ("NegotiateVersion=01", 1),
        ("negotiateVersion=-0", 0),
        ("negotiateVersion=+1%20", 1),
        ("negotiateVersion=&negotiateVersion=1", 1),
        ("negotiateVersion=2147483647", i32::MAX),
        ("negotiateVersion=-1", -1),
        ("xnegotiateVersion=5", 0),
    ] {
        assert_eq!(NegotiateRequest::from_query(query).unwrap().version, version, "{query}");
    }
    for raw in ["", "1.0", "0x1", "1e0", "%E2%88%921", "%D9%A1", "2147483648", "1&negotiateVersion=1", "a"] {
        let error = NegotiateRequest::from_query(&format!("negotiateVersion={raw}")).unwrap_err();
        assert_eq!(error.to_string(), "The client requested a non-integer protocol version.", "{raw}");
    }
    let repeated = NegotiateRequest::from_query("negotiateVersion=1&negotiateVersion=1");
    assert_eq!(repeated, Err(RequestError::NotAnInteger { raw: "1,1".to_owned() }));
}

#[test]
fn versions_are_accepted_from_the_minimum_up_and_answered_at_most_one() {
    let accept = |version, minimum| {
        NegotiateRequest { version, use_stateful_reconnect: false }.accept(minimum).map_err(|error| error.to_string())
    };
    assert_eq!(accept(0, 0), Ok(0));
    assert_eq!(accept(7, 0), Ok(1));
    assert_eq!(accept(2, 2), Ok(1));
    let text =
        |version| format!("The client requested version '{version}', but the server does not support this version.");
    assert_eq!(accept(-1, 0), Err(text(-1)));
    assert_eq!(accept(0, 1), Err(text(0)));
}

#[test]
fn stateful_reconnect_is_read_as_a_boolean() {
    for (value, wished) in [
        ("true", true),
        ("TRUE", true),
        ("+true%09", true),
        ("1", false),
        ("", false),
        ("false", false),
        ("yes", false),
    ] {
        let request = NegotiateRequest::from_query(&format!("useStatefulReconnect={value}")).unwrap();
        assert_eq!(request.use_stateful_reconnect, wished, "{value}");
    }
    let twice = NegotiateRequest::from_query("useStatefulReconnect=true&useStatefulReconnect=true").unwrap();
    assert!(!twice.use_stateful_reconnect);
}

#[test]
fn the_golden_answer_is_written_and_read() {
    let built = NegotiateResponse::Connection(NegotiatedConnection {
        negotiate_version: 1,
        connection_id: "807809a5".to_owned(),
        connection_token: Some("05265228".into()),
        available_transports: Transport::ALL.map(AvailableTransport::of).to_vec(),
        ..NegotiatedConnection::default()
    });
    assert_eq!(String::from_utf8(built.to_json()).unwrap(), GOLDEN);
    let read = connection(GOLDEN);
    assert_eq!((read.token(), read.connection_id.as_str()), ("05265228", "807809a5"));
    assert!(read.offers(Transport::LongPolling));
    assert!(!read.available_transports[1].carries(TransferFormat::Binary));
    let again = NegotiateResponse::Connection(read).to_json();
    assert_eq!(String::from_utf8(again).unwrap(), GOLDEN);
}

#[test]
fn every_field_keeps_its_place() {
    let all = r#"{"useStatefulReconnect":true,"negotiateVersion":1,"accessToken":"at","connectionId":"id","connectionToken":"tk","tokenLifetimeSeconds":60,"availableTransports":[{"transport":"WebTransport","transferFormats":["Text"],"port":4433}],"x":{"a":[1.50]}}"#;
    let again = NegotiateResponse::Connection(connection(all)).to_json();
    assert_eq!(String::from_utf8(again).unwrap(), all);
    let empty =
        NegotiateResponse::Connection(NegotiatedConnection { connection_id: "id".to_owned(), ..Default::default() });
    assert_eq!(empty.to_json(), br#"{"negotiateVersion":0,"connectionId":"id","availableTransports":[]}"#);
    assert_eq!(NegotiateResponse::Error("it's".to_owned()).to_json(), br#"{"error":"it's"}"#);
}

#[test]
fn version_zero_has_its_id_for_a_token() {
    for json in [
        r#"{"connectionId":"a","connectionToken":"b","availableTransports":[]}"#,
        r#"{"negotiateVersion":0,"connectionId":"a","connectionToken":"b","availableTransports":[]}"#,
    ] {
        let read = connection(json);
        assert_eq!((read.token(), read.connection_token.is_none()), ("a", true));
    }
    let future =
        connection(r#"{"negotiateVersion":2,"connectionId":"a","connectionToken":"b","availableTransports":[]}"#);
    assert_eq!(future.token(), "b");
}

#[test]
fn tolerance_is_the_javascript_clients() {
    let read = connection(
        "\u{FEFF}{\"connectionId\":\"a\",\"connectionId\":\"c\",\"error\":\"\",\"url\":\"\",\"accessToken\":null,\
         \"useStatefulReconnect\":null,\"connectionToken\":null,\"availableTransports\":[]}",
    );
    assert_eq!(read.connection_id, "c");
}

#[test]
fn redirects_and_errors_go_before_the_rest() {
    let redirect = r#"{"url":"https://other/hub?asrs=1","accessToken":"secret-token","availableTransports":[]}"#;
    let Ok(NegotiateResponse::Redirect(read)) = NegotiateResponse::from_json(redirect.as_bytes()) else { panic!() };
    assert_eq!(read.url, "https://other/hub?asrs=1");
    assert_eq!(read.access_token.as_ref().unwrap().expose(), "secret-token");
    assert!(!format!("{read:?}").contains("secret-token"));
    let written = NegotiateResponse::Redirect(Redirect { negotiate_version: 1, ..read }).to_json();
    assert_eq!(
        String::from_utf8(written).unwrap(),
        r#"{"negotiateVersion":1,"url":"https://other/hub?asrs=1","accessToken":"secret-token","availableTransports":[]}"#
    );
    let Ok(NegotiateResponse::Error(error)) = NegotiateResponse::from_json(br#"{"error":"nope","url":"x"}"#) else {
        panic!()
    };
    assert_eq!(error, "nope");
}

#[test]
fn unusable_answers_are_told_apart() {
    assert_eq!(refusal(r#"{"availableTransports":[]}"#), "Missing required property 'connectionId'.");
    assert_eq!(refusal(r#"{"connectionId":"a"}"#), "Missing required property 'availableTransports'.");
    let without_token = r#"{"negotiateVersion":1,"connectionId":"a","availableTransports":[]}"#;
    assert_eq!(refusal(without_token), "Missing required property 'connectionToken'.");
    let without_formats = r#"{"connectionId":"a","availableTransports":[{"transport":"WebSockets"}]}"#;
    assert_eq!(refusal(without_formats), "Missing required property 'transferFormats'.");
    assert!(refusal(r#"{"ProtocolVersion":"1.4","Url":"/x"}"#).starts_with("Detected a connection attempt"));
    for broken in ["", "[]", "null", "{", r#"{"connectionId":1,"availableTransports":[]}"#, "<html>"] {
        assert_eq!(refusal(broken), "Invalid negotiation response received.", "{broken}");
    }
    let long = format!("{{\"error\":\"{}\"}}", "x".repeat(64 * 1024));
    assert!(matches!(NegotiateResponse::from_json(long.as_bytes()), Err(ResponseError::TooLarge)));
    let many = format!("{{\"connectionId\":\"a\",\"availableTransports\":[{}]}}", vec!["{}"; 33].join(","));
    assert!(matches!(NegotiateResponse::from_json(many.as_bytes()), Err(ResponseError::TooManyTransports)));
}

#[test]
fn other_json_is_no_answer() {
    for answer in [GOLDEN, r#"{"error":"x"}"#, r#"{"url":"http://a"}"#] {
        assert!(NegotiateResponse::from_json(answer.as_bytes()).is_ok(), "{answer}");
    }
    for other in ["{}", "[]", "", r#"{"errors":1}"#, r#"["url"]"#, r#"{"a":{"url":1}}"#, r#"{"connectionId":"a"}"#] {
        assert!(NegotiateResponse::from_json(other.as_bytes()).is_err(), "{other}");
    }
}

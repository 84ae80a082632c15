//! Calls and streams in both directions, in both protocols.

use futures_util::stream;
use hubgate_client::ClientError;
use hubgate_fixtures::HubServer;
use tokio::sync::mpsc;

use super::support::{PROTOCOLS, builder, connected, within};

#[tokio::test]
async fn results_and_errors_arrive() {
    let server = HubServer::contract().await.unwrap();
    for protocol in PROTOCOLS {
        let connection = connected(builder(&server, "/contract").protocol(protocol)).await;
        assert_eq!(connection.invoke::<i32>("Add", (2, 3)).await.unwrap(), 5);
        connection.invoke::<()>("Void", ()).await.unwrap();
        let echoed: (i64, Option<String>, Vec<f64>) =
            connection.invoke("Echo", ((1_i64 << 40, None::<String>, [1.5, 2.5]),)).await.unwrap();
        assert_eq!(echoed, (1 << 40, None, vec![1.5, 2.5]));
        let error = connection.invoke::<()>("ThrowHub", ("my text",)).await.unwrap_err();
        let text = "An unexpected error occurred invoking 'ThrowHub' on the server. HubException: my text";
        assert!(matches!(error, ClientError::Invocation(got) if got == text));
        let wrong = connection.invoke::<i32>("EchoText", ("x",)).await.unwrap_err();
        assert!(matches!(wrong, ClientError::Deserialize(_)), "{wrong}");
        let id: String = connection.invoke("ConnectionId", ()).await.unwrap();
        assert_eq!(connection.connection_id(), Some(id));
        connection.stop().await;
        let late = connection.invoke::<i32>("Add", (2, 3)).await.unwrap_err();
        assert!(matches!(late, ClientError::NotConnected));
    }
}

#[tokio::test]
async fn streams_flow_both_ways() {
    let server = HubServer::contract().await.unwrap();
    for protocol in PROTOCOLS {
        let connection = connected(builder(&server, "/contract").protocol(protocol)).await;
        let counted = connection.stream::<i32>("Counter", (1000,)).await.unwrap();
        assert_eq!(within(counted.collect()).await.unwrap(), (0..1000).collect::<Vec<_>>());
        let mut broken = connection.stream::<i32>("CounterThenThrow", (1,)).await.unwrap();
        assert_eq!(within(broken.next()).await.unwrap().unwrap(), 0);
        let error = within(broken.next()).await.unwrap().unwrap_err();
        let text = "An error occurred on the server while streaming results. HubException: stream broke";
        assert_eq!(error.to_string(), text);
        assert!(broken.next().await.is_none());
        let sum: i32 = within(connection.call("Upload").upload(stream::iter(0..100)).invoke()).await.unwrap();
        assert_eq!(sum, 4950);
        let (first, second) = (stream::iter(["a", "b"]), stream::iter(["c", "d"]));
        let call = connection.call("Upload2").arguments(("-",)).unwrap().upload(first).upload(second);
        assert_eq!(within(call.invoke::<String>()).await.unwrap(), "ab-cd");
        let doubled = connection.call("StreamBoth").upload(stream::iter(1..4)).stream::<i32>().await.unwrap();
        assert_eq!(within(doubled.collect()).await.unwrap(), [2, 4, 6]);
    }
}

#[tokio::test]
async fn a_dropped_stream_is_cancelled() {
    let server = HubServer::contract().await.unwrap();
    let connection = connected(builder(&server, "/contract")).await;
    let mut ticks = connection.stream::<i32>("Ticks", (100_000,)).await.unwrap();
    assert_eq!(within(ticks.next()).await.unwrap().unwrap(), 0);
    drop(ticks);
    let id = connection.connection_id().unwrap();
    let waited = connection.invoke::<bool>("WaitForEvent", (id, "stream-cancelled", 10_000));
    assert!(within(waited).await.unwrap());
}

#[tokio::test]
async fn a_slow_reader_holds_up_the_connection_and_loses_nothing() {
    let server = HubServer::contract().await.unwrap();
    let connection = connected(builder(&server, "/contract").stream_items_max(2)).await;
    let mut counted = connection.stream::<i32>("Counter", (500,)).await.unwrap();
    assert_eq!(within(counted.next()).await.unwrap().unwrap(), 0);
    // Writing goes on: the hub gets this call while the stream holds up the reading.
    connection.send("Void", ()).await.unwrap();
    let other = connected(builder(&server, "/contract")).await;
    let written = other.invoke::<bool>("WaitForEvent", (connection.connection_id(), "void", 10_000));
    assert!(within(written).await.unwrap());
    let mut next = 1;
    while let Some(item) = within(counted.next()).await {
        assert_eq!(item.unwrap(), next);
        next += 1;
    }
    assert_eq!(next, 500);
}

#[tokio::test]
async fn the_hub_calls_and_asks() {
    let server = HubServer::contract().await.unwrap();
    for protocol in PROTOCOLS {
        let connection = connected(builder(&server, "/contract").protocol(protocol)).await;
        let (numbers, mut received) = mpsc::unbounded_channel();
        connection.on("numbered", move |(i, payload): (i32, String)| numbers.send((i, payload.len())).unwrap());
        connection.invoke::<()>("Push", (1000, 10)).await.unwrap();
        for i in 0..1000 {
            assert_eq!(within(received.recv()).await.unwrap(), (i, 10));
        }
        for i in 0..1000 {
            connection.send("Collect", (i,)).await.unwrap();
        }
        assert_eq!(connection.invoke::<(i64, i64)>("Collected", ()).await.unwrap(), (1000, 0));
        let error = connection.invoke::<String>("Ask", ("why",)).await.unwrap_err();
        assert!(error.to_string().ends_with("HubException: Client didn't provide a result."), "{error}");
        connection.on_with_result("Question", |(question,): (String,)| async move {
            if question == "fail" { Err("no answer".to_owned()) } else { Ok(question + "!") }
        });
        assert_eq!(connection.invoke::<String>("Ask", ("why",)).await.unwrap(), "why!");
        let error = connection.invoke::<String>("Ask", ("fail",)).await.unwrap_err();
        assert!(error.to_string().ends_with("HubException: no answer"), "{error}");
        connection.off("Question");
        assert!(connection.invoke::<String>("Ask", ("why",)).await.is_err());
    }
}

#[tokio::test]
async fn large_messages_pass_both_ways() {
    let server = HubServer::contract().await.unwrap();
    for protocol in PROTOCOLS {
        let connection = connected(builder(&server, "/contract-large").protocol(protocol)).await;
        let text = "y".repeat(1 << 20);
        let echoed: String = within(connection.invoke("EchoText", (&text,))).await.unwrap();
        assert!(echoed == text);
    }
}

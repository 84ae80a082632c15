//! Speaks to a contract hub over every transport and protocol it offers, and prints one line for each:
//! `cargo run -p hubgate-client --example scenario -- http://127.0.0.1:5000`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Instant;

use futures_util::stream;
use hubgate_client::{ClientError, HubConnection, HubProtocol, Transport};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let base = std::env::args().nth(1).ok_or("give the server's URL")?;
    for transport in Transport::ALL {
        for protocol in [HubProtocol::Json, HubProtocol::MessagePack] {
            let begun = Instant::now();
            let outcome = match scenario(&base, transport, protocol).await {
                Ok(()) => "ok".to_owned(),
                Err(error) => match error.downcast_ref::<ClientError>() {
                    Some(ClientError::NoTransport) => "n/a: not offered".to_owned(),
                    _ => format!("FAILED: {error}"),
                },
            };
            println!("{transport:<17} {:<12} {:>6} ms  {outcome}", protocol.name(), begun.elapsed().as_millis());
        }
    }
    Ok(())
}

async fn scenario(base: &str, transport: Transport, protocol: HubProtocol) -> Result<(), Box<dyn Error>> {
    let connect = |path: &str| HubConnection::builder(&format!("{base}{path}")).transport(transport).protocol(protocol);
    let connection = connect("/contract?user=ann").build()?;
    let other = connect("/contract").build()?;
    connection.start().await?;
    other.start().await?;

    check(connection.invoke::<i32>("Add", (2, 3)).await? == 5, "a result")?;
    connection.invoke::<()>("Void", ()).await?;
    let error = connection.invoke::<()>("ThrowHub", ("x",)).await.err().map(|error| error.to_string());
    let text = "An unexpected error occurred invoking 'ThrowHub' on the server. HubException: x";
    check(error.as_deref() == Some(text), "a HubException")?;
    let counted = connection.stream::<i32>("Counter", (50,)).await?.collect().await?;
    check(counted == (0..50).collect::<Vec<_>>(), "a stream from the hub")?;
    let sum: i32 = connection.call("Upload").upload(stream::iter(0..50)).invoke().await?;
    check(sum == 1225, "a stream to the hub")?;
    connection.on_with_result("Question", |(question,): (String,)| async move { Ok::<_, String>(question + "!") });
    check(connection.invoke::<String>("Ask", ("why",)).await? == "why!", "a client result")?;

    let numbered = Arc::new(AtomicI32::new(0));
    let next = Arc::clone(&numbered);
    connection.on("Numbered", move |(i, _): (i32, String)| {
        // Only the number expected next counts.
        let _ = next.compare_exchange(i, i + 1, Ordering::Relaxed, Ordering::Relaxed);
    });
    connection.invoke::<()>("Push", (1000, 10)).await?;
    check(numbered.load(Ordering::Relaxed) == 1000, "1,000 messages from the hub in order")?;
    for i in 0..1000 {
        connection.send("Collect", (i,)).await?;
    }
    check(connection.invoke::<(i32, i32)>("Collected", ()).await? == (1000, 0), "1,000 messages to the hub in order")?;

    let large = connect("/contract-large").build()?;
    large.start().await?;
    let text = "y".repeat(1 << 20);
    check(large.invoke::<String>("EchoText", (&text,)).await? == text, "1 MiB there and back")?;
    large.stop().await;

    let id = connection.connection_id().ok_or("no connection id")?;
    check(connection.invoke::<String>("ConnectionId", ()).await? == id, "the hub's id")?;
    connection.stop().await;
    check(other.invoke::<bool>("WaitForEvent", (&id, "disconnected", 5000)).await?, "a stop seen by the hub")?;
    check(other.invoke::<Option<String>>("DisconnectError", (&id,)).await?.is_none(), "a clean stop")?;
    other.stop().await;
    Ok(())
}

fn check(holds: bool, what: &str) -> Result<(), Box<dyn Error>> {
    if holds { Ok(()) } else { Err(format!("{what} failed").into()) }
}

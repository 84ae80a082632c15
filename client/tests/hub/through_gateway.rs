//! Every transport, with the gateway before the embedded hub.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::stream;
use hubgate_client::{ClientError, HubConnection, HubConnectionBuilder, HubConnectionState, HubProtocol, Transport};
use hubgate_fixtures::certificates::ServerCertificate;
use hubgate_fixtures::{FaultProxy, HubServer};
use hubgate_gateway::Gateway;
use hubgate_gateway::config::{Config, Environment};
use tokio::sync::mpsc;

use super::support::{PATIENCE, connected, within};

const CELLS: [(Transport, HubProtocol); 7] = [
    (Transport::WebSockets, HubProtocol::Json),
    (Transport::WebSockets, HubProtocol::MessagePack),
    (Transport::ServerSentEvents, HubProtocol::Json),
    (Transport::LongPolling, HubProtocol::Json),
    (Transport::LongPolling, HubProtocol::MessagePack),
    (Transport::WebTransport, HubProtocol::Json),
    (Transport::WebTransport, HubProtocol::MessagePack),
];

/// A hub with a proxy before it, the gateway, and a proxy before that, which sees nothing of WebTransport but its negotiate.
struct Way {
    hub: HubServer,
    before_hub: FaultProxy,
    _gateway: Gateway,
    proxy: FaultProxy,
}

impl Way {
    async fn open() -> Self {
        let hub = HubServer::contract().await.unwrap();
        let before_hub = FaultProxy::bind(hub.local_addr()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let life = Duration::from_secs(13 * 86_400);
        let certificate = ServerCertificate::self_signed(&["127.0.0.1"], SystemTime::now(), life).unwrap();
        certificate.write_to(folder.path()).unwrap();
        let text = format!(
            "[[listener]]\naddress = \"127.0.0.1:0\"\n\
             web_transport = {{ certificates = [{{ certificate_file = \"certificate.pem\", key_file = \"key.pem\" }}] }}\n\
             [backend.hub]\nservers = [\"http://{}\"]\n\
             [[route]]\nname = \"all\"\nhubs = \"/\"\nbackend = \"hub\"\n\
             transports = [\"WebSockets\", \"ServerSentEvents\", \"LongPolling\", \"WebTransport\"]\n\
             [admin]\naddress = \"off\"\n",
            before_hub.local_addr()
        );
        let config = Config::parse(&text, folder.path(), &Environment::default()).unwrap();
        let gateway = Gateway::start(Arc::new(config)).await.unwrap();
        let proxy = FaultProxy::bind(gateway.addresses().next().unwrap()).await.unwrap();
        Self { hub, before_hub, _gateway: gateway, proxy }
    }

    fn builder(&self, path: &str, transport: Transport, protocol: HubProtocol) -> HubConnectionBuilder {
        let url = format!("http://{}{path}", self.proxy.local_addr());
        HubConnection::builder(&url).transport(transport).protocol(protocol)
    }
}

#[tokio::test]
async fn everything_works_on_every_transport() {
    let way = Way::open().await;
    for (transport, protocol) in CELLS {
        let connection = connected(way.builder("/contract", transport, protocol)).await;
        assert_eq!(connection.transport(), Some(transport));
        assert_eq!(connection.invoke::<i32>("Add", (2, 3)).await.unwrap(), 5, "{transport} {protocol:?}");
        let id = connection.connection_id().unwrap();
        assert_eq!(connection.invoke::<String>("ConnectionId", ()).await.unwrap(), id);
        let counted = connection.stream::<i32>("Counter", (100,)).await.unwrap();
        assert_eq!(within(counted.collect()).await.unwrap().len(), 100);
        let sum: i32 = within(connection.call("Upload").upload(stream::iter(0..100)).invoke()).await.unwrap();
        assert_eq!(sum, 4950);
        connection.on_with_result("Question", |(question,): (String,)| async move { Ok::<_, String>(question + "!") });
        assert_eq!(connection.invoke::<String>("Ask", ("why",)).await.unwrap(), "why!");
        for i in 0..1000 {
            connection.send("Collect", (i,)).await.unwrap();
        }
        assert_eq!(connection.invoke::<(i64, i64)>("Collected", ()).await.unwrap(), (1000, 0));
        let (numbers, mut received) = mpsc::unbounded_channel();
        connection.on("numbered", move |(i, _): (i32, String)| numbers.send(i).unwrap());
        connection.invoke::<()>("Push", (1000, 10)).await.unwrap();
        for i in 0..1000 {
            assert_eq!(within(received.recv()).await.unwrap(), i);
        }
        let large = connected(way.builder("/contract-large", transport, protocol)).await;
        let text = "y".repeat(1 << 20);
        assert!(within(large.invoke::<String>("EchoText", (&text,))).await.unwrap() == text);
        within(connection.stop()).await;
        assert!(way.hub.log().wait(&id, "disconnected", PATIENCE).await);
    }
}

#[tokio::test]
async fn the_first_transport_that_fits_is_taken() {
    let way = Way::open().await;
    let any = way.builder("/contract", Transport::WebSockets, HubProtocol::MessagePack).transports(&Transport::ALL);
    assert_eq!(connected(any).await.transport(), Some(Transport::WebSockets));
    let polling = way.builder("/contract", Transport::WebSockets, HubProtocol::MessagePack);
    let polling = polling.transports(&[Transport::LongPolling, Transport::ServerSentEvents]);
    assert_eq!(connected(polling).await.transport(), Some(Transport::LongPolling));
    // It is named first, to those who ask for it.
    let both = way.builder("/contract", Transport::WebSockets, HubProtocol::MessagePack);
    let both = both.transports(&[Transport::WebSockets, Transport::WebTransport]);
    assert_eq!(connected(both).await.transport(), Some(Transport::WebTransport));
}

#[tokio::test]
async fn a_server_that_restarts_is_come_back_to_over_web_transport() {
    let way = Way::open().await;
    let delays = [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(100)];
    let builder = way.builder("/contract", Transport::WebTransport, HubProtocol::MessagePack);
    let connection = connected(builder.reconnect_delays(&delays)).await;
    let (again, mut seen) = mpsc::unbounded_channel();
    connection.on_reconnected(move |id| again.send(id.unwrap().to_owned()).unwrap());
    let id = connection.connection_id().unwrap();
    way.before_hub.reset_all();
    assert_ne!(within(seen.recv()).await.unwrap(), id);
    assert_eq!(connection.transport(), Some(Transport::WebTransport));
    assert_eq!(connection.invoke::<i32>("Add", (1, 1)).await.unwrap(), 2);
}

#[tokio::test]
async fn every_transport_comes_back_after_a_reset() {
    let way = Way::open().await;
    for (transport, protocol) in CELLS {
        let delays = [Duration::ZERO, Duration::from_millis(10), Duration::from_millis(100)];
        let connection = connected(way.builder("/contract", transport, protocol).reconnect_delays(&delays)).await;
        let (again, mut seen) = mpsc::unbounded_channel();
        connection.on_reconnected(move |id| again.send(id.unwrap().to_owned()).unwrap());
        let id = connection.connection_id().unwrap();
        match transport {
            Transport::WebTransport => connection.misbehave().cut().await.unwrap(),
            _ => way.proxy.reset_all(),
        }
        assert_ne!(within(seen.recv()).await.unwrap(), id, "{transport} {protocol:?}");
        assert_eq!(connection.invoke::<i32>("Add", (1, 1)).await.unwrap(), 2);
        within(connection.stop()).await;
    }
}

#[tokio::test]
async fn a_close_ends_every_transport() {
    let way = Way::open().await;
    for (transport, protocol) in CELLS {
        let connection = connected(way.builder("/contract", transport, protocol)).await;
        let (ended, mut seen) = mpsc::unbounded_channel();
        connection.on_closed(move |error| ended.send(error.map(str::to_owned)).unwrap());
        assert!(matches!(connection.invoke::<()>("Abort", ()).await, Err(ClientError::Canceled)));
        assert_eq!(within(seen.recv()).await, Some(None), "{transport} {protocol:?}");
        assert_eq!(connection.state(), HubConnectionState::Disconnected);
    }
}

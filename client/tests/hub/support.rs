//! What the tests share.

use std::time::Duration;

use hubgate_client::{HubConnection, HubConnectionBuilder, HubProtocol, Transport};
use hubgate_fixtures::HubServer;

/// How long anything may take; generous, as the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const PROTOCOLS: [HubProtocol; 2] = [HubProtocol::Json, HubProtocol::MessagePack];

pub(crate) fn builder(server: &HubServer, path: &str) -> HubConnectionBuilder {
    HubConnection::builder(&server.url(path)).transport(Transport::WebSockets)
}

pub(crate) async fn connected(builder: HubConnectionBuilder) -> HubConnection {
    let connection = builder.build().unwrap();
    within(connection.start()).await.unwrap();
    connection
}

pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

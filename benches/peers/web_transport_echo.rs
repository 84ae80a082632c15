//! The bare WebTransport echo: `wtransport` with next to nothing around it, the least that an echo over WebTransport can cost. It runs
//! as a process of its own, on one thread, and knows neither negotiate nor hub.

use std::net::Ipv4Addr;

use wtransport::endpoint::IncomingSession;
use wtransport::endpoint::endpoint_side::Server;
use wtransport::{Endpoint, Identity, ServerConfig};

use crate::bare_hub::{announce, parent_gone};

/// Bytes of one read.
const READ_BYTES: usize = 4096;

/// Serves on a free loopback port until standard input ends; the address goes to standard output.
pub(crate) async fn run() -> std::io::Result<()> {
    let endpoint = bind()?;
    announce(endpoint.local_addr()?)?;
    tokio::select! {
        () = serve(endpoint) => Ok(()),
        () = parent_gone() => Ok(()),
    }
}

/// Binds a free loopback port with a certificate of its own.
pub(crate) fn bind() -> std::io::Result<Endpoint<Server>> {
    let identity = Identity::self_signed(["localhost"]).map_err(std::io::Error::other)?;
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    Endpoint::server(ServerConfig::builder().with_bind_address(address).with_identity(identity).build())
}

/// Accepts sessions for ever.
pub(crate) async fn serve(endpoint: Endpoint<Server>) {
    loop {
        let incoming = endpoint.accept().await;
        // A session's error is the load client's to see and to count.
        tokio::spawn(async move { drop(echo(incoming).await) });
    }
}

async fn echo(incoming: IncomingSession) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let session = incoming.await?.accept().await?;
    let (mut send, mut receive) = session.accept_bi().await?;
    let mut buffer = [0; READ_BYTES];
    while let Some(read) = receive.read(&mut buffer).await? {
        send.write_all(buffer.get(..read).unwrap_or_default()).await?;
    }
    send.finish().await?;
    session.closed().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::call::HubKind;
    use crate::line::Dialer;
    use crate::load::{Target, Timing, Way, echo, paced};
    use crate::process::Probe;

    #[tokio::test]
    async fn the_load_client_counts_its_echoes_without_failure() {
        let endpoint = bind().unwrap();
        let address = endpoint.local_addr().unwrap();
        tokio::spawn(serve(endpoint));
        let way = Way::BareWebTransport(Dialer::leaked().unwrap());
        let target = Target { way, ..Target::web_sockets(address, HubKind::Bare, "/contract") };
        let timing = Timing { warm_up: Duration::ZERO, window: Duration::from_millis(100) };
        let local = tokio::task::LocalSet::new();
        let sample = local.run_until(echo::run(target, 3, 8, timing, &Probe::default())).await;
        assert_eq!(sample.failures.count, 0, "{:?}", sample.failures);
        assert!(sample.units > 0);
        let sample = local.run_until(paced::run(target, 3, 300, timing, &Probe::default())).await;
        assert_eq!(sample.failures.count, 0, "{:?}", sample.failures);
        assert!(sample.units > 0);
    }
}

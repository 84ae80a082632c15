//! The least that a relay can do: accept, connect, copy bytes both ways, knowing nothing of HTTP. It stands in each
//! table as the floor that a proxy on the same runtime cannot go below without fewer system calls.

use std::net::SocketAddr;

use tokio::net::TcpStream;

use crate::bare_hub::{announce, listen, parent_gone};

/// Relays to `to` on a free loopback port until standard input ends.
pub(crate) async fn run(to: SocketAddr) -> std::io::Result<()> {
    let listener = listen().await?;
    announce(listener.local_addr()?)?;
    let relay = async {
        loop {
            let (client, _) = listener.accept().await?;
            // A failed relay shows at the load client, which counts it.
            tokio::spawn(async move { drop(copy(client, to).await) });
        }
    };
    tokio::select! {
        stopped = relay => stopped,
        () = parent_gone() => Ok(()),
    }
}

async fn copy(mut client: TcpStream, to: SocketAddr) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut hub = TcpStream::connect(to).await?;
    hub.set_nodelay(true)?;
    tokio::io::copy_bidirectional(&mut client, &mut hub).await?;
    Ok(())
}

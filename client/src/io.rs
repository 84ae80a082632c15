//! A byte stream to the server, with or without TLS.

use std::io;
use std::sync::Arc;

use http::Uri;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::either::Either;

/// A connected socket, without TLS or with it.
pub(crate) type ClientIo = Either<TcpStream, Box<TlsStream<TcpStream>>>;

/// Connects to the authority of `uri`; with TLS for `https` and `wss`.
pub(crate) async fn connect(uri: &Uri, tls: Option<&Arc<rustls::ClientConfig>>) -> io::Result<ClientIo> {
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let secure = is_secure(uri);
    let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
    let socket = TcpStream::connect((host, port)).await?;
    socket.set_nodelay(true)?;
    if !secure {
        return Ok(Either::Left(socket));
    }
    let config = tls.ok_or_else(|| io::Error::other("no trusted certificate authorities"))?;
    let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
    let stream = TlsConnector::from(Arc::clone(config)).connect(name, socket).await?;
    Ok(Either::Right(Box::new(stream)))
}

/// Makes the close of the socket a TCP reset.
pub(crate) fn reset_on_close(io: &ClientIo) {
    let socket = match io {
        Either::Left(socket) => socket,
        Either::Right(stream) => stream.get_ref().0,
    };
    // A socket that cannot take the option is closed already.
    let _ = socket.set_zero_linger();
}

/// Whether the scheme of `uri` asks for TLS.
pub(crate) fn is_secure(uri: &Uri) -> bool {
    matches!(uri.scheme_str(), Some("https" | "wss"))
}

//! HTTP/3 as far as a WebTransport session needs it, on a QUIC connection: SETTINGS both ways, the CONNECT and its answer, the
//! session's stream, capsules.
//!
//! The codecs are `web-transport-proto`'s. The order of things is ours, because only who reads the connection's own end can tell a
//! client that left from one that was lost, and hubs must be told which it was (rule E4).
//!
//! Invariant: a close is told by a capsule first and the QUIC connection ends when that has arrived, or is given up.

use std::time::Duration;

use http::StatusCode;
use quinn::{Connection, ConnectionError, ReadError, RecvStream, SendStream, VarInt};
use tokio::time::timeout;
use web_transport_proto::{
    Capsule, ConnectError, ConnectRequest, ConnectResponse, Frame, Http3CapsuleReader, Settings, SettingsError,
    error_to_http3,
};

/// HTTP/3's word for an end without a fault.
pub(super) const H3_NO_ERROR: VarInt = VarInt::from_u32(0x100);
/// How long a client has to hear a refusal, or to answer a close.
const LINGER: Duration = Duration::from_secs(1);

/// Why a connection is no session's.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The connection ended.
    #[error("the connection ended: {0}")]
    Ended(#[from] ConnectionError),
    /// Its SETTINGS cannot be read.
    #[error("settings: {0}")]
    Settings(#[from] SettingsError),
    /// It does not speak WebTransport.
    #[error("the client does not speak WebTransport")]
    NoWebTransport,
    /// Its first request is no session's CONNECT.
    #[error("request: {0}")]
    Connect(#[from] ConnectError),
}

/// A session that is asked for.
pub(super) struct Asked {
    /// The CONNECT.
    pub(super) request: ConnectRequest,
    connection: Connection,
    control: Control,
    sending: SendStream,
    receiving: RecvStream,
}

/// HTTP/3's control streams; a session may not outlive them.
struct Control {
    _ours: SendStream,
    _theirs: RecvStream,
}

impl Asked {
    /// Exchanges SETTINGS and reads the first request.
    ///
    /// # Errors
    /// [`AskError`]; ordinary HTTP/3 ends here too (rule H1).
    pub(super) async fn read(connection: Connection) -> Result<Self, AskError> {
        let (ours, theirs) = tokio::try_join!(send_settings(&connection), read_settings(&connection))?;
        let (sending, mut receiving) = connection.accept_bi().await?;
        let request = ConnectRequest::read(&mut receiving).await?;
        let control = Control { _ours: ours, _theirs: theirs };
        Ok(Self { request, connection, control, sending, receiving })
    }

    /// Refuses it with a status, and waits until the client has heard that.
    pub(super) async fn refuse(mut self, status: StatusCode) {
        if ConnectResponse::new(status).write(&mut self.sending).await.is_ok() {
            let _ended_already = self.sending.finish();
            let _gone_already = timeout(LINGER, self.connection.closed()).await;
        }
        self.connection.close(H3_NO_ERROR, b"");
    }

    /// Accepts it.
    ///
    /// # Errors
    /// The client is gone.
    pub(super) async fn accept(mut self) -> Result<Session, ConnectError> {
        ConnectResponse::OK.write(&mut self.sending).await?;
        Ok(Session {
            id: VarInt::from(self.sending.id()).into_inner(),
            connection: self.connection,
            _control: self.control,
            sending: self.sending,
            capsules: Http3CapsuleReader::new(self.receiving),
        })
    }
}

async fn send_settings(connection: &Connection) -> Result<SendStream, AskError> {
    let mut settings = Settings::default();
    settings.enable_webtransport(1);
    let mut ours = connection.open_uni().await?;
    settings.write(&mut ours).await?;
    Ok(ours)
}

async fn read_settings(connection: &Connection) -> Result<RecvStream, AskError> {
    let mut theirs = connection.accept_uni().await?;
    let settings = Settings::read(&mut theirs).await?;
    if settings.supports_webtransport() == 0 { Err(AskError::NoWebTransport) } else { Ok(theirs) }
}

/// An open session.
pub(super) struct Session {
    id: u64,
    connection: Connection,
    _control: Control,
    sending: SendStream,
    capsules: Http3CapsuleReader<RecvStream>,
}

/// How the client left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    /// It ended its half of the stream.
    Finished,
    /// It closed the session with a code and a reason.
    Closed(u32, String),
    /// It closed the session, or its page, without a word.
    Gone,
    /// It was lost, or broke its stream off.
    Lost,
}

impl From<ConnectionError> for Left {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(_) | ConnectionError::LocallyClosed => Self::Gone,
            _ => Self::Lost,
        }
    }
}

impl From<ReadError> for Left {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            _ => Self::Lost,
        }
    }
}

impl Session {
    /// Where streams of the session are waited for.
    pub(super) fn streams(&self) -> Streams {
        Streams { connection: self.connection.clone(), session: self.id }
    }

    /// Waits until the client closes the session or is lost; what else it says here means nothing to us.
    pub(super) async fn left(&mut self) -> Left {
        loop {
            match self.capsules.read().await {
                Ok(Some(Capsule::CloseWebTransportSession { code, reason })) => return Left::Closed(code, reason),
                Ok(Some(_)) => {}
                Ok(None) => return Left::Gone,
                // Browsers may reset the request's stream with a page.
                Err(_) => return self.connection.close_reason().map_or(Left::Gone, Left::from),
            }
        }
    }

    /// Closes the session: by a capsule, then, when the client has had it, for good.
    pub(super) async fn close(mut self, code: u32, reason: &str, patience: Duration) {
        let mut capsule = Vec::new();
        Capsule::CloseWebTransportSession { code, reason: reason.to_owned() }.encode(&mut capsule);
        let mut frame = Vec::new();
        Frame::DATA.encode(&mut frame);
        web_transport_proto::VarInt::from_u32(u32::try_from(capsule.len()).unwrap_or(u32::MAX)).encode(&mut frame);
        frame.extend_from_slice(&capsule);
        let told = async {
            if self.sending.write_all(&frame).await.is_ok() && self.sending.finish().is_ok() {
                let _gone_already = self.sending.stopped().await;
                // Clients end the connection, or their half of the request, when they have read it.
                let _took_too_long = timeout(LINGER, self.left()).await;
            }
        };
        let _took_too_long = timeout(patience, told).await;
        self.end(code, reason);
    }

    /// Ends the connection at once, without a capsule.
    pub(super) fn end(&self, code: u32, reason: &str) {
        let code = VarInt::from_u64(error_to_http3(code)).unwrap_or(H3_NO_ERROR);
        self.connection.close(code, reason.as_bytes());
    }
}

/// Where streams of one session are waited for.
pub(super) struct Streams {
    connection: Connection,
    session: u64,
}

impl Streams {
    /// The next stream of the session that a client opens for both directions.
    ///
    /// # Errors
    /// The client is gone, or speaks of another session, of which there can be none.
    pub(super) async fn next(&self) -> Result<(SendStream, RecvStream), Left> {
        loop {
            let (sending, mut receiving) = self.connection.accept_bi().await?;
            let header = async {
                let kind = web_transport_proto::VarInt::read(&mut receiving).await?;
                let session = web_transport_proto::VarInt::read(&mut receiving).await?;
                Ok::<_, web_transport_proto::VarIntUnexpectedEnd>((Frame(kind), session.into_inner()))
            };
            match header.await {
                Ok((Frame::WEBTRANSPORT, session)) if session == self.session => return Ok((sending, receiving)),
                // A second request, or noise.
                Ok(_) => {}
                Err(_) => return Err(self.connection.close_reason().map_or(Left::Lost, Left::from)),
            }
        }
    }
}

//! Negotiate: the request's query, the answers (versions 0 and 1, redirect, error), both ways (signalr-wire §3).
//!
//! Reading is tolerant where official clients are: unknown fields are kept, nulls count as absent. Writing keeps the
//! reference's property order and never writes null.
//!
//! Invariant: a token in a parsed answer is a [`Secret`]; it shows in no `Debug` text.

use serde_json::value::RawValue;

use crate::limits::{NEGOTIATE_ANSWER_BYTES_MAX, TRANSPORTS_MAX};
use crate::query;
use crate::secret::Secret;
use crate::transport::{TransferFormat, Transport};

mod read;
mod web_transport;
mod write;

pub use self::web_transport::{CERTIFICATE_HASHES_MAX, WebTransportOffer};

/// Highest negotiate version; a higher one asked for is answered with it.
pub const VERSION_MAX: i32 = 1;

/// Media type of every negotiate answer; no charset (signalr-wire §3.2).
pub const CONTENT_TYPE: &str = "application/json";

/// What a negotiate request asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NegotiateRequest {
    /// The version asked for, 0 when none is named; may be negative or above [`VERSION_MAX`].
    pub version: i32,
    /// Whether stateful reconnect is wished for.
    pub use_stateful_reconnect: bool,
}

/// Why a negotiate request is refused; the text is 10.0's and goes to the client as [`NegotiateResponse::Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The version is no 32-bit integer.
    #[error("The client requested a non-integer protocol version.")]
    NotAnInteger {
        /// What was asked for; 8.0's text repeats it.
        raw: String,
    },
    /// The version is below the server's minimum.
    #[error("The client requested version '{version}', but the server does not support this version.")]
    TooLow {
        /// What was asked for.
        version: i32,
    },
}

impl NegotiateRequest {
    /// Reads the query of a negotiate request (signalr-wire §3.1).
    ///
    /// # Errors
    /// [`RequestError::NotAnInteger`].
    pub fn from_query(query: &str) -> Result<Self, RequestError> {
        let version = match query::value(query, "negotiateVersion") {
            None => 0,
            Some(raw) => trim(&raw).parse().map_err(|_| RequestError::NotAnInteger { raw })?,
        };
        let wish = query::value(query, "useStatefulReconnect");
        let use_stateful_reconnect = wish.is_some_and(|wish| trim(&wish).eq_ignore_ascii_case("true"));
        Ok(Self { version, use_stateful_reconnect })
    }

    /// The version to answer with, when the server's minimum is `version_min` (0 by default).
    ///
    /// # Errors
    /// [`RequestError::TooLow`].
    pub fn accept(&self, version_min: i32) -> Result<i32, RequestError> {
        if self.version < version_min {
            return Err(RequestError::TooLow { version: self.version });
        }
        Ok(self.version.min(VERSION_MAX))
    }
}

/// Blanks as .NET's integer parser takes them around a number.
fn trim(text: &str) -> &str {
    text.trim_matches([' ', '\t', '\n', '\u{B}', '\u{C}', '\r'])
}

/// A negotiate answer.
#[derive(Debug, Clone)]
pub enum NegotiateResponse {
    /// A connection was made.
    Connection(NegotiatedConnection),
    /// The client shall negotiate elsewhere.
    Redirect(Redirect),
    /// The server refuses with a text.
    Error(String),
}

/// A connection that waits for its transport.
#[derive(Debug, Clone, Default)]
pub struct NegotiatedConnection {
    /// Whether stateful reconnect is granted.
    pub use_stateful_reconnect: bool,
    /// The version in effect; 0 when the answer names none.
    pub negotiate_version: i32,
    /// The public id; in version 0 also the `id` of the transport requests.
    pub connection_id: String,
    /// The secret `id` of the transport requests; `None` in version 0, where [`NegotiatedConnection::token`] is the id.
    pub connection_token: Option<Secret>,
    /// A token for the transport requests that comes without a `url` (signalr-wire §3.4).
    pub access_token: Option<Secret>,
    /// Lifetime of the access token (11.0).
    pub token_lifetime_seconds: Option<i64>,
    /// The transports, in the order to be tried.
    pub available_transports: Vec<AvailableTransport>,
    /// Fields this version does not know, in order, to be handed on.
    pub unknown: Vec<UnknownField>,
}

/// A transport that a server offers.
#[derive(Debug, Clone, Default)]
pub struct AvailableTransport {
    /// Its name, possibly unknown; see [`Transport::from_name`].
    pub transport: String,
    /// Names of what it carries; see [`TransferFormat::from_name`].
    pub transfer_formats: Vec<String>,
    /// Fields this version does not know, in order, to be handed on.
    pub unknown: Vec<UnknownField>,
}

/// A redirect: negotiate again at `url`.
#[derive(Debug, Clone)]
pub struct Redirect {
    /// Where, without `/negotiate`; an absolute URL, not checked here.
    pub url: String,
    /// The token for there and for the transport.
    pub access_token: Option<Secret>,
    /// Whether stateful reconnect is granted (the final answer decides).
    pub use_stateful_reconnect: bool,
    /// The version named; 0 when none is.
    pub negotiate_version: i32,
    /// Fields this version does not know, in order, to be handed on.
    pub unknown: Vec<UnknownField>,
}

/// A field this version does not know, with its raw JSON.
#[derive(Debug, Clone)]
pub struct UnknownField {
    /// Its name.
    pub name: String,
    /// Its value as it was.
    pub value: Box<RawValue>,
}

/// Why a negotiate answer cannot be used. Texts follow the .NET client (signalr-wire §3.5).
#[derive(Debug, thiserror::Error)]
pub enum ResponseError {
    /// Longer than [`NEGOTIATE_ANSWER_BYTES_MAX`].
    #[error("the negotiate answer is longer than {NEGOTIATE_ANSWER_BYTES_MAX} bytes")]
    TooLarge,
    /// No JSON object, or a field of the wrong type.
    #[error("Invalid negotiation response received.")]
    Json(#[source] serde_json::Error),
    /// A required field is missing.
    #[error("Missing required property '{property}'.")]
    Missing {
        /// Its name.
        property: &'static str,
    },
    /// More transports or formats than [`TRANSPORTS_MAX`].
    #[error("the negotiate answer lists more than {TRANSPORTS_MAX} transports or formats")]
    TooManyTransports,
    /// A server of the older ASP.NET SignalR, which speaks another protocol.
    #[error(
        "Detected a connection attempt to an ASP.NET SignalR Server. This client only supports connecting to an \
         ASP.NET Core SignalR Server. See https://aka.ms/signalr-core-differences for details."
    )]
    LegacyServer,
}

impl NegotiateResponse {
    /// Reads the body of a negotiate answer.
    ///
    /// # Errors
    /// See [`ResponseError`].
    pub fn from_json(body: &[u8]) -> Result<Self, ResponseError> {
        read::from_json(body)
    }

    /// Writes the body of a negotiate answer, compact, in the reference's order; unknown fields come last.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        write::to_json(self)
    }
}

impl NegotiatedConnection {
    /// The `id` of the transport requests: the token, or in version 0 the connection id.
    #[must_use]
    pub fn token(&self) -> &str {
        match &self.connection_token {
            Some(token) if self.negotiate_version > 0 => token.expose(),
            _ => &self.connection_id,
        }
    }

    /// Whether it offers a transport.
    #[must_use]
    pub fn offers(&self, transport: Transport) -> bool {
        self.available_transports.iter().any(|offered| offered.is(transport))
    }
}

impl AvailableTransport {
    /// A transport with all it can carry.
    #[must_use]
    pub fn of(transport: Transport) -> Self {
        let formats = transport.transfer_formats().iter().map(|format| format.name().to_owned());
        Self { transport: transport.name().to_owned(), transfer_formats: formats.collect(), unknown: Vec::new() }
    }

    /// Whether it is that transport.
    #[must_use]
    pub fn is(&self, transport: Transport) -> bool {
        self.transport == transport.name()
    }

    /// Whether it carries a format.
    #[must_use]
    pub fn carries(&self, format: TransferFormat) -> bool {
        self.transfer_formats.iter().any(|name| name == format.name())
    }
}

//! Reads negotiate answers.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{AvailableTransport, NegotiateResponse, NegotiatedConnection, Redirect, ResponseError, UnknownField};
use crate::limits::{NEGOTIATE_ANSWER_BYTES_MAX, TRANSPORTS_MAX};
use crate::secret::Secret;

/// The fields of a JSON object in order, values unread.
struct Fields(Vec<UnknownField>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
        let mut fields = Vec::new();
        while let Some((name, value)) = map.next_entry::<String, Box<RawValue>>()? {
            fields.push(UnknownField { name, value });
        }
        Ok(Fields(fields))
    }
}

/// Every field that an answer can have; the last one met of each name.
#[derive(Default)]
struct Answer {
    error: Option<String>,
    url: Option<String>,
    access_token: Option<Secret>,
    use_stateful_reconnect: Option<bool>,
    negotiate_version: Option<i32>,
    connection_id: Option<String>,
    connection_token: Option<Secret>,
    token_lifetime_seconds: Option<i64>,
    available_transports: Option<Vec<AvailableTransport>>,
    unknown: Vec<UnknownField>,
    is_legacy: bool,
}

pub(super) fn from_json(body: &[u8]) -> Result<NegotiateResponse, ResponseError> {
    if body.len() > NEGOTIATE_ANSWER_BYTES_MAX {
        return Err(ResponseError::TooLarge);
    }
    Answer::read(body)?.into_response()
}

pub(super) fn looks_like_answer(body: &[u8]) -> bool {
    if body.len() > NEGOTIATE_ANSWER_BYTES_MAX {
        return false;
    }
    let Ok(Fields(fields)) = parse(strip_byte_order_mark(body)) else { return false };
    fields.iter().any(|field| matches!(field.name.as_str(), "availableTransports" | "url" | "error"))
}

impl Answer {
    fn read(body: &[u8]) -> Result<Self, ResponseError> {
        let Fields(fields) = parse(strip_byte_order_mark(body))?;
        let mut answer = Self::default();
        for field in fields {
            match field.name.as_str() {
                "error" => answer.error = value(&field)?,
                "url" => answer.url = value(&field)?,
                "accessToken" => answer.access_token = value::<String>(&field)?.map(Secret::from),
                "useStatefulReconnect" => answer.use_stateful_reconnect = value(&field)?,
                "negotiateVersion" => answer.negotiate_version = value(&field)?,
                "connectionId" => answer.connection_id = value(&field)?,
                "connectionToken" => answer.connection_token = value::<String>(&field)?.map(Secret::from),
                "tokenLifetimeSeconds" => answer.token_lifetime_seconds = value(&field)?,
                "availableTransports" => answer.available_transports = transports(&field)?,
                "ProtocolVersion" => answer.is_legacy = true,
                _ => answer.unknown.push(field),
            }
        }
        Ok(answer)
    }

    fn into_response(self) -> Result<NegotiateResponse, ResponseError> {
        if self.is_legacy {
            return Err(ResponseError::LegacyServer);
        }
        if let Some(error) = self.error.filter(|error| !error.is_empty()) {
            return Ok(NegotiateResponse::Error(error));
        }
        let use_stateful_reconnect = self.use_stateful_reconnect.unwrap_or(false);
        let negotiate_version = self.negotiate_version.unwrap_or(0);
        if let Some(url) = self.url.filter(|url| !url.is_empty()) {
            return Ok(NegotiateResponse::Redirect(Redirect {
                url,
                access_token: self.access_token,
                use_stateful_reconnect,
                negotiate_version,
                unknown: self.unknown,
            }));
        }
        let missing = |property| ResponseError::Missing { property };
        let connection_id = self.connection_id.ok_or(missing("connectionId"))?;
        let connection_token = self.connection_token.filter(|_| negotiate_version > 0);
        if negotiate_version > 0 && connection_token.is_none() {
            return Err(missing("connectionToken"));
        }
        Ok(NegotiateResponse::Connection(NegotiatedConnection {
            use_stateful_reconnect,
            negotiate_version,
            connection_id,
            connection_token,
            access_token: self.access_token,
            token_lifetime_seconds: self.token_lifetime_seconds,
            available_transports: self.available_transports.ok_or(missing("availableTransports"))?,
            unknown: self.unknown,
        }))
    }
}

/// JS clients take a byte-order mark, so does this reader.
fn strip_byte_order_mark(body: &[u8]) -> &[u8] {
    body.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(body)
}

fn parse(body: &[u8]) -> Result<Fields, ResponseError> {
    serde_json::from_slice(body).map_err(ResponseError::Json)
}

/// The value of a known field; null counts as absent.
fn value<'a, T: Deserialize<'a>>(field: &'a UnknownField) -> Result<Option<T>, ResponseError> {
    serde_json::from_str(field.value.get()).map_err(ResponseError::Json)
}

fn transports(field: &UnknownField) -> Result<Option<Vec<AvailableTransport>>, ResponseError> {
    let Some(entries) = value::<Vec<Fields>>(field)? else { return Ok(None) };
    if entries.len() > TRANSPORTS_MAX {
        return Err(ResponseError::TooManyTransports);
    }
    entries.into_iter().map(transport).collect::<Result<_, _>>().map(Some)
}

fn transport(Fields(fields): Fields) -> Result<AvailableTransport, ResponseError> {
    let (mut transport, mut formats, mut unknown) = (None, None, Vec::new());
    for field in fields {
        match field.name.as_str() {
            "transport" => transport = value::<String>(&field)?,
            "transferFormats" => formats = value::<Vec<String>>(&field)?,
            _ => unknown.push(field),
        }
    }
    let missing = |property| ResponseError::Missing { property };
    let transfer_formats = formats.ok_or(missing("transferFormats"))?;
    if transfer_formats.len() > TRANSPORTS_MAX {
        return Err(ResponseError::TooManyTransports);
    }
    Ok(AvailableTransport { transport: transport.ok_or(missing("transport"))?, transfer_formats, unknown })
}

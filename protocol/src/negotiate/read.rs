//! Reads negotiate answers.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{AvailableTransport, NegotiateResponse, NegotiatedConnection, Redirect, ResponseError, UnknownField};
use crate::limits::{NEGOTIATE_ANSWER_BYTES_MAX, TRANSPORTS_MAX};
use crate::secret::Secret;

/// The fields of a JSON object in order, values unread.
struct Fields<'a>(Vec<Field<'a>>);

/// One field, as it stands in the text.
struct Field<'a> {
    name: Cow<'a, str>,
    value: &'a RawValue,
}

impl Field<'_> {
    fn to_unknown(&self) -> UnknownField {
        UnknownField { name: self.name.to_string(), value: self.value.to_owned() }
    }
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Vec::with_capacity(8);
        while let Some((Name(name), value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            fields.push(Field { name, value });
        }
        Ok(Fields(fields))
    }
}

/// A string, copied only where it has escapes.
struct Name<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Name<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = Name<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Borrowed(name)))
    }

    fn visit_str<E>(self, name: &str) -> Result<Name<'de>, E> {
        Ok(Name(Cow::Owned(name.to_owned())))
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

impl Answer {
    fn read(body: &[u8]) -> Result<Self, ResponseError> {
        let Fields(fields) = parse(strip_byte_order_mark(body))?;
        let mut answer = Self::default();
        for field in fields {
            match &*field.name {
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
                _ => answer.unknown.push(field.to_unknown()),
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

fn parse(body: &[u8]) -> Result<Fields<'_>, ResponseError> {
    serde_json::from_slice(body).map_err(ResponseError::Json)
}

/// The value of a known field; null counts as absent.
fn value<'a, T: Deserialize<'a>>(field: &Field<'a>) -> Result<Option<T>, ResponseError> {
    serde_json::from_str(field.value.get()).map_err(ResponseError::Json)
}

fn transports(field: &Field<'_>) -> Result<Option<Vec<AvailableTransport>>, ResponseError> {
    let Some(entries) = value::<Vec<Fields<'_>>>(field)? else { return Ok(None) };
    if entries.len() > TRANSPORTS_MAX {
        return Err(ResponseError::TooManyTransports);
    }
    entries.into_iter().map(transport).collect::<Result<_, _>>().map(Some)
}

fn transport(Fields(fields): Fields<'_>) -> Result<AvailableTransport, ResponseError> {
    let (mut transport, mut formats, mut unknown) = (None, None, Vec::new());
    for field in fields {
        match &*field.name {
            "transport" => transport = value::<String>(&field)?,
            "transferFormats" => formats = value::<Vec<String>>(&field)?,
            _ => unknown.push(field.to_unknown()),
        }
    }
    let missing = |property| ResponseError::Missing { property };
    let transfer_formats = formats.ok_or(missing("transferFormats"))?;
    if transfer_formats.len() > TRANSPORTS_MAX {
        return Err(ResponseError::TooManyTransports);
    }
    Ok(AvailableTransport { transport: transport.ok_or(missing("transport"))?, transfer_formats, unknown })
}

//! Application values to payload bytes of the two hub protocols, and back, by serde.
//!
//! Invariant: arguments are always an array on the wire: a tuple or a list gives its elements, `()` gives none.

use bytes::Bytes;
use hubgate_protocol::HubProtocol;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::ClientError;

/// Writes arguments: a tuple, a list, or `()`.
pub(crate) fn arguments(protocol: HubProtocol, arguments: &impl Serialize) -> Result<Bytes, ClientError> {
    let written = value(protocol, arguments)?;
    let (null, empty): (&[u8], &'static [u8]) = match protocol {
        HubProtocol::Json => (b"null", b"[]"),
        HubProtocol::MessagePack => (&[0xc0], &[0x90]),
    };
    if written == null {
        return Ok(Bytes::from_static(empty));
    }
    match (protocol, written.first()) {
        (HubProtocol::Json, Some(b'[')) | (HubProtocol::MessagePack, Some(0x90..=0x9f | 0xdc | 0xdd)) => Ok(written),
        _ => Err(ClientError::Serialize("arguments must be a tuple or a list".to_owned())),
    }
}

/// Writes one value. In MessagePack structures become maps.
pub(crate) fn value(protocol: HubProtocol, value: &impl Serialize) -> Result<Bytes, ClientError> {
    let written = match protocol {
        HubProtocol::Json => serde_json::to_vec(value).map_err(|error| error.to_string()),
        HubProtocol::MessagePack => rmp_serde::to_vec_named(value).map_err(|error| error.to_string()),
    };
    written.map(Bytes::from).map_err(ClientError::Serialize)
}

/// Reads one value; an absent one (a Completion without result) as null.
pub(crate) fn read<T: DeserializeOwned>(protocol: HubProtocol, bytes: Option<&Bytes>) -> Result<T, ClientError> {
    let null: &[u8] = match protocol {
        HubProtocol::Json => b"null",
        HubProtocol::MessagePack => &[0xc0],
    };
    let bytes = bytes.map_or(null, |bytes| bytes.as_ref());
    let read = match protocol {
        HubProtocol::Json => serde_json::from_slice(bytes).map_err(|error| error.to_string()),
        HubProtocol::MessagePack => rmp_serde::from_slice(bytes).map_err(|error| error.to_string()),
    };
    read.map_err(ClientError::Deserialize)
}

/// Reads the arguments of a call: a tuple or a list; none as `()` too.
pub(crate) fn read_arguments<T: DeserializeOwned>(protocol: HubProtocol, arguments: &Bytes) -> Result<T, ClientError> {
    let read = read(protocol, Some(arguments));
    let empty = matches!(arguments.as_ref(), b"[]" | [0x90]);
    if read.is_err() && empty { self::read(protocol, None) } else { read }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_arrays() {
        assert_eq!(&arguments(HubProtocol::Json, &(1, "a")).unwrap()[..], b"[1,\"a\"]");
        assert_eq!(&arguments(HubProtocol::Json, &()).unwrap()[..], b"[]");
        assert_eq!(&arguments(HubProtocol::MessagePack, &()).unwrap()[..], b"\x90");
        assert_eq!(&arguments(HubProtocol::MessagePack, &(1, "a")).unwrap()[..], b"\x92\x01\xa1a");
        assert!(arguments(HubProtocol::Json, &5).is_err());
        assert!(arguments(HubProtocol::MessagePack, &"a").is_err());
        read_arguments::<()>(HubProtocol::Json, &Bytes::from_static(b"[]")).unwrap();
        read_arguments::<()>(HubProtocol::MessagePack, &Bytes::from_static(b"\x90")).unwrap();
        let (text,): (String,) = read_arguments(HubProtocol::Json, &Bytes::from_static(b"[\"x\"]")).unwrap();
        assert_eq!(text, "x");
    }
}

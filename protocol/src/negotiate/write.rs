//! Writes negotiate answers in the reference's property order (signalr-wire §3.2), never null.

use bytes::{BufMut, BytesMut};

use super::{AvailableTransport, NegotiateResponse, NegotiatedConnection, Redirect, UnknownField};
use crate::json::write_string;

pub(super) fn to_json(response: &NegotiateResponse) -> Vec<u8> {
    let mut object = Object::new();
    match response {
        NegotiateResponse::Error(error) => object.string("error", error),
        NegotiateResponse::Redirect(redirect) => write_redirect(redirect, &mut object),
        NegotiateResponse::Connection(connection) => write_connection(connection, &mut object),
    }
    object.end().to_vec()
}

fn write_redirect(redirect: &Redirect, object: &mut Object) {
    object.flag("useStatefulReconnect", redirect.use_stateful_reconnect);
    object.raw("negotiateVersion", &redirect.negotiate_version.to_string());
    object.string("url", &redirect.url);
    if let Some(token) = &redirect.access_token {
        object.string("accessToken", token.expose());
    }
    // The .NET server writes an empty list even here; clients ignore it.
    object.raw("availableTransports", "[]");
    object.unknown(&redirect.unknown);
}

fn write_connection(connection: &NegotiatedConnection, object: &mut Object) {
    object.flag("useStatefulReconnect", connection.use_stateful_reconnect);
    object.raw("negotiateVersion", &connection.negotiate_version.to_string());
    if let Some(token) = &connection.access_token {
        object.string("accessToken", token.expose());
    }
    object.string("connectionId", &connection.connection_id);
    if let Some(token) = connection.connection_token.as_ref().filter(|_| connection.negotiate_version > 0) {
        object.string("connectionToken", token.expose());
    }
    if let Some(seconds) = connection.token_lifetime_seconds {
        object.raw("tokenLifetimeSeconds", &seconds.to_string());
    }
    object.array("availableTransports", &connection.available_transports, write_transport);
    object.unknown(&connection.unknown);
}

fn write_transport(transport: &AvailableTransport, out: &mut BytesMut) {
    let mut object = Object::new();
    object.string("transport", &transport.transport);
    object.array("transferFormats", &transport.transfer_formats, |format, out| write_string(format, out));
    object.unknown(&transport.unknown);
    out.put_slice(&object.end());
}

/// A JSON object in the making.
struct Object {
    out: BytesMut,
}

impl Object {
    fn new() -> Self {
        Self { out: BytesMut::with_capacity(256) }
    }

    fn name(&mut self, name: &str) {
        self.out.put_u8(if self.out.is_empty() { b'{' } else { b',' });
        write_string(name, &mut self.out);
        self.out.put_u8(b':');
    }

    fn string(&mut self, name: &str, value: &str) {
        self.name(name);
        write_string(value, &mut self.out);
    }

    fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.out.put_slice(value.as_bytes());
    }

    /// Written only when set.
    fn flag(&mut self, name: &str, value: bool) {
        if value {
            self.raw(name, "true");
        }
    }

    fn array<T>(&mut self, name: &str, elements: &[T], write: impl Fn(&T, &mut BytesMut)) {
        self.name(name);
        self.out.put_u8(b'[');
        for (at, element) in elements.iter().enumerate() {
            if at > 0 {
                self.out.put_u8(b',');
            }
            write(element, &mut self.out);
        }
        self.out.put_u8(b']');
    }

    fn unknown(&mut self, fields: &[UnknownField]) {
        for field in fields.iter().filter(|field| field.value.get() != "null") {
            self.raw(&field.name, field.value.get());
        }
    }

    fn end(mut self) -> BytesMut {
        if self.out.is_empty() {
            self.out.put_u8(b'{');
        }
        self.out.put_u8(b'}');
        self.out
    }
}

//! Header fields on their way through: what is removed, what is believed, what is added.
//!
//! Why: a header that means one connection must not reach the next one, and a header that tells a hub who its client is
//! must come from someone who may tell (rule B3). The order of the steps is the point: what `Connection` names goes
//! first, so that it can never remove what the gateway sets.
//!
//! Invariant: behind [`to_backend`], `X-Forwarded-For`, `-Proto` and `-Host` are always there, and their last link is
//! this gateway's own observation.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};

use http::header::{
    ACCEPT, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, COOKIE, HOST, HeaderMap, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, WWW_AUTHENTICATE,
};
use thiserror::Error;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Fields that mean one connection only (RFC 9110 §7.6.1 and those that older servers know).
const HOP_BY_HOP: [HeaderName; 10] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

/// Why a request is answered 400 by its headers alone (rule B2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Error {
    /// There is more than one `Host`, or it differs from `:authority`.
    #[error("the request names more than one host")]
    Hosts,
    /// There are both `Content-Length` and `Transfer-Encoding`.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    Framing,
    /// There are several lengths, or one that is no number.
    #[error("the request has an unclear Content-Length")]
    Length,
}

/// What the gateway itself knows about a request.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The address that connected.
    pub peer: IpAddr,
    /// Whether it is one of `trusted_proxies`.
    pub trusted: bool,
    /// Whether it came over TLS.
    pub https: bool,
    /// The `Host` or `:authority` as received.
    pub host: Option<&'a HeaderValue>,
}

/// Refuses what two servers could take for different requests (rule B2).
///
/// # Errors
/// [`Error`]: answered 400.
pub fn check(headers: &HeaderMap, authority: Option<&str>) -> Result<(), Error> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Error::Hosts);
    }
    if let (Some(host), Some(authority)) = (host, authority)
        && !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes())
    {
        return Err(Error::Hosts);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(length) = lengths.next() {
        if headers.contains_key(TRANSFER_ENCODING) {
            return Err(Error::Framing);
        }
        let is_number = !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
        if !is_number || lengths.any(|other| other != length) {
            return Err(Error::Length);
        }
    }
    Ok(())
}

/// Makes a client's headers those of the request to the backend (rule B3).
///
/// `host` is what the backend shall see as `Host`: the received one, or the server's own (`host = "backend"`).
pub fn to_backend(headers: &mut HeaderMap, incoming: &Incoming<'_>, host: Option<HeaderValue>) {
    remove_hop_by_hop(headers);
    if !incoming.trusted {
        remove_forwarding(headers);
    }
    add_link(headers, incoming.peer.to_canonical());
    if !headers.contains_key(X_FORWARDED_PROTO) {
        let scheme = if incoming.https { "https" } else { "http" };
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(scheme));
    }
    if let (false, Some(received)) = (headers.contains_key(X_FORWARDED_HOST), incoming.host) {
        headers.insert(X_FORWARDED_HOST, received.clone());
    }
    match host {
        Some(host) if headers.get(HOST) == Some(&host) => {}
        Some(host) => drop(headers.insert(HOST, host)),
        None => drop(headers.remove(HOST)),
    }
    join_cookies(headers);
}

/// Makes a backend's headers those of the answer to the client.
pub fn to_client(headers: &mut HeaderMap) {
    remove_hop_by_hop(headers);
}

/// Takes away what the gateway's own upgrade to a hub must not repeat of the client's request (rule D4).
///
/// `Sec-WebSocket-Protocol` stays. The caller sets `Connection`, `Upgrade`, key and version.
pub fn to_hub_upgrade(headers: &mut HeaderMap) {
    for name in [ACCEPT, CONTENT_LENGTH, http::header::CONTENT_TYPE, SEC_WEBSOCKET_EXTENSIONS] {
        headers.remove(name);
    }
    for name in [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, SEC_WEBSOCKET_ACCEPT] {
        headers.remove(name);
    }
}

/// Takes away everything that proves who the client is, for requests to another origin (rule B7).
pub fn remove_credentials(headers: &mut HeaderMap) {
    headers.remove(AUTHORIZATION);
    headers.remove(COOKIE);
}

/// Tells whether an answer binds a user to the connection it came on, which then must not be shared (rule D3).
pub fn binds_connection(headers: &HeaderMap) -> bool {
    headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok()).any(|challenges| {
        challenges.split(',').any(|challenge| {
            let scheme = challenge.split_whitespace().next().unwrap_or_default();
            scheme.eq_ignore_ascii_case("ntlm") || scheme.eq_ignore_ascii_case("negotiate")
        })
    })
}

/// Joins `Cookie` fields, which HTTP/2 may split, with `; ` (rule B3).
pub fn join_cookies(headers: &mut HeaderMap) {
    join(headers, &COOKIE, b"; ");
}

fn join(headers: &mut HeaderMap, name: &HeaderName, separator: &[u8]) {
    if headers.get_all(name).iter().nth(1).is_none() {
        return;
    }
    let values: Vec<&[u8]> = headers.get_all(name).iter().map(HeaderValue::as_bytes).collect();
    if let Ok(joined) = HeaderValue::from_bytes(&values.join(separator)) {
        headers.insert(name, joined);
    }
}

fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        // Both are in the list anyway.
        .filter(|name| !name.eq_ignore_ascii_case(b"upgrade") && !name.eq_ignore_ascii_case(b"keep-alive"))
        .filter_map(|name| HeaderName::from_bytes(name).ok())
        .filter(|name| name != HOST && name != CONTENT_LENGTH);
    // Most requests have few of them: looking at the names that are there is cheaper than for all that could be.
    let present = headers.keys().filter(|name| HOP_BY_HOP.contains(name)).cloned();
    let doomed: Vec<HeaderName> = named.chain(present).collect();
    for name in doomed {
        headers.remove(name);
    }
}

/// Drops every spelling of the fields that only a trusted proxy may send.
fn remove_forwarding(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| is_forwarding(name.as_str())).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// Servers behind CGI-like interfaces take `_` for `-`, so both spellings count.
fn is_forwarding(name: &str) -> bool {
    let is = |wanted: &str| {
        name.len() >= wanted.len()
            && wanted.bytes().zip(name.bytes()).all(|(want, have)| want == have || want == b'-' && have == b'_')
    };
    match name.as_bytes().first() {
        Some(b'x') => is("x-forwarded-") || is("x-original-") || name.len() == 9 && is("x-real-ip"),
        Some(b'f') => name == "forwarded",
        _ => false,
    }
}

/// Appends the peer to the chain of addresses.
fn add_link(headers: &mut HeaderMap, peer: IpAddr) {
    join(headers, &X_FORWARDED_FOR, b", ");
    let mut chain = match headers.get(X_FORWARDED_FOR).map(HeaderValue::to_str) {
        Some(Ok(before)) if !before.trim().is_empty() => format!("{before}, "),
        _ => String::new(),
    };
    match peer {
        IpAddr::V4(peer) => push_ipv4(&mut chain, peer),
        IpAddr::V6(_) => drop(write!(chain, "{peer}")),
    }
    if let Ok(value) = HeaderValue::try_from(chain) {
        headers.insert(X_FORWARDED_FOR, value);
    }
}

/// What `Display` writes, at a tenth of its cost.
fn push_ipv4(out: &mut String, address: Ipv4Addr) {
    for (at, octet) in address.octets().into_iter().enumerate() {
        if at > 0 {
            out.push('.');
        }
        for (digit, least) in [(octet / 100, 100), (octet / 10 % 10, 10), (octet % 10, 0)] {
            if octet >= least {
                out.push(char::from(b'0' + digit));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(lines: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(
                HeaderName::from_bytes(name.as_bytes()).expect("a name"),
                HeaderValue::from_str(value).expect("a value"),
            );
        }
        headers
    }

    fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
        let mut lines: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned())).collect();
        lines.sort();
        lines
    }

    fn sent(received: &[(&str, &str)], trusted: bool) -> Vec<(String, String)> {
        let mut headers = map(received);
        let host = HeaderValue::from_static("hubs.example:8080");
        let peer = "::ffff:203.0.113.9".parse().expect("an address");
        let incoming = Incoming { peer, trusted, https: true, host: Some(&host) };
        to_backend(&mut headers, &incoming, Some(host.clone()));
        lines(&headers)
    }

    fn expected(more: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut lines: Vec<(String, String)> =
            more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        for (name, value) in [
            ("host", "hubs.example:8080"),
            ("x-forwarded-for", "203.0.113.9"),
            ("x-forwarded-host", "hubs.example:8080"),
            ("x-forwarded-proto", "https"),
        ] {
            if !more.iter().any(|(other, _)| *other == name) {
                lines.push((name.to_owned(), value.to_owned()));
            }
        }
        lines.sort();
        lines
    }

    #[test]
    fn er_b3_removes_hop_by_hop_and_what_connection_names() {
        let received = [
            ("connection", "keep-alive, X-Custom , upgrade"),
            ("connection", "x-second"),
            ("keep-alive", "timeout=5"),
            ("x-custom", "1"),
            ("x-second", "2"),
            ("te", "trailers"),
            ("trailer", "x"),
            ("upgrade", "h2c"),
            ("http2-settings", "x"),
            ("proxy-authorization", "secret"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("x-kept", "3"),
        ];
        assert_eq!(sent(&received, false), expected(&[("x-kept", "3")]));
    }

    #[test]
    fn er_b3_connection_cannot_name_away_what_the_gateway_sets() {
        let received = [
            ("connection", "x-forwarded-for, x-forwarded-proto, x-forwarded-host, host, content-length"),
            ("content-length", "3"),
        ];
        assert_eq!(sent(&received, false), expected(&[("content-length", "3")]));
        assert_eq!(sent(&received, true), expected(&[("content-length", "3")]));
    }

    #[test]
    fn er_b3_forwarding_headers_of_strangers_are_dropped() {
        let received = [
            ("forwarded", "for=1.1.1.1"),
            ("x-forwarded-for", "1.1.1.1"),
            ("X-Forwarded-Proto", "http"),
            ("x-forwarded-host", "evil"),
            ("x-forwarded-prefix", "/x"),
            ("x_forwarded_for", "1.1.1.1"),
            ("x-real-ip", "1.1.1.1"),
            ("x-original-for", "1.1.1.1"),
            ("x-original-url", "/admin"),
            ("x-forward", "kept"),
            ("x-real-ip-address", "kept"),
        ];
        assert_eq!(sent(&received, false), expected(&[("x-forward", "kept"), ("x-real-ip-address", "kept")]));
    }

    #[test]
    fn er_b3_forwarding_headers_of_trusted_proxies_are_continued() {
        let received = [
            ("x-forwarded-for", "198.51.100.1"),
            ("x-forwarded-for", "10.0.0.1"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "www.example"),
            ("x-real-ip", "198.51.100.1"),
            ("forwarded", "for=198.51.100.1"),
        ];
        let more = [
            ("x-forwarded-for", "198.51.100.1, 10.0.0.1, 203.0.113.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "www.example"),
            ("x-real-ip", "198.51.100.1"),
            ("forwarded", "for=198.51.100.1"),
        ];
        assert_eq!(sent(&received, true), expected(&more));
    }

    #[test]
    fn er_b3_cookies_split_by_http2_are_joined_and_host_follows_the_rule() {
        let received = [("cookie", "a=1"), ("cookie", "b=2; c=3"), ("host", "other")];
        assert_eq!(sent(&received, false), expected(&[("cookie", "a=1; b=2; c=3")]));
        let mut headers = map(&[("host", "client.example")]);
        let incoming = Incoming { peer: "::1".parse().expect("an address"), trusted: false, https: false, host: None };
        to_backend(&mut headers, &incoming, Some(HeaderValue::from_static("10.0.0.1:5000")));
        assert_eq!(headers[HOST], "10.0.0.1:5000");
        assert_eq!(headers["x-forwarded-for"], "::1");
    }

    #[test]
    fn er_b3_addresses_are_written_as_usual() {
        for address in [[0, 0, 0, 0], [127, 0, 0, 1], [10, 99, 100, 101], [255, 9, 19, 209]] {
            let address = Ipv4Addr::from(address);
            let mut text = String::new();
            push_ipv4(&mut text, address);
            assert_eq!(text, address.to_string());
        }
    }

    #[test]
    fn er_b2_unclear_requests_are_refused() {
        let none: Option<&str> = None;
        for (lines, authority, expected) in [
            (&[("host", "a"), ("host", "a")][..], none, Err(Error::Hosts)),
            (&[("host", "a")], Some("b"), Err(Error::Hosts)),
            (&[("host", "A")], Some("a"), Ok(())),
            (&[("content-length", "3"), ("transfer-encoding", "chunked")], none, Err(Error::Framing)),
            (&[("content-length", "3"), ("content-length", "4")], none, Err(Error::Length)),
            (&[("content-length", "3"), ("content-length", "3")], none, Ok(())),
            (&[("content-length", "+3")], none, Err(Error::Length)),
            (&[("content-length", "3, 3")], none, Err(Error::Length)),
            (&[("content-length", "")], none, Err(Error::Length)),
            (&[("transfer-encoding", "chunked")], none, Ok(())),
            (&[], none, Ok(())),
        ] {
            assert_eq!(check(&map(lines), authority), expected, "{lines:?} {authority:?}");
        }
    }

    #[test]
    fn er_d4_the_hub_upgrade_is_our_own_request() {
        let mut headers = map(&[
            ("accept", "text/event-stream"),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("sec-websocket-key", "x"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-protocol", "chat"),
            ("content-length", "0"),
            ("origin", "https://a.example"),
            ("authorization", "Bearer x"),
        ]);
        to_hub_upgrade(&mut headers);
        let names: Vec<String> = lines(&headers).into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["authorization", "origin", "sec-websocket-protocol"]);
    }

    #[test]
    fn er_d3_connection_bound_authentication_is_seen() {
        for (value, expected) in [
            ("NTLM", true),
            ("Negotiate TlRMTVNTUAAC", true),
            ("Basic realm=\"x\", negotiate", true),
            ("Bearer", false),
            ("Basic realm=\"ntlm\"", false),
        ] {
            assert_eq!(binds_connection(&map(&[("www-authenticate", value)])), expected, "{value}");
        }
    }

    #[test]
    fn er_b7_credentials_do_not_cross_origins() {
        let mut headers = map(&[("authorization", "x"), ("cookie", "a=1"), ("accept", "*/*")]);
        remove_credentials(&mut headers);
        assert_eq!(lines(&headers).len(), 1);
    }
}

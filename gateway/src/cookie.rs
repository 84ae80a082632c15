//! Cookies: the gateway's own for affinity, and those of the hub's negotiate.
//!
//! Why: Blazor Server reconnects by a new negotiate that must reach its circuit's process, so a route may mark the
//! browser with its backend (rule D6). And a balancer in front of the hubs may mark the negotiate by a cookie that the
//! connect needs, while some clients carry no cookies to their WebSocket (rule D2, signalr-wire §14.4).
//!
//! Reading is tolerant: JS ≥ 8 in Node sends back whole `Set-Cookie` lines, attributes included.
//!
//! Invariant: the affinity cookie tells nothing about a backend; it is a keyed digest of it.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{COOKIE, HeaderMap, HeaderValue, SET_COOKIE};

use crate::config::Digest;
use crate::token::TokenKeys;

const AFFINITY_PREFIX: &str = "hubgate-affinity-";
const AFFINITY_LABEL: &str = "hubgate affinity 1";

/// The most bytes of a hub's cookies that are kept between negotiate and connect.
const HUB_COOKIES_BYTES_MAX: usize = 8 * 1024;

/// The pairs of a `Cookie` header, tolerantly: what has no `=` is left out.
pub fn pairs(header: &str) -> impl Iterator<Item = (&str, &str)> {
    header.split(';').filter_map(|part| {
        let (name, value) = part.split_once('=')?;
        let name = name.trim();
        (!name.is_empty()).then_some((name, value.trim()))
    })
}

/// Tells whether a name is an attribute of `Set-Cookie` that a client sent back as a cookie.
pub fn is_attribute(name: &str) -> bool {
    let attributes =
        ["path", "domain", "expires", "max-age", "samesite", "secure", "httponly", "partitioned", "priority"];
    attributes.iter().any(|attribute| name.eq_ignore_ascii_case(attribute))
}

/// Tells whether a cookie is the gateway's own.
pub fn is_ours(name: &str) -> bool {
    name.starts_with(AFFINITY_PREFIX)
}

/// Finds the backend that a request's affinity cookie for `route` names, among `candidates` (rule D6).
pub fn affine_backend(
    headers: &HeaderMap,
    keys: &TokenKeys,
    route: Digest,
    candidates: impl IntoIterator<Item = Digest>,
) -> Option<Digest> {
    let wanted = affinity_name(route);
    let cookies = headers.get_all(COOKIE).iter().filter_map(|header| header.to_str().ok());
    let value = cookies.flat_map(pairs).find(|(name, _)| *name == wanted).map(|(_, value)| value)?;
    let value = URL_SAFE_NO_PAD.decode(value).ok()?;
    candidates.into_iter().find(|backend| {
        keys.marks(AFFINITY_LABEL, &mark_data(route, *backend)).any(|mark| mark.as_slice() == value.as_slice())
    })
}

/// The `Set-Cookie` that brings a browser back to `backend` (rule D6); `None` without a key.
///
/// A session cookie for the whole host; over TLS it also goes with requests from pages of other sites.
pub fn set_affinity(keys: &TokenKeys, route: Digest, backend: Digest, https: bool) -> Option<HeaderValue> {
    let mark = keys.marks(AFFINITY_LABEL, &mark_data(route, backend)).next()?;
    let more = if https { "; Secure; SameSite=None" } else { "" };
    let text = format!("{}={}; Path=/; HttpOnly{more}", affinity_name(route), URL_SAFE_NO_PAD.encode(mark));
    HeaderValue::try_from(text).ok()
}

/// Takes the gateway's own cookies out of a request before it goes to a backend.
pub fn remove_ours(headers: &mut HeaderMap) {
    let has_ours = |value: &HeaderValue| value.to_str().is_ok_and(|text| text.contains(AFFINITY_PREFIX));
    if !headers.get_all(COOKIE).iter().any(has_ours) {
        return;
    }
    let lines: Vec<&str> = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
    let parts = lines.iter().flat_map(|line| line.split(';')).map(str::trim);
    let kept: Vec<&str> = parts.filter(|part| !part.is_empty() && !is_ours(part)).collect();
    match HeaderValue::try_from(kept.join("; ")) {
        Ok(joined) if !joined.is_empty() => drop(headers.insert(COOKIE, joined)),
        _ => drop(headers.remove(COOKIE)),
    }
}

fn affinity_name(route: Digest) -> String {
    format!("{AFFINITY_PREFIX}{route}")
}

fn mark_data(route: Digest, backend: Digest) -> [u8; 2 * Digest::BYTES] {
    let mut data = [0; 2 * Digest::BYTES];
    let bytes = route.to_bytes().into_iter().chain(backend.to_bytes());
    data.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    data
}

/// The cookies that a hub's negotiate answer set, for the connect that belongs to it (rule D2).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HubCookies(Vec<(Box<str>, Box<str>)>);

impl HubCookies {
    /// Reads the `Set-Cookie` lines of a negotiate answer; cookies that are deleted there, and what exceeds 8 KiB in
    /// all, are left out.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut cookies = Self::default();
        let mut room = HUB_COOKIES_BYTES_MAX;
        for line in headers.get_all(SET_COOKIE).iter().filter_map(|value| value.to_str().ok()) {
            let (first, attributes) = line.split_once(';').unwrap_or((line, ""));
            let Some((name, value)) = pairs(first).next() else { continue };
            cookies.0.retain(|(other, _)| **other != *name);
            let size = name.len() + value.len() + 3;
            if is_deletion(attributes) || size > room {
                continue;
            }
            room -= size;
            cookies.0.push((name.into(), value.into()));
        }
        cookies
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds these cookies to the connect's request, but for names that the client sends itself.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        if self.0.is_empty() {
            return;
        }
        let lines: Vec<&str> = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).collect();
        let is_sent = |name: &str| lines.iter().flat_map(|line| pairs(line)).any(|(other, _)| other == name);
        let missing = self.0.iter().filter(|(name, _)| !is_sent(name)).map(|(name, value)| format!("{name}={value}"));
        let all: Vec<String> =
            lines.iter().map(|line| line.trim_end_matches([';', ' ']).to_owned()).chain(missing).collect();
        if let Ok(joined) = HeaderValue::try_from(all.join("; ")) {
            headers.insert(COOKIE, joined);
        }
    }
}

impl fmt::Debug for HubCookies {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "HubCookies({})", self.0.len())
    }
}

fn is_deletion(attributes: &str) -> bool {
    pairs(attributes).any(|(name, value)| {
        let no_age = name.eq_ignore_ascii_case("max-age") && value.parse::<i64>().is_ok_and(|age| age <= 0);
        no_age || name.eq_ignore_ascii_case("expires") && value.contains("1970")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    fn keys(letter: &str) -> TokenKeys {
        TokenKeys::new(&[Secret::from(letter.repeat(32))]).expect("keys")
    }

    fn with_cookies(lines: &[&'static str]) -> HeaderMap {
        lines.iter().map(|line| (COOKIE, HeaderValue::from_static(line))).collect()
    }

    fn sent_back(set: &HeaderValue) -> HeaderMap {
        let pair = set.to_str().expect("text").split(';').next().expect("a pair").to_owned();
        HeaderMap::from_iter([(COOKIE, HeaderValue::try_from(format!("x=1; {pair}")).expect("a value"))])
    }

    #[test]
    fn er_d6_the_cookie_leads_back_to_its_backend_only() {
        let (route, other) = (Digest::of("r", [b"1".as_slice()]), Digest::of("r", [b"2".as_slice()]));
        let backends = [Digest::of("b", [b"1".as_slice()]), Digest::of("b", [b"2".as_slice()])];
        let set = set_affinity(&keys("a"), route, backends[1], false).expect("a cookie");
        let request = sent_back(&set);
        assert_eq!(affine_backend(&request, &keys("a"), route, backends), Some(backends[1]));
        assert_eq!(affine_backend(&request, &keys("a"), route, [backends[0]]), None, "gone from the pool");
        assert_eq!(affine_backend(&request, &keys("b"), route, backends), None, "another key");
        assert_eq!(affine_backend(&request, &keys("a"), other, backends), None, "another route");
        assert_eq!(affine_backend(&with_cookies(&["x=1"]), &keys("a"), route, backends), None);
        assert!(!set.to_str().expect("text").contains(&backends[1].to_string()), "opaque");
    }

    #[test]
    fn er_d6_over_tls_the_cookie_also_serves_other_sites() {
        let (route, backend) = (Digest::of("r", []), Digest::of("b", []));
        let plain = set_affinity(&keys("a"), route, backend, false).expect("a cookie");
        let tls = set_affinity(&keys("a"), route, backend, true).expect("a cookie");
        assert!(plain.to_str().expect("text").ends_with("; Path=/; HttpOnly"));
        assert!(tls.to_str().expect("text").ends_with("; Path=/; HttpOnly; Secure; SameSite=None"));
    }

    #[test]
    fn er_d6_backends_never_see_the_cookie() {
        let mut headers = with_cookies(&["a=1; hubgate-affinity-00ff=x; b=2", "hubgate-affinity-11=y", "c"]);
        remove_ours(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2; c"]);
        let mut headers = with_cookies(&["hubgate-affinity-00ff=x"]);
        remove_ours(&mut headers);
        assert!(!headers.contains_key(COOKIE));
        let mut headers = with_cookies(&["a = odd ;; b"]);
        remove_ours(&mut headers);
        assert_eq!(headers[COOKIE], "a = odd ;; b", "untouched without ours");
    }

    #[test]
    fn er_d2_cookies_of_the_negotiate_go_with_the_connect() {
        let answer: HeaderMap = [
            "sticky=abc; Path=/; HttpOnly",
            "twice=1",
            "twice=2; SameSite=Lax",
            "gone=x; Max-Age=0",
            "past=; expires=Thu, 01 Jan 1970 00:00:00 GMT",
            "no pair",
        ]
        .into_iter()
        .map(|line| (SET_COOKIE, HeaderValue::from_static(line)))
        .collect();
        let cookies = HubCookies::of(&answer);
        for (client, expected) in [
            (&[][..], "sticky=abc; twice=2"),
            (&["user=u"], "user=u; sticky=abc; twice=2"),
            (&["sticky=abc; Path=/; HttpOnly; "], "sticky=abc; Path=/; HttpOnly; twice=2"),
            (&["a=1", "twice=3"], "a=1; twice=3; sticky=abc"),
        ] {
            let mut headers = with_cookies(client);
            cookies.add_to(&mut headers);
            assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), [expected], "{client:?}");
        }
        assert!(!format!("{cookies:?}").contains("abc"));
    }

    #[test]
    fn er_d2_kept_cookies_are_bounded() {
        let line = HeaderValue::try_from(format!("big={}", "x".repeat(HUB_COOKIES_BYTES_MAX))).expect("a value");
        assert!(HubCookies::of(&HeaderMap::from_iter([(SET_COOKIE, line)])).is_empty());
    }

    #[test]
    fn reads_tolerantly() {
        let all: Vec<(&str, &str)> = pairs(" a=1;b = 2 ; ;c; =x; d=e=f; g=\"q\"").collect();
        assert_eq!(all, [("a", "1"), ("b", "2"), ("d", "e=f"), ("g", "\"q\"")]);
    }
}

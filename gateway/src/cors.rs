//! Browsers of other origins: what the gateway's own answers tell them.
//!
//! Why: pre-flights and negotiates are answered by the backend, whose policy counts; polls, POSTs, event streams and
//! refusals are answered here and must say the same, or a browser hides them from its page (rule C1). The gateway
//! never makes up a permission: it repeats what the backend last said to this origin, or what the route's own `cors`
//! says.
//!
//! Invariant: an origin gets only headers that the backend, or the route's configuration, gave to that very origin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, HeaderMap, HeaderName,
    HeaderValue, ORIGIN, VARY,
};

use crate::config::{Cors, Digest};

/// The most bytes of one remembered answer; a larger one is not remembered.
const ANSWER_BYTES_MAX: usize = 4 * 1024;

/// The `Access-Control-*` and `Vary` fields of an answer; cheap to share with a connection.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CorsHeaders(Arc<[(HeaderName, HeaderValue)]>);

impl CorsHeaders {
    /// Takes them from an answer; `None` if it permits nothing or says too much.
    pub fn of(answer: &HeaderMap) -> Option<Self> {
        let fields: Vec<(HeaderName, HeaderValue)> = answer
            .iter()
            .filter(|(name, _)| is_cors(name) || **name == VARY)
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let bytes: usize = fields.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        let permits = fields.iter().any(|(name, _)| is_cors(name));
        (permits && bytes <= ANSWER_BYTES_MAX).then(|| Self(fields.into()))
    }

    /// Writes them into an answer of the gateway.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in self.0.iter() {
            headers.append(name, value.clone());
        }
    }

    /// Tells whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn is_cors(name: &HeaderName) -> bool {
    name.as_str().starts_with("access-control-")
}

/// Takes the backend's own fields out of an answer, where the route's `cors` speaks instead.
pub fn remove(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers.keys().filter(|name| is_cors(name)).cloned().collect();
    for name in named {
        headers.remove(name);
    }
}

/// Tells whether a request is a pre-flight.
pub fn is_preflight(method: &http::Method, headers: &HeaderMap) -> bool {
    *method == http::Method::OPTIONS
        && headers.contains_key(ORIGIN)
        && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

type Key = (Digest, Box<str>, Box<[u8]>);

/// What backends last said to each origin, per route and hub path; bounded.
///
/// Two generations: what is asked for moves to the young one, and when that is full the old one goes. A connection
/// should keep its own copy, so that a flood of origins cannot take it away.
#[derive(Debug)]
pub struct CorsMemory {
    generations: Mutex<Generations>,
    answers_max: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Key, CorsHeaders>,
    old: HashMap<Key, CorsHeaders>,
}

impl CorsMemory {
    /// Holds at most `answers_max` answers (`limits.cors_answers_max`).
    pub fn new(answers_max: usize) -> Self {
        Self { generations: Mutex::default(), answers_max: answers_max.max(2) }
    }

    /// Notes what the backend answered to a negotiate or pre-flight of `origin`, and gives it back.
    ///
    /// `hub` is the hub path ([`crate::path::NormalPath::hub`] form). An answer that permits nothing forgets what was
    /// permitted before.
    pub fn note(&self, route: Digest, hub: &str, origin: &HeaderValue, answer: &HeaderMap) -> Option<CorsHeaders> {
        let key = key(route, hub, origin);
        let fields = CorsHeaders::of(answer);
        let mut generations = self.lock();
        match &fields {
            Some(fields) => generations.insert(key, fields.clone(), self.answers_max / 2),
            None => {
                generations.young.remove(&key);
                generations.old.remove(&key);
            }
        }
        fields
    }

    /// What the backend last permitted to `origin` there.
    pub fn find(&self, route: Digest, hub: &str, origin: &HeaderValue) -> Option<CorsHeaders> {
        let key = key(route, hub, origin);
        let mut generations = self.lock();
        if let Some(fields) = generations.young.get(&key) {
            return Some(fields.clone());
        }
        let fields = generations.old.remove(&key)?;
        generations.insert(key, fields.clone(), self.answers_max / 2);
        Some(fields)
    }

    /// How many answers are remembered, for the metrics.
    pub fn len(&self) -> usize {
        let generations = self.lock();
        generations.young.len() + generations.old.len()
    }

    /// Tells whether nothing is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn insert(&mut self, key: Key, fields: CorsHeaders, each_max: usize) {
        self.old.remove(&key);
        if self.young.len() >= each_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, fields);
    }
}

fn key(route: Digest, hub: &str, origin: &HeaderValue) -> Key {
    (route, hub.into(), origin.as_bytes().into())
}

impl Cors {
    /// What the route's own `cors` says to an actual request of `origin`; another origin gets only `Vary`.
    pub fn answer(&self, origin: &HeaderValue) -> CorsHeaders {
        let mut fields = Vec::new();
        if self.allows(origin) {
            fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone()));
            if self.credentials {
                fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true")));
            }
        }
        fields.push((VARY, HeaderValue::from_static("Origin")));
        CorsHeaders(fields.into())
    }

    /// What the route's own `cors` answers to a pre-flight (status 204).
    pub fn preflight(&self, origin: &HeaderValue) -> CorsHeaders {
        let mut fields = self.answer(origin).0.to_vec();
        if self.allows(origin) {
            fields.extend(list(ACCESS_CONTROL_ALLOW_METHODS, self.methods.iter().map(http::Method::as_str)));
            fields.extend(list(ACCESS_CONTROL_ALLOW_HEADERS, self.headers.iter().map(HeaderName::as_str)));
            let age = self.max_age.map(|age| (ACCESS_CONTROL_MAX_AGE, HeaderValue::from(age.as_secs())));
            fields.extend(age);
        }
        CorsHeaders(fields.into())
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.origins.iter().any(|allowed| allowed.as_str().as_bytes() == origin.as_bytes())
    }
}

fn list<'a>(name: HeaderName, words: impl Iterator<Item = &'a str>) -> Option<(HeaderName, HeaderValue)> {
    let text = words.collect::<Vec<_>>().join(", ");
    HeaderValue::try_from(text).ok().filter(|value| !value.is_empty()).map(|value| (name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Environment};

    fn answer(lines: &[(&'static str, &str)]) -> HeaderMap {
        lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().expect("a value"))).collect()
    }

    fn written(fields: Option<CorsHeaders>) -> Vec<String> {
        let mut headers = HeaderMap::new();
        fields.unwrap_or_default().add_to(&mut headers);
        headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().expect("text"))).collect()
    }

    fn origin(text: &str) -> HeaderValue {
        text.parse().expect("a value")
    }

    #[test]
    fn er_c1_repeats_exactly_what_the_backend_said_to_this_origin_on_this_route() {
        let memory = CorsMemory::new(10);
        let (route, other) = (Digest::of("r", []), Digest::of("s", []));
        let (page, stranger) = (origin("https://a.example"), origin("https://b.example"));
        let said = [
            ("access-control-allow-origin", "https://a.example"),
            ("access-control-allow-credentials", "true"),
            ("vary", "Origin"),
            ("content-type", "application/json"),
            ("set-cookie", "secret"),
        ];
        memory.note(route, "/CHAT", &page, &answer(&said));
        let expected = [
            "access-control-allow-origin: https://a.example",
            "access-control-allow-credentials: true",
            "vary: Origin",
        ];
        assert_eq!(written(memory.find(route, "/CHAT", &page)), expected);
        assert_eq!(memory.find(route, "/CHAT", &stranger), None);
        assert_eq!(memory.find(route, "/OTHER", &page), None);
        assert_eq!(memory.find(other, "/CHAT", &page), None);
    }

    #[test]
    fn er_c1_the_last_answer_counts() {
        let memory = CorsMemory::new(10);
        let (route, page) = (Digest::of("r", []), origin("https://a.example"));
        memory.note(route, "", &page, &answer(&[("access-control-allow-origin", "*")]));
        memory.note(route, "", &page, &answer(&[("access-control-allow-origin", "https://a.example")]));
        assert_eq!(written(memory.find(route, "", &page)), ["access-control-allow-origin: https://a.example"]);
        memory.note(route, "", &page, &answer(&[("vary", "Origin")]));
        assert_eq!(memory.find(route, "", &page), None, "a permission that is taken back");
    }

    #[test]
    fn er_c1_memory_is_bounded_and_keeps_what_is_used() {
        let memory = CorsMemory::new(10);
        let (route, page) = (Digest::of("r", []), origin("https://a.example"));
        let said = answer(&[("access-control-allow-origin", "*")]);
        memory.note(route, "", &page, &said);
        for number in 0..1_000 {
            memory.note(route, "", &origin(&format!("https://{number}.example")), &said);
            assert!(memory.find(route, "", &page).is_some(), "{number}");
            assert!(memory.len() <= 10, "{number}");
        }
        let large = answer(&[("access-control-allow-headers", &"x".repeat(ANSWER_BYTES_MAX))]);
        assert_eq!(memory.note(route, "", &page, &large), None);
    }

    fn policy() -> Cors {
        let text = r#"
            listener = [{ address = "127.0.0.1:0" }]
            backend.app.servers = "http://127.0.0.1:1"
            [[route]]
            name = "all"
            hubs = "/"
            backend = "app"
            cors = { origins = ["https://a.example", "http://localhost:3000"], max_age = "10 min" }
        "#;
        let config = Config::parse(text, std::path::Path::new(""), &Environment::none()).expect("valid");
        config.routes.iter().next().and_then(|route| route.cors.clone()).expect("cors")
    }

    #[test]
    fn er_c1_a_route_may_answer_itself() {
        let policy = policy();
        let allowed = written(Some(policy.answer(&origin("http://localhost:3000"))));
        assert_eq!(
            allowed,
            [
                "access-control-allow-origin: http://localhost:3000",
                "access-control-allow-credentials: true",
                "vary: Origin"
            ]
        );
        let preflight = written(Some(policy.preflight(&origin("https://a.example"))));
        assert_eq!(preflight.len(), 6);
        assert!(preflight.contains(&"access-control-allow-methods: GET, POST, DELETE".to_owned()));
        assert!(preflight.contains(&"access-control-max-age: 600".to_owned()));
    }

    #[test]
    fn er_c1_other_origins_get_no_permission() {
        let policy = policy();
        for other in
            ["https://b.example", "https://a.example.evil", "HTTPS://A.EXAMPLE", "null", "https://a.example:443"]
        {
            assert_eq!(written(Some(policy.answer(&origin(other)))), ["vary: Origin"], "{other}");
            assert_eq!(written(Some(policy.preflight(&origin(other)))), ["vary: Origin"], "{other}");
        }
        let mut headers = answer(&[("access-control-allow-origin", "*"), ("vary", "Accept")]);
        remove(&mut headers);
        assert_eq!(headers.len(), 1);
    }

    #[test]
    fn preflights_are_told_from_other_options() {
        let options = http::Method::OPTIONS;
        let full = answer(&[("origin", "https://a"), ("access-control-request-method", "POST")]);
        assert!(is_preflight(&options, &full));
        assert!(!is_preflight(&http::Method::POST, &full));
        assert!(!is_preflight(&options, &answer(&[("origin", "https://a")])));
    }
}

//! The access log: one line per request and one per connection's end (rule G4); and the limit on repeated log lines.
//!
//! Why: an operator asks "who was that, where did it go, who ended it and why" long after. The line is made from facts
//! that are handed in, so that what can be written is decided here once: no query values but those on the allow-list, no
//! headers, no tokens (rule A8).
//!
//! Writing never holds up a connection: lines go through a bounded queue to a thread of their own, and what does not
//! fit is dropped and counted.
//!
//! Invariant: a line is one line, whatever a peer sends: control characters and quotes are escaped.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::Write;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant, SystemTime};

use crate::config::AccessLogFormat;
use crate::query::Query;

/// Lines that may wait for the writer.
const QUEUED_MAX: usize = 8 * 1024;

/// The most bytes of a text that a peer chose.
const TEXT_BYTES_MAX: usize = 512;

/// A request that has been answered.
#[derive(Debug, Clone, Copy)]
pub struct RequestEnd<'a> {
    /// The client's address, that of the nearest proxy if there is one.
    pub peer: IpAddr,
    /// The method.
    pub method: &'a str,
    /// The `Host` or `:authority`, empty if there is none.
    pub host: &'a str,
    /// The path as forwarded ([`crate::path::NormalPath::as_str`]).
    pub path: &'a str,
    /// The query; only allow-listed values are written.
    pub query: &'a str,
    /// "1.0", "1.1" or "2".
    pub http: &'static str,
    /// The route's name.
    pub route: Option<&'a str>,
    /// The backend's address.
    pub backend: Option<&'a str>,
    /// The connection it belonged to: the hub's own `connectionId`, never a token.
    pub connection_id: Option<&'a str>,
    /// The status answered.
    pub status: u16,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// From the first byte of the request to the last of the answer.
    pub duration: Duration,
    /// Why it was not answered by the backend, from a closed list.
    pub cause: Option<&'static str>,
}

/// A connection that has ended.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionEnd<'a> {
    /// The client's address.
    pub peer: IpAddr,
    /// The route's name.
    pub route: &'a str,
    /// The backend's address.
    pub backend: Option<&'a str>,
    /// "WebSockets", "ServerSentEvents" or "LongPolling".
    pub transport: &'static str,
    /// "json", "messagepack", "other", "opaque" or "unknown".
    pub protocol: &'static str,
    /// The hub's own `connectionId`, never a token.
    pub connection_id: Option<&'a str>,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// From attaching to the end.
    pub duration: Duration,
    /// Who ended it and how, from a closed list ("client_closed", "hub_lost", …).
    pub ended: &'static str,
}

impl RequestEnd<'_> {
    /// Makes the line, without a line feed; `None` if the log is off.
    pub fn line(&self, format: AccessLogFormat, now: SystemTime) -> Option<String> {
        let mut line = Line::new(format, "request", now)?;
        line.text("peer", Some(&self.peer.to_canonical().to_string()));
        line.text("method", Some(self.method));
        line.text("host", Some(self.host).filter(|host| !host.is_empty()));
        line.text("path", Some(self.path));
        line.text("query", Some(&*Query::new(self.query).redacted()).filter(|query| !query.is_empty()));
        line.text("http", Some(self.http));
        line.text("route", self.route);
        line.text("backend", self.backend);
        line.text("connection_id", self.connection_id);
        line.number("status", self.status.into());
        line.traffic(self.bytes_in, self.bytes_out, self.duration);
        line.text("cause", self.cause);
        Some(line.finish())
    }
}

impl ConnectionEnd<'_> {
    /// Makes the line, without a line feed; `None` if the log is off.
    pub fn line(&self, format: AccessLogFormat, now: SystemTime) -> Option<String> {
        let mut line = Line::new(format, "connection", now)?;
        line.text("peer", Some(&self.peer.to_canonical().to_string()));
        line.text("route", Some(self.route));
        line.text("backend", self.backend);
        line.text("transport", Some(self.transport));
        line.text("protocol", Some(self.protocol));
        line.text("connection_id", self.connection_id);
        line.traffic(self.bytes_in, self.bytes_out, self.duration);
        line.text("ended", Some(self.ended));
        Some(line.finish())
    }
}

/// A line under way, as JSON or as `name=value` pairs.
struct Line {
    json: bool,
    out: String,
}

impl Line {
    fn new(format: AccessLogFormat, event: &str, now: SystemTime) -> Option<Self> {
        let json = match format {
            AccessLogFormat::Off => return None,
            AccessLogFormat::Text => false,
            AccessLogFormat::Json => true,
        };
        let mut line = Self { json, out: String::with_capacity(320) };
        line.text("time", Some(&timestamp(now)));
        line.text("event", Some(event));
        Some(line)
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        let Some(value) = value else { return };
        let value = shortened(value);
        self.name(name);
        let bare = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
        if !self.json && !value.is_empty() && value.bytes().all(bare) {
            self.out.push_str(value);
        } else {
            self.out.push_str(&serde_json::Value::from(value).to_string());
        }
    }

    fn number(&mut self, name: &str, value: u128) {
        self.name(name);
        let _ = write!(self.out, "{value}");
    }

    fn traffic(&mut self, bytes_in: u64, bytes_out: u64, duration: Duration) {
        self.number("bytes_in", bytes_in.into());
        self.number("bytes_out", bytes_out.into());
        self.number("duration_ms", duration.as_millis());
    }

    fn name(&mut self, name: &str) {
        let (first, between) = if self.json { ("{", ",") } else { ("", " ") };
        self.out.push_str(if self.out.is_empty() { first } else { between });
        let _ = if self.json { write!(self.out, "\"{name}\":") } else { write!(self.out, "{name}=") };
    }

    fn finish(mut self) -> String {
        if self.json {
            self.out.push('}');
        }
        self.out
    }
}

/// What a peer chose, cut to a bearable length at a character's end.
fn shortened(text: &str) -> &str {
    let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

/// A time as RFC 3339 in UTC with milliseconds.
pub fn timestamp(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (days, seconds) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", since.subsec_millis())
}

/// The Gregorian date of a day counted from 1970-01-01.
fn date(days: u64) -> (u64, u64, u64) {
    let is_leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    // 400 years are 146,097 days; what is left is counted year by year, month by month.
    let (mut year, mut left) = (1970 + 400 * (days / 146_097), days % 146_097);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        left -= length;
        year += 1;
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        left -= length;
        month += 1;
    }
    (year, month, left + 1)
}

/// Hands lines to a thread that writes them; dropped with all its clones, the thread writes what is left and ends.
#[derive(Debug, Clone)]
pub struct AccessLog {
    queue: SyncSender<String>,
    dropped: std::sync::Arc<AtomicU64>,
}

impl AccessLog {
    /// Starts the thread; `writer` is standard error or a file.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(writer: impl Write + Send + 'static) -> std::io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUED_MAX);
        std::thread::Builder::new().name("access-log".to_owned()).spawn(move || write_lines(&lines, writer))?;
        Ok(Self { queue, dropped: std::sync::Arc::default() })
    }

    /// Queues a line; never waits.
    pub fn write(&self, line: String) {
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that did not fit, since the start.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

fn write_lines(lines: &Receiver<String>, writer: impl Write) {
    let mut writer = std::io::BufWriter::new(writer);
    while let Ok(line) = lines.recv() {
        let waiting = std::iter::once(line).chain(lines.try_iter().take(QUEUED_MAX));
        for line in waiting {
            let _ = writer.write_all(line.as_bytes()).and_then(|()| writer.write_all(b"\n"));
        }
        // Nobody is left to be told when the log itself cannot be written.
        let _ = writer.flush();
    }
}

/// What becomes of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// It is written; so many equal ones were not, since the last one.
    Write {
        /// Equal lines left out.
        left_out: u64,
    },
    /// It is left out and counted.
    LeaveOut,
}

/// Lets equal lines through once per interval (`log.repeat_interval`), with the count of those left out.
///
/// Bounded: when too many different lines are known, those whose interval is over are forgotten, then all.
#[derive(Debug)]
pub struct Repeats {
    interval: Duration,
    known: HashMap<Box<str>, (Instant, u64)>,
}

impl Repeats {
    /// The most different lines that are known at once.
    const KNOWN_MAX: usize = 1_024;

    /// Knows no line yet.
    pub fn new(interval: Duration) -> Self {
        Self { interval, known: HashMap::new() }
    }

    /// Judges a line by its text without time and numbers of its own.
    pub fn judge(&mut self, line: &str, now: Instant) -> Passing {
        let interval = self.interval;
        if let Some((written, left_out)) = self.known.get_mut(line) {
            if now.saturating_duration_since(*written) < interval {
                *left_out += 1;
                return Passing::LeaveOut;
            }
            *written = now;
            return Passing::Write { left_out: std::mem::take(left_out) };
        }
        if self.known.len() >= Self::KNOWN_MAX {
            self.known.retain(|_, (written, _)| now.saturating_duration_since(*written) < interval);
            if self.known.len() >= Self::KNOWN_MAX {
                self.known.clear();
            }
        }
        self.known.insert(line.into(), (now, 0));
        Passing::Write { left_out: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn request<'a>(path: &'a str, query: &'a str) -> RequestEnd<'a> {
        RequestEnd {
            peer: "::ffff:203.0.113.9".parse().expect("an address"),
            method: "POST",
            host: "hubs.example",
            path,
            query,
            http: "1.1",
            route: Some("chat"),
            backend: Some("10.0.0.1:5000"),
            connection_id: None,
            status: 404,
            bytes_in: 17,
            bytes_out: 0,
            duration: Duration::from_micros(2_999),
            cause: Some("unknown_token"),
        }
    }

    fn noon() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_262_400_042)
    }

    const CONNECTION: ConnectionEnd<'_> = ConnectionEnd {
        peer: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST),
        route: "chat",
        backend: Some("10.0.0.1:5000"),
        transport: "WebSockets",
        protocol: "json",
        connection_id: Some("807809a5"),
        bytes_in: 1,
        bytes_out: 2,
        duration: Duration::from_secs(3),
        ended: "client_closed",
    };

    #[test]
    fn er_g4_one_line_per_request_with_its_facts() {
        let text = request("/chat", "id=SECRET&negotiateVersion=1").line(AccessLogFormat::Text, noon());
        assert_eq!(
            text.expect("on"),
            "time=2026-11-21T12:00:00.042Z event=request peer=203.0.113.9 method=POST host=hubs.example path=/chat \
             query=\"id=…&negotiateVersion=1\" http=1.1 route=chat backend=10.0.0.1:5000 status=404 bytes_in=17 \
             bytes_out=0 duration_ms=2 cause=unknown_token"
        );
        let json = request("/chat", "").line(AccessLogFormat::Json, noon()).expect("on");
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!((&json["event"], &json["status"], &json["query"]), (&"request".into(), &404.into(), &().into()));
        assert_eq!(request("/", "").line(AccessLogFormat::Off, noon()), None);
    }

    #[test]
    fn er_g4_one_line_per_connection_end_says_who_and_why() {
        assert_eq!(
            CONNECTION.line(AccessLogFormat::Text, noon()).expect("on"),
            "time=2026-11-21T12:00:00.042Z event=connection peer=127.0.0.1 route=chat backend=10.0.0.1:5000 \
             transport=WebSockets protocol=json connection_id=807809a5 bytes_in=1 bytes_out=2 duration_ms=3000 \
             ended=client_closed"
        );
        assert!(CONNECTION.line(AccessLogFormat::Json, noon()).expect("on").contains(r#""ended":"client_closed""#));
    }

    #[test]
    fn er_a8_no_query_value_reaches_the_log() {
        for query in ["id=SECRET", "ACCESS_TOKEN=SECRET", "%69d=SECRET", "SECRET", "x=SECRET", "_=SECRET SECRET"] {
            for format in [AccessLogFormat::Text, AccessLogFormat::Json] {
                let line = request("/", query).line(format, noon()).expect("on");
                assert!(!line.contains("SECRET"), "{line}");
            }
        }
    }

    #[test]
    fn er_g4_repeated_lines_are_limited_and_counted() {
        let (start, mut repeats) = (Instant::now(), Repeats::new(Duration::from_secs(10)));
        assert_eq!(repeats.judge("a", start), Passing::Write { left_out: 0 });
        for _ in 0..5 {
            assert_eq!(repeats.judge("a", start + Duration::from_secs(9)), Passing::LeaveOut);
        }
        assert_eq!(repeats.judge("b", start), Passing::Write { left_out: 0 });
        assert_eq!(repeats.judge("a", start + Duration::from_secs(10)), Passing::Write { left_out: 5 });
        assert_eq!(repeats.judge("a", start + Duration::from_secs(19)), Passing::LeaveOut);
        for number in 0..10_000 {
            repeats.judge(&number.to_string(), start);
            assert!(repeats.known.len() <= Repeats::KNOWN_MAX);
        }
    }

    #[test]
    fn er_g4_a_writer_that_stands_still_holds_nobody_up() {
        struct Stuck(std::sync::mpsc::Receiver<()>);
        impl Write for Stuck {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                let _ = self.0.recv();
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (release, gate) = std::sync::mpsc::channel();
        let log = AccessLog::start(Stuck(gate)).expect("a thread");
        let lines = 4 * QUEUED_MAX as u64;
        (0..lines).for_each(|_| log.write("x".repeat(64)));
        assert!(log.dropped() > 0 && log.dropped() < lines);
        drop(release);
    }

    #[test]
    fn timestamps_are_rfc_3339() {
        let at = |seconds| timestamp(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399, "2000-02-28T23:59:59.000Z"),
            (951_782_400, "2000-02-29T00:00:00.000Z"),
            (1_709_251_200, "2024-03-01T00:00:00.000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000Z"),
            (1_798_761_599, "2026-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(at(seconds), expected);
        }
    }

    proptest! {
        #[test]
        fn er_g4_a_line_is_one_line(path in "(\\PC|[\r\n\t\"\u{0}\u{7f}]){0,600}") {
            for format in [AccessLogFormat::Text, AccessLogFormat::Json] {
                let line = request(&path, &path).line(format, noon()).expect("on");
                prop_assert!(!line.chars().any(|character| matches!(character, '\n' | '\r' | '\0')));
                if format == AccessLogFormat::Json {
                    prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{}", line);
                }
            }
        }
    }
}

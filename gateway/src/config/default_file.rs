//! The documented default file, made from the definitions in [`super::raw`].
//!
//! Why: a reference written by hand is wrong after the second change. This one is kept as
//! `docs/guide/hubgate.default.toml`, and a test compares.
//!
//! Invariant: the text is a valid configuration, and every default in it is the program's.

use std::fmt::Write as _;

use super::raw::{Limits, Log, RawAdmin, RawBackend, RawConfig, RawCors, RawListener, RawRoute, RawToken, Timeouts};
use super::section::{Documented, Section};

/// Writes the default file.
pub(super) fn text() -> String {
    let mut out = String::new();
    out.push_str("# hubgate's settings with their defaults. Generated: `hubgate config default` prints it.\n#\n");
    out.push_str("# Unknown settings are refused. Durations and sizes carry units: ms, s, min, h; B, kB, MB, GB, KiB, MiB, GiB.\n");
    out.push_str(
        "# The environment overrides: HUBGATE_THREADS, HUBGATE_LIMITS_CONNECTIONS_MAX, HUBGATE_TOKEN_KEYS and so on,\n",
    );
    out.push_str("# HUBGATE_BACKEND_APP_SERVERS for the servers of a pool named here. Relative files count from this file's directory.\n");
    out.push_str("# SIGHUP reads this file, the keys and the certificates again; connections go on as they are.\n\n");
    settings(&mut out, &RawConfig::default(), &[]);
    section(&mut out, "[[listener]]", &RawListener::default(), &[("address", "\"127.0.0.1:8080\"")]);
    section(&mut out, "[backend.app]", &RawBackend::default(), &[("servers", "[\"http://127.0.0.1:5000\"]")]);
    let route = [("name", "\"everything\""), ("hubs", "\"/\""), ("backend", "\"app\"")];
    section(&mut out, "[[route]]", &RawRoute::default(), &route);
    let mut cors = String::new();
    section(&mut cors, "[route.cors]", &RawCors::default(), &[("origins", "[\"https://www.example.com\"]")]);
    for line in cors.lines() {
        let _ = if line.is_empty() { writeln!(out) } else { writeln!(out, "# {}", line.trim_start_matches("# ")) };
    }
    section(&mut out, "[token]", &RawToken::default(), &[]);
    section(&mut out, "[limits]", &Limits::default(), &[]);
    section(&mut out, "[timeouts]", &Timeouts::default(), &[]);
    section(&mut out, "[log]", &Log::default(), &[]);
    section(&mut out, "[admin]", &RawAdmin::default(), &[]);
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

fn section<S: Section>(out: &mut String, header: &str, values: &S, set: &[(&str, &str)]) {
    comment(out, S::DOC);
    let _ = writeln!(out, "{header}");
    settings(out, values, set);
}

fn settings<S: Section>(out: &mut String, values: &S, set: &[(&str, &str)]) {
    for Documented { name, doc, value, example } in values.settings() {
        let chosen = set.iter().find(|(chosen, _)| *chosen == name).map(|(_, text)| *text);
        let line = match (chosen, value, example) {
            (Some(text), _, _) => format!("{name} = {text}"),
            (None, Some(text), None) => format!("{name} = {text}"),
            (None, _, Some(example)) => format!("# {name} = {example}"),
            (None, None, None) => continue,
        };
        comment(out, doc);
        let _ = writeln!(out, "{line}");
    }
    out.push('\n');
}

fn comment(out: &mut String, lines: &[&str]) {
    for line in lines {
        let _ = writeln!(out, "#{}", line.replace('`', ""));
    }
}

//! Holds the architecture's invariants A1 and A2 by reading manifests and sources.
//!
//! * A1: `protocol` does no I/O, reads no clock, draws no random numbers, spawns nothing.
//! * A2: `gateway` depends on `protocol` alone of this workspace's crates, dev-dependencies aside.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};

/// All that `protocol` may depend on. None of these does I/O, reads a clock or draws random numbers on its own.
const PROTOCOL_DEPENDENCIES: [&str; 7] = ["base64", "bytes", "memchr", "serde", "serde_json", "sha1", "thiserror"];

/// What no line of `protocol` may name: the standard library's ways out, and asynchronous code.
const PROTOCOL_FORBIDDEN: [&str; 22] = [
    "std::net",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "std::os",
    "std::sync::mpsc",
    "std::io::std",
    "Instant::now",
    "SystemTime",
    ".elapsed()",
    "thread::",
    "async fn",
    "async move",
    ".await",
    "tokio",
    "rand::",
    "getrandom",
    "RandomState",
    "HashMap",
    "HashSet",
    "println!",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of the dependencies that a manifest declares for building, dev-dependencies aside.
fn dependencies(manifest: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut inside = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_start_matches('[').trim_end_matches(']');
            let of_one = section.rsplit_once('.').filter(|(table, _)| is_dependency_table(table));
            names.extend(of_one.map(|(_, name)| name.trim_matches('"').to_owned()));
            inside = is_dependency_table(section);
        } else if inside && !line.is_empty() && !line.starts_with('#') {
            let name = line.split(['=', '.', ' ']).next().unwrap_or_default();
            names.push(name.trim_matches('"').to_owned());
        }
    }
    names
}

fn is_dependency_table(section: &str) -> bool {
    let kind = section.rsplit('.').next().unwrap_or_default();
    (kind == "dependencies" || kind == "build-dependencies") && !section.starts_with("workspace")
}

/// What is forbidden in `protocol`, line by line, comments aside.
fn violations(source: &str) -> Vec<&str> {
    source
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .filter(|line| PROTOCOL_FORBIDDEN.iter().any(|forbidden| line.contains(forbidden)))
        .collect()
}

/// The sources that are shipped: all but modules of unit tests in files of their own.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") && !is_unit_test(&path) {
            found.push(path);
        }
    }
    found
}

/// Whether a file is a `tests` module that its parent compiles for tests only.
fn is_unit_test(path: &Path) -> bool {
    let parent = path.parent().map(|folder| folder.with_extension("rs"));
    let is_tests = path.file_stem().is_some_and(|stem| stem == "tests");
    is_tests && parent.is_some_and(|parent| parent.exists() && read(&parent).contains("#[cfg(test)]\nmod tests;"))
}

#[test]
fn a1_protocol_depends_on_nothing_that_acts() {
    let declared = dependencies(&read(&root().join("protocol/Cargo.toml")));
    assert!(declared.contains(&"bytes".to_owned()), "the manifest was not understood: {declared:?}");
    let others: Vec<_> = declared.iter().filter(|name| !PROTOCOL_DEPENDENCIES.contains(&name.as_str())).collect();
    assert!(others.is_empty(), "protocol must not depend on {others:?} unless it neither acts nor reads a clock");
}

#[test]
fn a1_protocol_names_nothing_that_acts() {
    let files = sources(&root().join("protocol/src"));
    assert!(files.len() > 10, "only {} files", files.len());
    for file in files {
        let source = read(&file);
        assert_eq!(violations(&source), Vec::<&str>::new(), "in {}", file.display());
    }
}

#[test]
fn a2_gateway_depends_on_protocol_alone() {
    let declared = dependencies(&read(&root().join("gateway/Cargo.toml")));
    let ours: Vec<_> = declared.iter().filter(|name| name.starts_with("hubgate")).collect();
    assert_eq!(ours, ["hubgate-protocol"]);
    let judges = ["hubgate_client", "hubgate_fixtures", "hubgate_conformance", "hubgate_loadgen"];
    for file in sources(&root().join("gateway/src")) {
        let source = read(&file);
        let shipped = source.split("#[cfg(test)]").next().unwrap_or_default();
        for judge in judges {
            assert!(!shipped.contains(judge), "{} names {judge}", file.display());
        }
    }
}

#[test]
fn violations_would_be_seen() {
    let manifest = "[package]\nname = \"x\"\n[dependencies]\nbytes.workspace = true\n# tokio = 1\nrand = \"1\"\n\n\
                    [target.'cfg(unix)'.dependencies]\nnix = \"1\"\n[dependencies.hubgate-client]\npath = \"..\"\n\
                    [dev-dependencies]\nproptest = \"1\"\n[build-dependencies]\ncc = \"1\"\n[workspace.dependencies]\nno = 1\n";
    assert_eq!(dependencies(manifest), ["bytes", "rand", "nix", "hubgate-client", "cc"]);
    let source =
        "use std::net::TcpStream;\n// std::net is not used\nlet now = Instant::now();\nlet now: Duration = x;\n";
    assert_eq!(violations(source), ["use std::net::TcpStream;", "let now = Instant::now();"]);
}

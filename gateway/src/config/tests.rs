//! The configuration as a whole.

use super::*;

const SMALL: &str = r#"
[[listener]]
address = "127.0.0.1:0"

[backend.app]
servers = ["http://127.0.0.1:5000"]

[[route]]
name = "all"
hubs = "/"
backend = "app"
"#;

fn parse(text: &str) -> Result<Config, Error> {
    Config::parse(text, Path::new("conf"), &Environment::none())
}

fn parsed(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(text: &str) -> String {
    parse(text).expect_err("refused").to_string()
}

#[test]
fn er_g1_default_file_is_golden_and_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/hubgate.default.toml");
    let text = Config::default_file();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &text).expect("written");
    }
    let golden = std::fs::read_to_string(&path).expect("docs/guide/hubgate.default.toml");
    assert!(golden == text, "the default file has changed: run the tests with UPDATE_GOLDEN=1 and look at the diff");
    let config = parsed(&text);
    assert_eq!(config.limits, Limits::default());
    assert_eq!(config.timeouts, Timeouts::default());
    assert_eq!(config.log, Log::default());
}

#[test]
fn er_g1_examples_in_the_default_file_are_valid_too() {
    let mut text = String::new();
    for line in Config::default_file().lines() {
        let uncommented = line.strip_prefix("# ").filter(|rest| {
            rest.starts_with("[route.cors]")
                || rest
                    .split_once(" = ")
                    .is_some_and(|(name, _)| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'))
        });
        let chosen = uncommented.unwrap_or(line);
        let left_out = ["hub =", "prefix =", "replace_prefix =", "keys_file =", "cors ="];
        if !left_out.iter().any(|name| chosen.starts_with(name)) {
            text.push_str(chosen);
            text.push('\n');
        }
    }
    let config = parsed(&text);
    assert!(!config.listeners[0].certificates.is_empty());
    assert!(config.routes.iter().next().expect("a route").cors.is_some());
}

#[test]
fn er_g1_unknown_settings_are_refused_with_the_nearest_name_and_the_line() {
    for (addition, line, message) in [
        ("[limits]\nconections_max = 1", 13, "unknown setting `conections_max`: did you mean `connections_max`?"),
        ("[limit]", 12, "unknown setting `limit`: did you mean `limits`?"),
        ("[auth]", 12, "`auth` is not in this version"),
        ("[cluster]\nx = 1", 12, "`cluster` is not in this version"),
        ("[[route]]\nname = \"x\"\nrate_limit = 1", 14, "`rate_limit` is not in this version"),
        ("[[listener]]\nadress = \"127.0.0.1:1\"", 13, "unknown setting `adress`: did you mean `address`?"),
        ("[timeouts]\npoll_timeout = \"90\"", 13, "`90` must be a whole number with a unit"),
        ("[timeouts]\npoll_timeout = 90", 13, "90 must be written as a text in quotes"),
        ("[log]\nformat = \"xml\"", 13, "`xml` must be one of \"text\", \"json\""),
        ("[log]\nformat = ", 13, ""),
    ] {
        let error = parse(&format!("{SMALL}{addition}")).expect_err(addition);
        match error {
            Error::Syntax { line: at, message: text } => {
                assert_eq!(at, line, "{addition}: {text}");
                assert!(text.starts_with(message), "{addition}: {text}");
            }
            other => panic!("{addition}: {other}"),
        }
    }
}

#[test]
fn er_g1_problems_name_setting_value_and_fix() {
    for (addition, problem) in [
        ("[limits]\nconnections_max = 0", "limits.connections_max = 0: must be at least 1"),
        ("[limits]\nheader_bytes_max = \"1 KiB\"", "limits.header_bytes_max = 1 KiB: must be at least 8 KiB"),
        ("[timeouts]\npoll_timeout = \"0 s\"", "timeouts.poll_timeout = 0 s: must be longer than nothing"),
        ("[timeouts]\ncredentials_memory = \"61 s\"", "timeouts.credentials_memory = 61 s: must be at most 60 s"),
        ("[token]\nkeys = [\"short\"]", "token.keys: each key must have at least 32 bytes"),
        ("[token]\nkeys_file = \"missing\"", "token.keys_file = conf/missing: cannot be read"),
        ("[backend.two]", "backend.two.servers: name at least one server"),
        ("[backend.two]\nservers = \"127.0.0.1:1\"", "backend.two.servers = \"127.0.0.1:1\": must be an origin"),
        ("[[route]]\nhub = \"/x\"", "route 2: name: give it a name"),
        ("[[route]]\nname = \"x\"\nbackend = \"app\"", "route \"x\": write exactly one of"),
        (
            "[[route]]\nname = \"x\"\nhub = \"/x\"\nbackend = \"ap\"",
            "route \"x\": backend = \"ap\": there is no such pool: did you mean \"app\"?",
        ),
        ("[[route]]\nname = \"x\"\nhub = \"/x\"", "route \"x\": backend: name the pool"),
        (
            "[[route]]\nname = \"x\"\nhub = \"/x\"\nbackend = \"app\"\nbackend_protocol = \"json\"\nstateful_reconnect = \"backend\"",
            "route \"x\": stateful_reconnect = \"backend\": must be \"edge\" or \"off\"",
        ),
        (
            "[[route]]\nname = \"x\"\nhub = \"/x\"\nbackend = \"app\"\nhints = [{ target = \"T\", values = { result = \"byte\" } }]",
            "route \"x\": hints = \"result\" = \"byte\": 'byte' is no hint",
        ),
        (
            "[[route]]\nname = \"x\"\nhub = \"/x\"\nbackend = \"app\"\nhints = [{ values = { result = \"bytes\" } }]",
            "route \"x\": hints: name the target",
        ),
        ("[[route]]\nname = \"all\"\nhub = \"/x\"\nbackend = \"app\"", "route \"all\": name: is used twice"),
        (
            "[[route]]\nname = \"x\"\nprefix = \"/\"\nbackend = \"app\"",
            "route \"x\": serves the same host and path as route \"all\"",
        ),
        (
            "[[route]]\nname = \"x\"\nhub = \"x\"\nbackend = \"app\"",
            "route \"x\": path = \"x\": the path does not begin with a slash",
        ),
        (
            "[[route]]\nname = \"x\"\nhub = \"/x%2Fy\"\nbackend = \"app\"",
            "route \"x\": path = \"/x%2Fy\": the path holds an encoded slash",
        ),
        (
            "[[route]]\nname = \"x\"\nhub = \"/x/negotiate\"\nbackend = \"app\"",
            "route \"x\": path = \"/x/negotiate\": must be the hub's own path",
        ),
        (
            "[[route]]\nname = \"x\"\nhub = \"/x\"\nbackend = \"app\"\nredirects = \"follow\"",
            "route \"x\": redirect_origins: name the origins",
        ),
        (
            "[[route]]\nname = \"x\"\nhub = \"/x\"\nbackend = \"app\"\nhost = \"a:80\"",
            "route \"x\": host = \"a:80\": must be a host name",
        ),
        (
            "[[route]]\nname = \"x\"\nhub = \"/x\"\nbackend = \"app\"\ncors = { origins = [\"*\"] }",
            "route \"x\": cors.origins = \"*\": must be an origin",
        ),
        (
            "[admin]\naddress = \"0.0.0.0:8080\"\n[[listener]]\naddress = \"127.0.0.1:8080\"",
            "admin.address = 0.0.0.0:8080: must not be a listener's",
        ),
        ("[[listener]]\naddress = \"off\"", "listener 2: address: write an address"),
        ("[[listener]]\naddress = \"127.0.0.1:1\"\ntls = {}", "listener 2: tls: needs certificates"),
    ] {
        let text = refused(&format!("{SMALL}{addition}"));
        assert!(text.starts_with(problem), "{addition}\n{text}");
    }
    let both = refused("[limits]\nconnections_max = 0");
    assert_eq!(both.lines().count(), 3, "all problems at once: {both}");
}

#[test]
fn er_g1_environment_overrides_and_secrets_stay_secret() {
    let key = "k".repeat(32);
    let environment = Environment::of([
        ("HUBGATE_LIMITS_CONNECTIONS_MAX", "7"),
        ("HUBGATE_TIMEOUTS_POLL_TIMEOUT", "3 s"),
        ("HUBGATE_TRUSTED_PROXIES", "10.0.0.0/8, 127.0.0.1"),
        ("HUBGATE_BACKEND_APP_SERVERS", "http://10.0.0.1:1,http://10.0.0.2:1"),
        ("HUBGATE_TOKEN_KEYS", key.as_str()),
        ("HUBGATE_ADMIN_ADDRESS", "off"),
        ("HUBGATE_ADMIN_SERVICE_HOST", "10.0.0.9"),
        ("HUBGATE_LISTEN", "something of the command line"),
        ("PATH", "/bin"),
    ]);
    let config = Config::parse(SMALL, Path::new(""), &environment).expect("valid");
    assert_eq!(config.limits.connections_max, 7);
    assert_eq!(config.timeouts.poll_timeout, Duration::from_secs(3));
    assert_eq!(config.trusted_proxies.len(), 2);
    assert_eq!(config.backends["app"].servers.len(), 2);
    assert_eq!(config.token_keys[0].expose(), key);
    assert_eq!(config.admin, None);
    assert_eq!(config.warnings, ["HUBGATE_ADMIN_SERVICE_HOST names no setting and is ignored"]);
    assert!(!format!("{config:?} {environment:?}").contains(&key));

    let wrong = Environment::of([("HUBGATE_LIMITS_HEADERS_MAX", "many")]);
    let error = Config::parse(SMALL, Path::new(""), &wrong).expect_err("refused").to_string();
    assert_eq!(error, "HUBGATE_LIMITS_HEADERS_MAX: `many` must be a whole number");
}

#[test]
fn er_g1_keys_come_from_a_file() {
    let directory = tempfile::tempdir().expect("a directory");
    let (one, two) = ("a".repeat(32), "b".repeat(44));
    std::fs::write(directory.path().join("token.keys"), format!("# comment\n{one}\n\n  {two}\n")).expect("written");
    let text = format!("{SMALL}[token]\nkeys_file = \"token.keys\"");
    let config = Config::parse(&text, directory.path(), &Environment::none()).expect("valid");
    assert_eq!(config.token_keys, [Secret::new(one), Secret::new(two)]);
}

fn routes() -> Config {
    parsed(
        r#"
[[listener]]
address = "127.0.0.1:0"
[backend.app]
servers = ["http://127.0.0.1:5000"]
[[route]]
name = "rest"
prefix = "/"
backend = "app"
[[route]]
name = "chat"
hub = "/chat"
backend = "app"
replace_prefix = "/hubs/chat"
[[route]]
name = "secret"
prefix = "/internal"
refuse = true
[[route]]
name = "apps"
hubs = "/apps"
backend = "app"
replace_prefix = "/"
[[route]]
name = "other"
host = ["other.example", "*.other.example"]
prefix = "/"
backend = "app"
[[route]]
name = "exact"
host = "a.other.example"
prefix = "/"
backend = "app"
"#,
    )
}

#[test]
fn er_b1_routes_match_by_precision_on_whole_segments() {
    let config = routes();
    for (host, path, expected) in [
        ("", "/", "rest"),
        ("x", "/chat", "chat"),
        ("x", "/CHAT/", "chat"),
        ("x", "/chat/Negotiate", "chat"),
        ("x", "/chat/negotiate/", "chat"),
        ("x", "/%63hat", "chat"),
        ("x", "/a/../chat", "chat"),
        ("x", "/chat/other", "rest"),
        ("x", "/chatter", "rest"),
        ("x", "/apps/one/negotiate", "apps"),
        ("x", "/Internal/x", "secret"),
        ("x", "/%69nternal", "secret"),
        ("OTHER.example:8080", "/chat", "other"),
        ("other.example.", "/chat", "other"),
        ("b.other.example", "/", "other"),
        ("a.other.example", "/", "exact"),
        ("xother.example", "/", "rest"),
        ("[::1]:80", "/", "rest"),
    ] {
        let path = crate::path::NormalPath::parse(path).expect("a path");
        let route = config.routes.find(host, &path).expect("unambiguous").expect("a route");
        assert_eq!(&*route.name, expected, "{host} {}", path.as_str());
    }
}

#[test]
fn er_b1_two_readings_do_not_pass_hub_and_refusing_routes() {
    let config = routes();
    let find = |path: &str| {
        let path = crate::path::NormalPath::parse(path).expect("a path");
        config.routes.find("x", &path).map(|route| route.map(|route| route.name.to_string()))
    };
    use crate::path::Ambiguity::{AboveRoot, Backslash, EncodedSlash, Nul};
    assert_eq!(find("/internal%2Fx"), Err(EncodedSlash));
    assert_eq!(find("/x/..%2finternal"), Err(EncodedSlash));
    assert_eq!(find("/internal\\x"), Err(Backslash));
    assert_eq!(find("/chat%00"), Err(Nul));
    assert_eq!(find("/../chat"), Err(AboveRoot));
    assert_eq!(find("/chat%2Fnegotiate"), Err(EncodedSlash));
    assert_eq!(find("/files/a%2Fb"), Ok(Some("rest".to_owned())));
    assert_eq!(find("/apps/a%2Fb"), Ok(Some("apps".to_owned())));
}

#[test]
fn er_b1_forwards_exactly_the_matched_path_rewritten() {
    let config = routes();
    for (path, expected) in [
        ("/chat", "/hubs/chat"),
        ("/Chat/negotiate", "/hubs/chat/negotiate"),
        ("/apps/one%2cx", "/one%2cx"),
        ("/apps", "/"),
        ("/a/../b", "/b"),
    ] {
        let path = crate::path::NormalPath::parse(path).expect("a path");
        let route = config.routes.find("x", &path).expect("unambiguous").expect("a route");
        assert_eq!(route.backend_path(&path), expected);
    }
}

#[test]
fn er_a1_routes_are_found_by_digest_across_reloads() {
    let (old, new) = (routes(), routes());
    for route in old.routes.iter() {
        assert_eq!(new.routes.by_digest(route.digest).expect("found").name, route.name);
    }
    assert_eq!(new.routes.by_digest(Digest::of("x", [])), None);
}

#[test]
fn er_b5_quick_use_serves_everything_of_its_servers() {
    let listen = ["127.0.0.1:0".parse().expect("an address")];
    let servers = ["http://127.0.0.1:1".to_owned(), "http://127.0.0.1:2".to_owned()];
    let config = Config::quick(&listen, &servers, None, &Environment::none()).expect("valid");
    let route = config.routes.iter().next().expect("a route");
    assert_eq!(route.kind, RouteKind::Hubs { forward: true });
    assert_eq!(route.protocol, RouteProtocol::Any);
    assert_eq!(route.backend.as_ref().expect("a pool").servers.len(), 2);
    assert_eq!(config.admin, None, "er_g6: off unless asked for");
    let wrong = Config::quick(&listen, &["x".to_owned()], None, &Environment::none()).expect_err("no server");
    assert!(wrong.to_string().starts_with("backend.default.servers = \"x\": must be an origin"));
}

#[test]
fn er_g6_admin_is_on_loopback_by_default_in_a_file() {
    let admin = parsed(SMALL).admin.expect("on");
    assert!(admin.address.ip().is_loopback() && !admin.ready_needs_backends);
}

#[test]
fn er_d7_insecure_skip_verify_is_warned_about() {
    let text = SMALL
        .replace("servers = [\"http://127.0.0.1:5000\"]", "servers = [\"https://x\"]\ninsecure_skip_verify = true");
    let warnings = parsed(&text).warnings;
    assert_eq!(warnings, ["backend.app.insecure_skip_verify is on: anyone between can read and change everything"]);
}

#[test]
fn er_f2_every_wait_has_a_checked_name() {
    use super::section::Section as _;
    let waits: Vec<&str> = Timeouts::default().durations().map(|(name, _)| name).to_vec();
    let named: Vec<&&str> = Timeouts::NAMES.iter().filter(|name| **name != "tunnel_idle_timeout").collect();
    assert_eq!(waits.iter().collect::<Vec<_>>(), named);
}

#[test]
fn er_g2_changes_that_need_a_restart_are_named() {
    let old = parsed(SMALL);
    assert_eq!(Changes::between(&old, &parsed(SMALL)), Changes::default());
    let text = format!("threads = 3\n{}", SMALL.replace("127.0.0.1:0", "127.0.0.1:1"));
    let text =
        text.replace(":5000", ":5001") + "[limits]\nheaders_max = 50\n[log]\nlevel = \"debug\"\naccess = \"json\"";
    let changes = Changes::between(&old, &parsed(&text));
    assert_eq!(changes.needs_restart, ["threads", "listener", "log.level"]);
    assert_eq!(changes.applied, ["log.access", "backend", "route", "limits"]);
}

#[test]
fn er_g1_examples_are_valid() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = std::fs::read_dir(&directory).expect("examples").map(|entry| entry.expect("a file").path());
    let files: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files {
        if let Err(error) = Config::load(&file, &Environment::none()) {
            panic!("{}: {error}", file.display());
        }
    }
}

#[test]
fn er_g7_the_unit_gives_connections_time_and_descriptors() {
    let unit = include_str!("../../../deploy/hubgate.service");
    let value = |name: &str| unit.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("{name}"));
    let timeouts = Timeouts::default();
    let stop: u64 = value("TimeoutStopSec=").trim_end_matches('s').parse().expect("seconds");
    assert!(Duration::from_secs(stop) > timeouts.shutdown_delay + timeouts.drain_timeout + timeouts.close_timeout);
    let descriptors: usize = value("LimitNOFILE=").parse().expect("a number");
    assert!(descriptors > 2 * Limits::default().connections_max);
    assert_eq!(value("Type="), "notify");
    assert!(value("ExecReload=/bin/kill ").contains("-HUP"));
    assert!(include_str!("../../../deploy/Dockerfile").contains("\nUSER 65534:65534\n"));
}

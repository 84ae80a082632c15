//! The contract: names, labels, buckets.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;

/// Metrics with every series there can be for one route and one server.
fn every_series() -> Metrics {
    let (metrics, chat) = (Metrics::new(), Meters::new("chat"));
    metrics.route("chat");
    metrics.transcodes("chat");
    metrics.backend("app", "10.0.0.1:5000");
    metrics.resolve_failures("app");
    for transport in Transport::ALL {
        for protocol in Protocol::ALL {
            metrics.connections("chat", *transport, *protocol);
        }
        ConnectOutcome::ALL.iter().for_each(|outcome| metrics.connected(&chat, *transport, *outcome, Duration::ZERO));
        End::ALL.iter().for_each(|end| metrics.ended(&chat, *transport, *end));
    }
    NegotiateOutcome::ALL.iter().for_each(|outcome| metrics.negotiated(&chat, *outcome));
    for status in [100, 200, 300, 400, 500] {
        metrics.answered(Some(&chat), http::StatusCode::from_u16(status).expect("a status"));
    }
    metrics
}

/// The page that documents them, made from what is encoded.
fn page(text: &str) -> String {
    let mut page = String::from(
        "# Metrics\n\nGenerated from the code. `/metrics` of the admin listener gives them as OpenMetrics text.\n",
    );
    page.push_str("Names, labels and buckets are a contract: they change with a note in the changelog only.\n\n");
    page.push_str("| Name | Type | Labels | Meaning |\n|---|---|---|---|\n");
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) else { continue };
        let kind = lines[at + 1].rsplit(' ').next().expect("a type");
        let samples: Vec<&&str> = lines[at + 1..]
            .iter()
            .skip_while(|line| line.starts_with('#'))
            .take_while(|line| !line.starts_with('#'))
            .collect();
        let shown = match kind {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        let mut labels: Vec<(String, BTreeSet<String>)> = Vec::new();
        for pair in samples
            .iter()
            .filter_map(|sample| sample.split_once('{')?.1.split_once('}'))
            .flat_map(|(pairs, _)| pairs.split(','))
        {
            let (label, value) = pair.split_once('=').expect("a label");
            match labels.iter_mut().find(|(known, _)| known == label) {
                Some((_, values)) => drop(values.insert(value.trim_matches('"').to_owned())),
                None => labels.push((label.to_owned(), BTreeSet::from([value.trim_matches('"').to_owned()]))),
            }
        }
        let labels: Vec<String> = labels
            .into_iter()
            .map(|(label, values)| match label.as_str() {
                "route" | "backend" | "address" | "version" => label,
                _ => format!("{label}: {}", values.into_iter().collect::<Vec<_>>().join(", ")),
            })
            .collect();
        page.push_str(&format!("| `{shown}` | {kind} | {} | {help} |\n", labels.join("; ")));
    }
    page
}

#[test]
fn er_g5_names_labels_and_buckets_are_golden() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/metrics.md");
    let page = page(&every_series().encode());
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &page).expect("written");
    }
    let golden = std::fs::read_to_string(&path).expect("docs/guide/metrics.md");
    assert!(golden == page, "the metrics have changed: run the tests with UPDATE_GOLDEN=1 and look at the diff");
}

#[test]
fn er_g5_ours_have_the_prefix_and_base_units() {
    let text = every_series().encode();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("hubgate_") || line.starts_with("process_"), "{line}");
        assert!(!line.contains("_ms") && !line.contains("millis"), "{line}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn er_g5_limits_and_reloads_are_there_from_the_start() {
    let text = Metrics::new().encode();
    for line in [
        "hubgate_limit_reached_total{limit=\"connections_max\"} 0",
        "hubgate_config_reload_total{outcome=\"refused\"} 0",
        "hubgate_client_sockets 0",
        "hubgate_buffered_bytes 0",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
    assert!(text.contains(&format!("hubgate_build_info{{version=\"{}\"}} 1", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn er_g5_handles_count_into_their_series() {
    let (metrics, chat) = (Metrics::new(), Meters::new("chat"));
    let route = metrics.route("chat");
    route.bytes_to_client.inc_by(7);
    metrics.route("chat").bytes_to_client.inc_by(1);
    route.web_socket_messages_from_client.inc();
    metrics.connections("chat", Transport::LongPolling, Protocol::Json).inc();
    metrics.connected(&chat, Transport::WebSockets, ConnectOutcome::Ok, Duration::from_millis(3));
    metrics.connected(&chat, Transport::WebSockets, ConnectOutcome::Refused, Duration::from_millis(3));
    metrics.answered(None, http::StatusCode::NOT_FOUND);
    metrics.reloaded(ReloadOutcome::Ok, UNIX_EPOCH + Duration::from_secs(5));
    let text = metrics.encode();
    for line in [
        "hubgate_connection_bytes_total{route=\"chat\",direction=\"to_client\"} 8",
        "hubgate_websocket_messages_total{route=\"chat\",direction=\"from_client\"} 1",
        "hubgate_connections{route=\"chat\",transport=\"LongPolling\",protocol=\"json\"} 1",
        "hubgate_connect_duration_seconds_bucket{le=\"0.0025\",route=\"chat\",transport=\"WebSockets\"} 0",
        "hubgate_connect_duration_seconds_bucket{le=\"0.005\",route=\"chat\",transport=\"WebSockets\"} 1",
        "hubgate_connect_duration_seconds_count{route=\"chat\",transport=\"WebSockets\"} 1",
        "hubgate_connects_total{route=\"chat\",transport=\"WebSockets\",outcome=\"refused\"} 1",
        "hubgate_requests_total{route=\"\",status=\"4xx\"} 1",
        "hubgate_config_reload_last_success_timestamp_seconds 5",
    ] {
        assert!(text.lines().any(|other| other == line), "{line}\n{text}");
    }
}

#[test]
fn er_g5_a_server_that_left_leaves_no_series() {
    let metrics = Metrics::new();
    metrics.backend("app", "10.0.0.1:5000").up.set(1);
    assert!(metrics.encode().contains("hubgate_backend_up{backend=\"app\",address=\"10.0.0.1:5000\"} 1"));
    metrics.forget_backend("app", "10.0.0.1:5000");
    assert!(!metrics.encode().contains("10.0.0.1"));
}

#[test]
fn er_f1_every_limit_of_the_configuration_that_refuses_has_a_name() {
    use crate::config::Limits;
    let defaults = format!("{:?}", Limits::default());
    for limit in Limit::ALL.iter().filter(|limit| !matches!(limit, Limit::Descriptors | Limit::Ports)) {
        assert!(defaults.contains(&format!("{limit}: ")), "{limit}");
    }
}

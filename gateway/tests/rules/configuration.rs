//! Reload, certificates, the admin listener (rules G2, G3, G6).

use std::path::Path;

use hubgate_fixtures::certificates::CertificateAuthority;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::support::{Backend, Frame, Front, Reply, Setup, Wire, negotiate, web_socket};

#[tokio::test]
async fn er_g2_a_reload_drops_nothing_and_counts_at_once() {
    let (old, new) = (Backend::hub().await, Backend::start(|_| Reply::answer("200 OK", "new")).await);
    let front = Front::quick(&[old.address]).await;
    let mut kept = front.connect().await;
    assert_eq!(kept.request("GET /x", "").await.status, 404);
    let mut client = web_socket(&front, &format!("/chat?id={}", negotiate(&front, "/chat").await.token)).await.unwrap();
    let (_, mut hub) = old.socket().await;
    front.reload(&Setup::new(&[new.address])).await;
    client.send_text("up").await;
    hub.send_text("down").await;
    assert_eq!((hub.frame().await, client.frame().await), (Frame::text("up"), Frame::text("down")));
    assert_eq!(kept.request("GET /x", "").await.text(), "new", "the next request of an old connection");
    assert_eq!(front.get("/x").await.text(), "new");
}

#[tokio::test]
async fn er_g2_long_polling_goes_on_with_its_old_backend() {
    let (old, new) = (Backend::hub().await, Backend::hub().await);
    let front = Front::quick(&[old.address]).await;
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    let (_, mut hub) = old.socket().await;
    front.reload(&Setup::new(&[new.address])).await;
    assert_eq!(front.post(&target, "up").await.status, 200);
    assert_eq!(hub.frame().await, Frame::text("up"));
    hub.send_text("down").await;
    assert_eq!(front.get(&target).await.text(), "down");
    assert_eq!(new.seen().len(), 0);
}

#[tokio::test]
async fn er_g2_a_token_negotiated_before_attaches_after() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let token = negotiate(&front, "/chat").await.token;
    front.reload(&Setup::new(&[backend.address]).more("[limits]\nheaders_max = 50")).await;
    assert!(web_socket(&front, &format!("/chat?id={token}")).await.is_ok(), "random keys outlive a reload");
}

#[tokio::test]
async fn er_g2_an_invalid_one_changes_nothing() {
    let backend = Backend::hub().await;
    let setup = Setup::new(&[backend.address]);
    let front = setup.start().await;
    let broken = Setup::of_urls(vec!["https://127.0.0.1:1".to_owned()]).pool("ca_file = \"no-such-file.pem\"").config();
    assert!(front.gateway.reload(broken).await.is_err());
    assert_eq!(front.get("/x").await.status, 404);
    assert_eq!(backend.seen().len(), 1);
}

/// Files of a certificate, and the lines that name them.
fn certificate(directory: &Path, authority: &CertificateAuthority, file: &str, name: &str) -> String {
    let issued = authority.issue(&[name]).unwrap();
    let (pem, key) = (directory.join(format!("{file}.pem")), directory.join(format!("{file}.key")));
    std::fs::write(&pem, &issued.certificate_pem).unwrap();
    std::fs::write(&key, &issued.key_pem).unwrap();
    format!("{{ certificate_file = {:?}, key_file = {:?} }}", pem.to_str().unwrap(), key.to_str().unwrap())
}

/// The names for which a TLS listener is trusted, among those tried: each is sent as SNI.
async fn trusted(front: &Front, authority: &CertificateAuthority, names: &[&str]) -> Vec<String> {
    let connector = TlsConnector::from(authority.client_config(&["http/1.1"]).unwrap());
    let mut found = Vec::new();
    for name in names {
        let tcp = TcpStream::connect(front.address).await.unwrap();
        let server = ServerName::try_from((*name).to_owned()).unwrap();
        if let Ok(stream) = connector.connect(server, tcp).await {
            let answer = Wire::tls(stream).request(&format!("GET /x\nHost: {name}"), "").await;
            assert_eq!(answer.status, 404);
            found.push((*name).to_owned());
        }
    }
    found
}

#[tokio::test]
async fn er_g3_certificates_are_chosen_by_name_and_read_again_at_a_reload() {
    let authority = CertificateAuthority::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let one = certificate(directory.path(), &authority, "one", "one.test");
    let two = certificate(directory.path(), &authority, "two", "*.two.test");
    let backend = Backend::hub().await;
    let setup = Setup::new(&[backend.address]).listener(&format!("tls = {{ certificates = [{one}, {two}] }}"));
    let front = setup.start().await;
    let names = ["one.test", "a.two.test", "a.b.two.test", "three.test", "localhost"];
    assert_eq!(trusted(&front, &authority, &names).await, ["one.test", "a.two.test"]);
    assert_eq!(backend.last().header("x-forwarded-proto").as_deref(), Some("https"));
    certificate(directory.path(), &authority, "one", "three.test");
    front.reload(&setup).await;
    assert_eq!(trusted(&front, &authority, &names).await, ["a.two.test", "three.test"]);
}

#[tokio::test]
async fn er_g3_without_a_name_the_first_certificate_serves() {
    let authority = CertificateAuthority::new().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let first = certificate(directory.path(), &authority, "first", "127.0.0.1");
    let second = certificate(directory.path(), &authority, "second", "two.test");
    let backend = Backend::hub().await;
    let setup = Setup::new(&[backend.address]).listener(&format!("tls = {{ certificates = [{first}, {second}] }}"));
    let front = setup.start().await;
    assert_eq!(trusted(&front, &authority, &["127.0.0.1", "two.test"]).await, ["127.0.0.1", "two.test"]);
}

#[tokio::test]
async fn er_g6_admin_answers_its_own_paths_and_never_on_a_public_listener() {
    let backend = Backend::hub().await;
    let front = Setup::new(&[backend.address]).more("[admin]\naddress = \"127.0.0.1:0\"").start().await;
    let admin = front.gateway.admin_address().unwrap();
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(front.get(path).await.text(), "no such thing", "the backend's own answer");
        assert_eq!(backend.last().path(), path);
        assert_eq!(Wire::connect(admin).await.request(&format!("GET {path}"), "").await.status, 200);
        let posted = Wire::connect(admin).await.request(&format!("POST {path}"), "").await;
        assert_eq!((posted.status, posted.header("allow")), (405, Some("GET")));
    }
    for path in ["/chat/negotiate", "/", "/healthz/x"] {
        assert_eq!(Wire::connect(admin).await.request(&format!("GET {path}"), "").await.status, 404);
    }
    assert_eq!(backend.seen().len(), 3, "nothing goes on from there");
    assert_eq!(Front::quick(&[backend.address]).await.gateway.admin_address(), None);
}

#[tokio::test]
async fn er_e6_passed_through_and_re_framed_messages_are_counted_apart() {
    let backend = Backend::hub().await;
    let front = Setup::new(&[backend.address]).more("[admin]\naddress = \"127.0.0.1:0\"").start().await;
    let admin = front.gateway.admin_address().unwrap();
    let handshake = crate::support::hub::HANDSHAKE;
    let mut client = web_socket(&front, &format!("/chat?id={}", negotiate(&front, "/chat").await.token)).await.unwrap();
    let (_, mut hub) = backend.socket().await;
    client.send_text(handshake).await;
    hub.frame().await;
    for _ in 0..3 {
        hub.send_text("{\"type\":6}\u{1e}{\"type\":6}\u{1e}").await;
        client.frame().await;
    }
    let target = format!("/chat?id={}", negotiate(&front, "/chat").await.token);
    assert_eq!(front.get(&target).await.status, 200);
    let (_, mut hub) = backend.socket().await;
    assert_eq!(front.post(&target, handshake).await.status, 200);
    hub.frame().await;
    let message = "{\"type\":1,\"target\":\"a\",\"arguments\":[]}\u{1e}";
    hub.send_text(format!("{{}}\u{1e}{message}{message}")).await;
    let mut got = 0;
    while got < 3 {
        got += front.get(&target).await.text().matches('\u{1e}').count();
    }
    let metrics = Wire::connect(admin).await.request("GET /metrics", "").await;
    let value = |name: &str, direction: &str| {
        let wanted = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(&format!("\"{direction}\""));
        let line = metrics.text().lines().find(wanted).unwrap_or_else(|| panic!("{name} {direction}"));
        line.rsplit(' ').next().unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(value("hubgate_websocket_messages_total", "from_client"), 1);
    assert_eq!(value("hubgate_websocket_messages_total", "to_client"), 3, "messages of WebSocket, not of the hub");
    assert_eq!(value("hubgate_hub_messages_total", "to_client"), 3);
}

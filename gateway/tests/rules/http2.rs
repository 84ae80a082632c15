//! HTTP/2 in front: `:authority`, extended CONNECT (rules B2, B4, C2, D4).

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Method, Request};

use crate::support::{Backend, Frame, Front, Reply, negotiate, soon};

async fn connect(front: &Front) -> SendRequest<Bytes> {
    let tcp = tokio::net::TcpStream::connect(front.address).await.unwrap();
    let (client, connection) = h2::client::handshake(tcp).await.unwrap();
    tokio::spawn(connection);
    let mut client = soon("HTTP/2", client.ready()).await.unwrap();
    while !client.is_extended_connect_protocol_enabled() {
        // The server's settings come with or before its first answer.
        let request = Request::get("http://app.test/settle").body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        soon("an answer", response).await.unwrap();
    }
    client
}

fn web_socket(target: &str) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = format!("http://app.test{target}").parse().unwrap();
    request.extensions_mut().insert(h2::ext::Protocol::from_static("websocket"));
    let headers = request.headers_mut();
    headers.insert("sec-websocket-version", "13".parse().unwrap());
    headers.insert("origin", "https://page.test".parse().unwrap());
    headers.insert("accept", "*/*".parse().unwrap());
    request
}

#[tokio::test]
async fn er_d4_extended_connect_becomes_an_ordinary_upgrade() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let token = negotiate(&front, "/chat").await.token;
    let mut client = connect(&front).await;
    let (response, mut up) = client.send_request(web_socket(&format!("/chat?id={token}")), false).unwrap();
    let response = soon("an answer", response).await.unwrap();
    assert_eq!(response.status(), 200);
    for hop in ["connection", "upgrade", "sec-websocket-accept", "transfer-encoding"] {
        assert!(!response.headers().contains_key(hop), "{response:?}");
    }
    let (seen, mut hub) = backend.socket().await;
    assert_eq!((seen.method(), seen.target()), ("GET", "/chat?id=token-0"));
    assert_eq!((seen.all("origin"), seen.all("host")), (vec!["https://page.test".into()], vec!["app.test".into()]));
    assert_eq!((seen.header("accept"), seen.all("sec-websocket-key").len()), (None, 1));
    up.send_data(Frame::text("up").bytes(Some([1, 2, 3, 4])).into(), false).unwrap();
    assert_eq!(hub.frame().await, Frame::text("up"));
    hub.send_text("down").await;
    let mut down = response.into_body();
    let mut got = Vec::new();
    while got.len() < 6 {
        got.extend(soon("data", down.data()).await.unwrap().unwrap());
    }
    assert_eq!(got, Frame::text("down").bytes(None));
    up.send_data(Bytes::new(), true).unwrap();
    hub.ended_silently().await;
}

#[tokio::test]
async fn er_b2_connect_without_a_protocol_is_refused() {
    let backend = Backend::hub().await;
    let front = Front::quick(&[backend.address]).await;
    let mut client = connect(&front).await;
    let before = backend.seen().len();
    let request = Request::builder().method(Method::CONNECT).uri("elsewhere.test:443").body(()).unwrap();
    let (response, _up) = client.send_request(request, false).unwrap();
    let status = soon("an answer", response).await.map(|response| response.status().as_u16()).unwrap_or(400);
    assert_eq!(status / 100, 4);
    let mut other = web_socket("/ws");
    other.extensions_mut().insert(h2::ext::Protocol::from_static("connect-udp"));
    let (response, _up) = client.send_request(other, false).unwrap();
    let status = soon("an answer", response).await.map(|response| response.status().as_u16()).unwrap_or(400);
    assert_eq!(status / 100, 4);
    assert_eq!(backend.seen().len(), before, "nothing reaches the backend");
}

#[tokio::test]
async fn er_b2_host_and_authority_must_agree() {
    let backend = Backend::start(|_| Reply::answer("200 OK", "")).await;
    let front = Front::quick(&[backend.address]).await;
    let mut client = connect(&front).await;
    for (host, expected) in [("other.test", 400), ("APP.test", 200)] {
        let request = Request::get("http://app.test/x").header("host", host).body(()).unwrap();
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(soon("an answer", response).await.unwrap().status(), expected, "{host}");
    }
}

#[tokio::test]
async fn er_b4_a_refused_upgrade_over_http2_is_the_backends_answer() {
    let backend =
        Backend::hub_with(|seen| seen.is_upgrade().then(|| Reply::answer("403 Forbidden\nX-Own: 1", "no"))).await;
    let front = Front::quick(&[backend.address]).await;
    let token = negotiate(&front, "/chat").await.token;
    let mut client = connect(&front).await;
    for target in [format!("/chat?id={token}"), "/ws".to_owned()] {
        let (response, _up) = client.send_request(web_socket(&target), false).unwrap();
        let response = soon("an answer", response).await.unwrap();
        let own = |headers: &HeaderMap| headers.get("x-own").is_some_and(|value| value == "1");
        assert!(response.status() == 403 && own(response.headers()), "{response:?}");
    }
}

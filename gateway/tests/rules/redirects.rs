//! Redirects in negotiate answers that a route follows (the second half of rule B7).

use std::net::SocketAddr;

use crate::support::{Backend, Front, Reply, Setup, negotiate, web_socket};

fn redirect(to: &str) -> Reply {
    Reply::json(format!("{{\"url\":\"{to}\",\"accessToken\":\"granted\"}}"))
}

/// In front of one backend, following redirects to these.
async fn following(backend: &Backend, origins: &[SocketAddr]) -> Front {
    let origins: Vec<String> = origins.iter().map(|address| format!("http://{address}")).collect();
    let route = format!("redirects = \"follow\"\nredirect_origins = {origins:?}");
    Setup::new(&[backend.address]).route(&route).start().await
}

#[tokio::test]
async fn er_b7_a_redirect_is_followed_with_its_own_token_only() {
    let elsewhere = Backend::hub().await;
    let url = format!("http://{}/there?asrs=1&x=%20y", elsewhere.address);
    let backend = Backend::start(move |_| redirect(&url)).await;
    let front = following(&backend, &[elsewhere.address]).await;
    let headers = "Authorization: Bearer own\nCookie: own=1";
    let request = format!("POST /chat/negotiate?negotiateVersion=1&access_token=own\n{headers}");
    let answer = front.request(&request, "").await.json();
    assert!(answer.get("url").is_none() && answer.get("accessToken").is_none(), "{answer}");
    let token = answer["connectionToken"].as_str().unwrap();
    let target = format!("GET /chat?id={token}&access_token=own\n{headers}");
    assert_eq!(front.request(&target, "").await.status, 200);
    let (upgrade, _hub) = elsewhere.socket().await;
    let negotiated = elsewhere.seen().into_iter().next().unwrap();
    assert_eq!(negotiated.target(), "/there/negotiate?asrs=1&x=%20y&negotiateVersion=1");
    assert_eq!(upgrade.target(), "/there?asrs=1&x=%20y&id=token-0");
    for seen in [negotiated, upgrade] {
        assert_eq!((seen.all("authorization"), seen.all("cookie")), (vec!["Bearer granted".into()], Vec::new()));
        assert_eq!(seen.all("host"), [elsewhere.address.to_string()]);
        assert!(!seen.head.contains("own"), "{}", seen.head);
    }
}

#[tokio::test]
async fn er_b7_only_to_named_origins_and_only_five_times() {
    let elsewhere = Backend::hub().await;
    let url = format!("http://{}/there", elsewhere.address);
    let backend = Backend::start(move |_| redirect(&url)).await;
    let front = following(&backend, &[([127, 0, 0, 1], 1).into()]).await;
    let answer = front.post("/chat/negotiate?negotiateVersion=1", "").await.json();
    assert!(answer["error"].as_str().is_some_and(|error| !error.contains("127.0.0.1")), "{answer}");
    assert_eq!(elsewhere.accepted(), 0);

    let circle = Backend::start(|seen| redirect(&format!("http://{}/again", seen.header("host").unwrap()))).await;
    let url = format!("http://{}/again", circle.address);
    let backend = Backend::start(move |_| redirect(&url)).await;
    let front = following(&backend, &[circle.address]).await;
    let answer = front.post("/chat/negotiate?negotiateVersion=1", "").await.json();
    assert!(answer["error"].is_string(), "{answer}");
    assert_eq!(circle.seen().len(), 5);
}

#[tokio::test]
async fn er_b7_an_http_redirect_is_never_followed() {
    let elsewhere = Backend::hub().await;
    let location = format!("307 Temporary Redirect\nLocation: http://{}/chat/negotiate", elsewhere.address);
    let script = location.clone();
    let backend = Backend::start(move |_| Reply::answer(&script, "")).await;
    let front = following(&backend, &[elsewhere.address]).await;
    assert_eq!(front.post("/chat/negotiate?negotiateVersion=1", "").await.status, 307);
    assert_eq!(elsewhere.accepted(), 0);
}

#[tokio::test]
async fn er_b7_a_followed_connection_works_over_web_sockets_too() {
    let elsewhere = Backend::hub().await;
    let url = format!("http://{}/there", elsewhere.address);
    let backend = Backend::start(move |_| redirect(&url)).await;
    let front = following(&backend, &[elsewhere.address]).await;
    let mut client = web_socket(&front, &format!("/chat?id={}", negotiate(&front, "/chat").await.token)).await.unwrap();
    let (_, mut hub) = elsewhere.socket().await;
    client.send_text("up").await;
    assert_eq!(hub.frame().await.as_text(), "up");
}

//! HTTP/1.1: floods of headers, headers and bodies a byte at a time, unknown connections.

use std::time::{Duration, Instant};

use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::flood;
use crate::rig::{Rig, Settings};
use crate::wire::{connect, negotiate, read_answer, read_to_end, request};

#[tokio::test]
async fn header_floods_get_431() {
    let rig = Rig::start(Settings::NONE).await;
    let address = rig.address;
    let many: String = (0..120).map(|number| format!("x-{number}: y\r\n")).collect();
    let many = format!("GET / HTTP/1.1\r\nHost: hub\r\n{many}\r\n");
    let long = format!("GET / HTTP/1.1\r\nHost: hub\r\nx: {}\r\n\r\n", "y".repeat(40_000));
    let target = format!("GET /{} HTTP/1.1\r\nHost: hub\r\n\r\n", "y".repeat(40_000));
    flood(5_000, 10, |number| {
        let flood = [&many, &many, &many, &many, &many, &many, &many, &many, &long, &target][number % 10].clone();
        async move {
            let mut stream = connect(address, None).await;
            let _refused_already = stream.write_all(flood.as_bytes()).await;
            let said = read_to_end(&mut stream).await;
            let status = String::from_utf8_lossy(said.get(9..12).unwrap_or_default()).into_owned();
            let expected: &[&str] = if number % 10 == 9 { &["431", "414"] } else { &["431"] };
            assert!(expected.contains(&status.as_str()), "{}", String::from_utf8_lossy(&said));
        }
    })
    .await;
    rig.finish("header floods", 5_000).await;
}

#[tokio::test]
async fn ten_thousand_posts_to_unknown_ids_get_404() {
    let rig = Rig::start(Settings::NONE).await;
    let address = rig.address;
    flood(20, 10, |client| async move {
        let mut stream = connect(address, None).await;
        let mut pace = tokio::time::interval(Duration::from_millis(4));
        for number in 0..500 {
            pace.tick().await;
            let head = format!(
                "POST /contract?id=unknown-{client}-{number} HTTP/1.1\r\nHost: hub\r\nContent-Length: 11\r\n\r\n{{\"type\":6}}\u{1e}"
            );
            stream.write_all(head.as_bytes()).await.expect("sent");
            let answer = timeout(crate::PATIENCE, read_answer(&mut stream)).await.expect("in time").expect("an answer");
            assert_eq!((answer.status, answer.body.as_str()), (404, "No Connection with that ID"));
        }
    })
    .await;
    rig.finish("POSTs to unknown ids", 10_000).await;
}

/// Sends a byte each 50 ms until the other side has enough of it; how long that took.
async fn dribble(stream: &mut TcpStream, bytes: &[u8]) -> Duration {
    let began = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(50));
    for byte in bytes.iter().cycle() {
        pace.tick().await;
        assert!(began.elapsed() < crate::PATIENCE, "nobody has enough of it");
        let mut peeked = [0];
        let ended = timeout(Duration::from_millis(1), stream.peek(&mut peeked)).await;
        if ended.is_ok() || stream.write_all(&[*byte]).await.is_err() {
            break;
        }
    }
    began.elapsed()
}

#[tokio::test]
async fn er_f3_headers_a_byte_at_a_time_end_with_the_headers_timeout() {
    let gateway = "timeouts.headers_timeout = '150 ms'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.address;
    flood(5_000, 200, |number| async move {
        let began = Instant::now();
        let mut stream = connect(address, None).await;
        if number % 10 == 0 {
            // On a kept connection the time counts from the second request's first byte.
            stream.write_all(b"GET /api/counts HTTP/1.1\r\nHost: hub\r\n\r\n").await.expect("sent");
            let answer = timeout(crate::PATIENCE, read_answer(&mut stream)).await.expect("in time").expect("an answer");
            assert_eq!(answer.status, 200);
        }
        dribble(&mut stream, b"GET / HTTP/1.1\r\nHost: hub\r\nx: yyyyyyyyyyyyyyyyyyyyyyy").await;
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(140), "closed after {took:?}");
    })
    .await;
    rig.finish("headers a byte at a time", 5_000).await;
}

#[tokio::test]
async fn er_f2_an_idle_connection_is_kept_longer_than_the_headers_timeout() {
    let gateway = "timeouts.headers_timeout = '200 ms'\ntimeouts.http_idle_timeout = '1500 ms'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let mut stream = connect(rig.address, None).await;
    for _ in 0..2 {
        stream.write_all(b"GET /api/counts HTTP/1.1\r\nHost: hub\r\n\r\n").await.expect("sent");
        assert_eq!(read_answer(&mut stream).await.expect("an answer").status, 200);
    }
    let began = Instant::now();
    assert_eq!(read_to_end(&mut stream).await, b"");
    assert!(began.elapsed() >= Duration::from_millis(1_400), "closed after {:?}", began.elapsed());
    rig.finish("idle connections", 1).await;
}

#[tokio::test]
async fn er_f3_bodies_a_byte_at_a_time_end_with_the_body_rate() {
    let gateway = "timeouts.body_grace = '150 ms'\nlimits.body_rate_min = '240 B'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.address;
    flood(3_000, 50, |number| async move {
        let mut stream = connect(address, None).await;
        // Forwarded to an application, or to a hub by an unknown id.
        let target = if number % 2 == 0 { "/api/upload" } else { "/contract?id=unknown" };
        let head = format!("POST {target} HTTP/1.1\r\nHost: hub\r\nContent-Length: 1000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        if number % 2 == 0 {
            let took = dribble(&mut stream, b"x").await;
            assert!(took >= Duration::from_millis(130), "closed after {took:?}");
        }
        let said = read_to_end(&mut stream).await;
        let status = String::from_utf8_lossy(said.get(9..12).unwrap_or_default()).into_owned();
        assert_eq!(status, if number % 2 == 0 { "408" } else { "404" }, "{}", String::from_utf8_lossy(&said));
    })
    .await;
    rig.finish("bodies a byte at a time", 3_000).await;
}

#[tokio::test]
async fn er_f3_a_slow_post_to_a_hub_holds_up_nothing_but_its_connection() {
    let gateway = "timeouts.body_grace = '300 ms'";
    let rig = Rig::start(Settings { gateway, ..Settings::NONE }).await;
    let address = rig.address;
    flood(200, 50, |_| async move {
        let (token, _) = negotiate(address, "/contract").await;
        let target = format!("/contract?id={token}");
        assert_eq!(request(address, "GET", &target).await.status, 200, "the first poll");
        let mut stream = connect(address, None).await;
        let head = format!("POST {target} HTTP/1.1\r\nHost: hub\r\nContent-Length: 1000\r\n\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        dribble(&mut stream, b" ").await;
        let said = read_to_end(&mut stream).await;
        assert!(said.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&said));
        assert_eq!(request(address, "DELETE", &target).await.status, 202);
    })
    .await;
    rig.finish("slow POSTs to a hub", 200).await;
}

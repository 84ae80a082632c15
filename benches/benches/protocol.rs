//! What the protocol core costs: reading, writing, splitting, peeking, masking.
//!
//! Run: `cargo bench -p hubgate-benches --bench protocol`. Throughput is in bytes of wire format.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, reason = "a benchmark")]

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hubgate_protocol::framing::WholeMessages;
use hubgate_protocol::message::{Completion, Invocation};
use hubgate_protocol::websocket::{FrameTracker, apply_mask, write_frame};
use hubgate_protocol::{HubMessage, HubProtocol, handshake, json, peek};

const PROTOCOLS: [HubProtocol; 2] = [HubProtocol::Json, HubProtocol::MessagePack];

/// A raw string of `len` letters.
fn text(protocol: HubProtocol, len: usize) -> Bytes {
    let mut out = BytesMut::new();
    let letters = "x".repeat(len);
    match protocol {
        HubProtocol::Json => json::write_string(&letters, &mut out),
        HubProtocol::MessagePack => hubgate_protocol::messagepack::value::write_str(&letters, &mut out),
    }
    out.freeze()
}

fn invocation(protocol: HubProtocol, payload: usize) -> HubMessage {
    HubMessage::Invocation(Invocation {
        invocation_id: Some("123".to_owned()),
        target: "Echo".to_owned(),
        arguments: protocol.join_arguments(&[text(protocol, payload)]),
        ..Invocation::default()
    })
}

/// Messages that a relay meets most.
fn samples(protocol: HubProtocol) -> [(&'static str, HubMessage); 4] {
    [
        ("ping", HubMessage::Ping),
        ("invocation of 16 letters", invocation(protocol, 16)),
        ("completion of 200 letters", HubMessage::Completion(Completion::result("123", text(protocol, 200)))),
        ("invocation of 16384 letters", invocation(protocol, 16_384)),
    ]
}

fn messages(criterion: &mut Criterion) {
    for protocol in PROTOCOLS {
        for what in ["read", "write", "peek"] {
            let mut group = criterion.benchmark_group(format!("{}/{what}", protocol.name()));
            for (name, message) in samples(protocol) {
                let framed = protocol.to_bytes(&message);
                let whole = protocol.splitter(usize::MAX).next(&mut BytesMut::from(&framed[..])).unwrap().unwrap();
                let body = whole.body();
                let mut out = BytesMut::with_capacity(framed.len());
                group.throughput(Throughput::Bytes(u64::try_from(framed.len()).unwrap()));
                group.bench_function(BenchmarkId::from_parameter(name), |bencher| match what {
                    "read" => bencher.iter(|| protocol.read(black_box(&body)).unwrap()),
                    "write" => bencher.iter(|| {
                        out.clear();
                        protocol.write(black_box(&message), &mut out);
                    }),
                    _ => bencher.iter(|| peek::is_ping(protocol, black_box(&framed))),
                });
            }
            group.finish();
        }
    }
}

fn splitting(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("framing");
    for protocol in PROTOCOLS {
        let mut stream = BytesMut::new();
        for _ in 0..64 {
            protocol.write(&invocation(protocol, 100), &mut stream);
        }
        let stream = stream.freeze();
        group.throughput(Throughput::Bytes(u64::try_from(stream.len()).unwrap()));
        group.bench_function(format!("{} cut 64 messages", protocol.name()), |bencher| {
            bencher.iter(|| {
                let mut buffer = BytesMut::from(&stream[..]);
                let mut splitter = protocol.splitter(32_768);
                while let Some(message) = splitter.next(&mut buffer).unwrap() {
                    black_box(message);
                }
            });
        });
        group.bench_function(format!("{} measure 64 messages", protocol.name()), |bencher| {
            bencher.iter(|| WholeMessages::new(protocol, 32_768).len(black_box(&stream)).unwrap());
        });
    }
    group.finish();
}

fn handshakes(criterion: &mut Criterion) {
    let request = b"{\"protocol\":\"messagepack\",\"version\":1}\x1e";
    criterion.bench_function("handshake/request", |bencher| {
        bencher.iter(|| handshake::parse_request(black_box(request), 32_768).unwrap());
    });
}

fn web_sockets(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("websocket");
    let mut payload = vec![0x5A; 16_384];
    group.throughput(Throughput::Bytes(16_384));
    group.bench_function("mask 16384 bytes", |bencher| {
        bencher.iter(|| apply_mask(black_box(&mut payload), [1, 2, 3, 4], 3));
    });
    let mut frames = BytesMut::new();
    for _ in 0..64 {
        write_frame(&mut frames, true, hubgate_protocol::websocket::OpCode::Text, Some([1, 2, 3, 4]), &payload[..100]);
    }
    group.throughput(Throughput::Bytes(u64::try_from(frames.len()).unwrap()));
    group.bench_function("follow 64 frames", |bencher| {
        bencher.iter(|| {
            let mut tracker = FrameTracker::new();
            let mut rest = &frames[..];
            while !rest.is_empty() {
                let (used, _) = tracker.step(black_box(rest)).unwrap();
                rest = &rest[used..];
            }
            tracker.at_message_boundary()
        });
    });
    group.finish();
}

criterion_group!(benches, messages, splitting, handshakes, web_sockets);
criterion_main!(benches);

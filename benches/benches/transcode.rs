//! What transcoding costs beside the two ways that lie at hand: a tree of values (`serde_json::Value` with `rmp-serde`),
//! and `serde-transcode` straight from one serde format to the other. Neither of these knows envelopes: they turn an
//! object into a map and an array into an array, which is less work than ours and no message that a hub would take.
//!
//! Run: `cargo bench -p hubgate-benches --bench transcode`. Bars: at least as fast as serde-transcode, twice as fast as
//! the tree. The message is an invocation of 384 bytes of JSON. `containers` tells what widening the head of a
//! container costs: arrays of 15 elements keep the byte that was kept for it, those of 16 move what they hold.
#![allow(clippy::panic, missing_docs, clippy::unwrap_used, clippy::expect_used, reason = "a benchmark")]

use std::hint::black_box;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use hubgate_protocol::HubProtocol;
use hubgate_protocol::transcode::{Rules, Step, Transcoder, value};

/// Bytes of the JSON record, separator included.
const RECORD_BYTES: usize = 384;
const BYTES_MAX: usize = 1 << 20;

/// The body of an invocation with an object, as ASP.NET Core would write it.
fn json_body() -> Bytes {
    let record = |text: &str| {
        format!(
            "{{\"type\":1,\"invocationId\":\"123\",\"target\":\"SendMessage\",\"arguments\":[\"lobby\",{{\"userName\":\"Ada \
             Lovelace\",\"text\":\"{text}\",\"sentAt\":\"2017-04-11T01:02:03Z\",\"likes\":12,\"score\":0.75,\"tags\":\
             [\"first\",\"second\"],\"edited\":false,\"replyTo\":null,\"position\":{{\"x\":100200,\"y\":-7}}}}]}}"
        )
    };
    let filling = "The quick brown fox jumps over the lazy dog. ".repeat(9);
    let text = filling.get(..RECORD_BYTES - 1 - record("").len()).unwrap();
    let record = Bytes::from(record(text));
    assert_eq!(record.len() + 1, RECORD_BYTES);
    record
}

fn transcoder(client: HubProtocol) -> Transcoder {
    Transcoder::new(client, Arc::new(Rules::default()), BYTES_MAX, BYTES_MAX)
}

fn messagepack_body(json: &Bytes) -> Bytes {
    let Step::Pass(framed) = transcoder(HubProtocol::Json).client_message(json) else { panic!("a message") };
    let mut buffer = BytesMut::from(&framed[..]);
    HubProtocol::MessagePack.splitter(usize::MAX).next(&mut buffer).unwrap().unwrap().body()
}

fn invocation(criterion: &mut Criterion) {
    let json = json_body();
    let messagepack = messagepack_body(&json);
    let mut group = criterion.benchmark_group("json to messagepack");
    group.throughput(Throughput::Bytes(u64::try_from(json.len()).unwrap()));
    let mut ours = transcoder(HubProtocol::Json);
    group.bench_function("transcode", |bencher| bencher.iter(|| ours.client_message(black_box(&json))));
    group.bench_function("serde-transcode", |bencher| {
        bencher.iter(|| {
            let mut out = Vec::with_capacity(json.len());
            let mut from = serde_json::Deserializer::from_slice(black_box(&json));
            serde_transcode::transcode(&mut from, &mut rmp_serde::Serializer::new(&mut out)).unwrap();
            out
        });
    });
    group.bench_function("value", |bencher| {
        bencher.iter(|| {
            let tree: serde_json::Value = serde_json::from_slice(black_box(&json)).unwrap();
            rmp_serde::to_vec(&tree).unwrap()
        });
    });
    group.finish();

    let mut group = criterion.benchmark_group("messagepack to json");
    group.throughput(Throughput::Bytes(u64::try_from(messagepack.len()).unwrap()));
    let mut ours = transcoder(HubProtocol::MessagePack);
    group.bench_function("transcode", |bencher| bencher.iter(|| ours.client_message(black_box(&messagepack))));
    group.bench_function("serde-transcode", |bencher| {
        bencher.iter(|| {
            let mut out = Vec::with_capacity(RECORD_BYTES);
            let mut from = rmp_serde::Deserializer::from_read_ref(black_box(&messagepack[..]));
            serde_transcode::transcode(&mut from, &mut serde_json::Serializer::new(&mut out)).unwrap();
            out
        });
    });
    group.bench_function("value", |bencher| {
        bencher.iter(|| {
            let tree: serde_json::Value = rmp_serde::from_slice(black_box(&messagepack)).unwrap();
            serde_json::to_vec(&tree).unwrap()
        });
    });
    group.finish();
}

fn containers(criterion: &mut Criterion) {
    let rules = Rules::default();
    let mut group = criterion.benchmark_group("containers");
    for (name, len, rows) in [("15 elements", 15, 64), ("16 elements", 16, 60), ("960 elements", 960, 1)] {
        let row = format!("[{}]", vec!["\"1234567\""; len].join(","));
        let text = Bytes::from(format!("[{}]", vec![row; rows].join(",")));
        group.throughput(Throughput::Elements(960));
        group.bench_function(name, |bencher| {
            bencher.iter(|| value(HubProtocol::Json, black_box(&text), &rules, BYTES_MAX).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, invocation, containers);
criterion_main!(benches);

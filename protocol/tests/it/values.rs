//! Single values: the smallest MessagePack encodings, judged by an independent implementation; JSON strings of any
//! length.

use bytes::{Bytes, BytesMut};
use hubgate_protocol::messagepack::value::{
    Cursor, Head, write_array_len, write_bin, write_bool, write_f64, write_int, write_map_len, write_nil, write_str,
    write_uint,
};
use hubgate_protocol::{HubProtocol, json};
use rmpv::Value;

fn written(write: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::new();
    write(&mut out);
    out.freeze()
}

fn encoded(value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    rmpv::encode::write_value(&mut out, value).unwrap();
    out
}

#[test]
fn numbers_take_their_smallest_form() {
    for power in 0..=63 {
        for near in [-1, 0, 1] {
            let unsigned = (1u64 << power).wrapping_add_signed(near);
            assert_eq!(written(|out| write_uint(unsigned, out)), encoded(&Value::from(unsigned)), "{unsigned}");
            for number in [unsigned.cast_signed(), unsigned.cast_signed().wrapping_neg()] {
                let bytes = written(|out| write_int(number, out));
                assert_eq!(bytes, encoded(&Value::from(number)), "{number}");
                let head = u64::try_from(number).map_or(Head::Int(number), Head::Uint);
                assert_eq!(Cursor::new(&bytes).head(), Some(head));
            }
        }
    }
    assert_eq!(written(|out| write_f64(-0.1, out)), encoded(&Value::F64(-0.1)));
    assert_eq!(written(write_nil), encoded(&Value::Nil));
    assert_eq!(written(|out| write_bool(true, out)), encoded(&Value::Boolean(true)));
    assert_eq!(written(|out| write_bool(false, out)), encoded(&Value::Boolean(false)));
}

#[test]
fn lengths_take_their_smallest_form() {
    for len in [0, 1, 15, 16, 31, 32, 255, 256, 65_535, 65_536] {
        let text = "x".repeat(len);
        assert_eq!(written(|out| write_str(&text, out)), encoded(&Value::from(text.as_str())), "{len}");
        assert_eq!(written(|out| write_bin(text.as_bytes(), out)), encoded(&Value::from(text.as_bytes())), "{len}");
        let mut array = written(|out| write_array_len(len, out)).to_vec();
        array.resize(array.len() + len, 0xC0);
        assert_eq!(array, encoded(&Value::Array(vec![Value::Nil; len])), "{len}");
        let mut map = written(|out| write_map_len(len, out)).to_vec();
        map.resize(map.len() + 2 * len, 0xC0);
        assert_eq!(map, encoded(&Value::Map(vec![(Value::Nil, Value::Nil); len])), "{len}");
        for value in [array, map] {
            let mut cursor = Cursor::new(&value);
            assert_eq!(cursor.skip(), Some(()));
            assert_eq!(cursor.position(), value.len());
            assert_eq!(Cursor::new(&value[..value.len() - 1]).skip(), None, "cut off");
        }
    }
}

#[test]
fn json_strings_end_and_fail_where_they_must_at_any_length() {
    for len in 0..50 {
        let letters = "y".repeat(len);
        for (inside, is_well_formed) in [
            ("", true),
            ("\\\"", true),
            ("\\\\", true),
            ("ä", true),
            ("\u{7F}", true),
            ("\u{1F}", false),
            ("\n", false),
            ("\0", false),
            ("\\", false),
            ("\\u12", false),
        ] {
            for behind in ["", "z", "zzzzzzzzzzzzzzzzzzzz"] {
                let array = Bytes::from(format!("[\"{letters}{inside}{behind}\",1]"));
                let split = HubProtocol::Json.split_arguments(&array);
                // A backslash alone escapes what follows: the quote, or a letter that no escape has.
                assert_eq!(split.is_ok(), is_well_formed, "{}", array.escape_ascii());
                assert_eq!(split.map_or(2, |elements| elements.len()), 2);
            }
        }
    }
}

#[test]
fn json_surrogates_come_in_pairs() {
    let cancel = |id: &str| HubProtocol::Json.read(&Bytes::from(format!("{{\"type\":5,\"invocationId\":\"{id}\"}}")));
    for lone in ["\\ud800", "\\udc00", "\\udc00\\udc00", "\\udc00\\ud800", "\\ud800x", "\\ud800\\n", "\\ud800\\u0041"] {
        assert_eq!(cancel(lone), Err(json::Error::LoneSurrogate.into()), "{lone}");
    }
    for (pair, text) in [("\\ud83d\\ude00", "😀"), ("\\uD800\\uDC00", "\u{10000}"), ("\\udbff\\udfff", "\u{10FFFF}")]
    {
        assert_eq!(cancel(pair), cancel(text), "{pair}");
        assert!(cancel(text).is_ok());
    }
}

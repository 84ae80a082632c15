//! Autobahn's categories as bytes of a client and what a server must answer.

/// How a case ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server answers the client's close frame with this code (1005 is none).
    Closed(u16),
    /// The server fails the connection, with this code if it says one.
    Failed(u16),
}

/// One case.
#[derive(Debug, Clone)]
pub struct Case {
    pub name: String,
    /// What is written, one write each: octet-wise cases have many.
    pub writes: Vec<Vec<u8>>,
    /// Messages that must come back: opcode and payload.
    pub echoes: Vec<(u8, Vec<u8>)>,
    /// Payloads of the Pongs that must come back.
    pub pongs: Vec<Vec<u8>>,
    pub end: End,
}

const FIN: u8 = 0x80;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// A masked frame.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    const KEY: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];
    let mut bytes = vec![first];
    match payload.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        medium @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(medium as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(long as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&KEY);
    bytes.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    bytes
}

fn close_frame(code: u16, reason: &[u8]) -> Vec<u8> {
    frame(FIN | CLOSE, &[&code.to_be_bytes(), reason].concat())
}

/// Frames that are answered, then an ordinary close.
fn good(name: impl Into<String>, frames: &[Vec<u8>], echoes: Vec<(u8, Vec<u8>)>, pongs: Vec<Vec<u8>>) -> Case {
    let mut writes = frames.to_vec();
    writes.push(close_frame(1000, b""));
    Case { name: name.into(), writes, echoes, pongs, end: End::Closed(1000) }
}

fn bad(name: impl Into<String>, frames: &[Vec<u8>], echoes: Vec<(u8, Vec<u8>)>, code: u16) -> Case {
    Case { name: name.into(), writes: frames.to_vec(), echoes, pongs: Vec::new(), end: End::Failed(code) }
}

fn octet_wise(mut case: Case) -> Case {
    case.writes = case.writes.concat().into_iter().map(|byte| vec![byte]).collect();
    case.name.push_str(", octet-wise");
    case
}

/// All cases.
pub fn all() -> Vec<Case> {
    [framing(), pings(), reserved(), fragments(), utf8(), closes(), limits()].concat()
}

fn framing() -> Vec<Case> {
    let mut cases = Vec::new();
    for (opcode, letter) in [(TEXT, b'*'), (BINARY, 0xFE)] {
        for length in [0, 1, 125, 126, 127, 128, 65_535, 65_536] {
            let payload = vec![letter; length];
            let name = format!("1 framing: opcode {opcode}, {length} bytes");
            let case = good(name, &[frame(FIN | opcode, &payload)], vec![(opcode, payload)], vec![]);
            if length <= 128 {
                cases.push(octet_wise(case.clone()));
            } else {
                let mut chopped = case.clone();
                chopped.writes = case.writes.concat().chunks(997).map(<[u8]>::to_vec).collect();
                chopped.name.push_str(", in chops of 997");
                cases.push(chopped);
            }
            cases.push(case);
        }
    }
    cases
}

fn pings() -> Vec<Case> {
    let ping = |payload: &[u8]| frame(FIN | PING, payload);
    let mut cases = Vec::new();
    for payload in [b"".as_slice(), b"Hello, world!", &[0, 0xFF, 0xFE, 0xFD], &[0xFE; 125]] {
        let case = good(format!("2 ping of {}", payload.len()), &[ping(payload)], vec![], vec![payload.to_vec()]);
        cases.extend([octet_wise(case.clone()), case]);
    }
    cases.push(bad("2 ping of 126", &[ping(&[0xFE; 126])], vec![], 1002));
    cases.push(good("2 unasked pongs", &[frame(FIN | PONG, b""), frame(FIN | PONG, b"x")], vec![], vec![]));
    let many: Vec<Vec<u8>> = (0..10).map(|number| format!("ping {number}").into_bytes()).collect();
    let frames: Vec<Vec<u8>> = many.iter().map(|payload| ping(payload)).collect();
    cases.push(good("2 ten pings", &frames, vec![], many));
    cases
}

fn reserved() -> Vec<Case> {
    let hello = || frame(FIN | TEXT, b"Hello");
    let echo = || vec![(TEXT, b"Hello".to_vec())];
    let mut cases = Vec::new();
    for bits in 1..8_u8 {
        for opcode in [TEXT, BINARY, CLOSE, PING, PONG] {
            let broken = frame(FIN | bits << 4 | opcode, b"");
            cases.push(bad(format!("3 reserved bits {bits} with opcode {opcode}"), &[hello(), broken], echo(), 1002));
        }
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in [b"".as_slice(), b"x"] {
            let name = format!("4 opcode {opcode}, {} bytes", payload.len());
            cases.push(bad(name, &[hello(), frame(FIN | opcode, payload)], echo(), 1002));
        }
    }
    cases
}

fn fragments() -> Vec<Case> {
    let (begin, middle, end) = (frame(TEXT, b"frag"), frame(0, b"me"), frame(FIN, b"nts"));
    let echo = || vec![(TEXT, b"fragments".to_vec())];
    let ping = || frame(FIN | PING, b"p");
    let whole = [begin.clone(), middle.clone(), end.clone()];
    let with_pings = [begin.clone(), ping(), middle.clone(), ping(), end.clone()];
    let pongs = || vec![b"p".to_vec(); 2];
    let empty = [frame(TEXT, b""), frame(0, b""), frame(FIN, b"")];
    let binary = [frame(BINARY, &[0xFF]), frame(0, &[0]), frame(FIN, &[0xFE])];
    let split = [frame(TEXT, b"\xCE"), frame(0, b""), frame(FIN, b"\xBA")];
    let cases = vec![
        good("5 text in three", &whole, echo(), vec![]),
        good("5 with pings between", &with_pings, echo(), pongs()),
        good("5 empty fragments", &empty, vec![(TEXT, vec![])], vec![]),
        good("5 binary in three", &binary, vec![(BINARY, vec![0xFF, 0, 0xFE])], vec![]),
        good("5 a character over fragments", &split, vec![(TEXT, "κ".as_bytes().to_vec())], vec![]),
    ];
    let mut cases: Vec<Case> = cases.into_iter().flat_map(|case| [octet_wise(case.clone()), case]).collect();
    cases.extend([
        bad("5 fragmented ping", &[frame(PING, b"a"), frame(FIN, b"b")], vec![], 1002),
        bad("5 fragmented pong", &[frame(PONG, b"a"), frame(FIN, b"b")], vec![], 1002),
        bad("5 continuation of nothing", &[frame(FIN, b"x")], vec![], 1002),
        bad("5 continuation of nothing, open", &[frame(0, b"x")], vec![], 1002),
        bad(
            "5 continuation behind a whole message",
            &[frame(FIN | TEXT, b"a"), frame(FIN, b"x")],
            vec![(TEXT, b"a".to_vec())],
            1002,
        ),
        bad("5 text inside text", &[begin.clone(), frame(FIN | TEXT, b"x")], vec![], 1002),
        bad("5 binary inside text", &[begin, frame(BINARY, b"x")], vec![], 1002),
    ]);
    cases
}

fn utf8() -> Vec<Case> {
    let valid: [&[u8]; 10] = [
        "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
        "κόσμε".as_bytes(),
        b"\x00",
        b"\x7F",
        b"\xC2\x80",
        b"\xDF\xBF",
        b"\xE0\xA0\x80",
        b"\xEF\xBF\xBF",
        b"\xF0\x90\x80\x80",
        b"\xF4\x8F\xBF\xBF",
    ];
    let invalid: [&[u8]; 16] = [
        b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80edited",
        b"\xF4\x90\x80\x80",
        b"\xF8\x88\x80\x80\x80",
        b"\xFC\x84\x80\x80\x80\x80",
        b"\x80",
        b"\xBF",
        b"\xC0\xAF",
        b"\xC1\xBF",
        b"\xE0\x80\xAF",
        b"\xE0\x9F\xBF",
        b"\xF0\x80\x80\xAF",
        b"\xF0\x8F\xBF\xBF",
        b"\xED\xBF\xBF",
        b"\xFE",
        b"\xFF",
        b"abc\xCE",
    ];
    let mut cases = Vec::new();
    for text in valid {
        let whole = [frame(FIN | TEXT, text)];
        let case = good(format!("6 valid {text:02X?}"), &whole, vec![(TEXT, text.to_vec())], vec![]);
        let mut bytes: Vec<Vec<u8>> = text.iter().map(|byte| frame(0, &[*byte])).collect();
        bytes[0][0] = TEXT;
        bytes.push(frame(FIN, b""));
        cases.push(good(format!("6 valid {text:02X?}, a byte a frame"), &bytes, vec![(TEXT, text.to_vec())], vec![]));
        cases.extend([octet_wise(case.clone()), case]);
    }
    for text in invalid {
        let case = bad(format!("6 invalid {text:02X?}"), &[frame(FIN | TEXT, text)], vec![], 1007);
        let (head, tail) = text.split_at(text.len() / 2);
        let halves = [frame(TEXT, head), frame(FIN, tail)];
        cases.push(bad(format!("6 invalid {text:02X?}, in two"), &halves, vec![], 1007));
        cases.extend([octet_wise(case.clone()), case]);
    }
    cases
}

fn closes() -> Vec<Case> {
    let closing =
        |name: String, sent: Vec<u8>, end| Case { name, writes: vec![sent], echoes: vec![], pongs: vec![], end };
    let mut cases = vec![
        closing("7 close without code".into(), frame(FIN | CLOSE, b""), End::Closed(1005)),
        closing("7 close of one byte".into(), frame(FIN | CLOSE, b"x"), End::Failed(1002)),
        closing("7 close with a long reason".into(), close_frame(1000, &[b'*'; 123]), End::Closed(1000)),
        closing("7 close over 125 bytes".into(), close_frame(1000, &[b'*'; 124]), End::Failed(1002)),
        closing("7 close reason is no UTF-8".into(), close_frame(1000, b"\xCE\xBA\xED\xA0\x80"), End::Failed(1007)),
    ];
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999] {
        cases.push(closing(format!("7 close code {code}"), close_frame(code, b"why"), End::Closed(code)));
    }
    for code in [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535] {
        cases.push(closing(format!("7 close code {code}"), close_frame(code, b""), End::Failed(1002)));
    }
    let mut late = good("7 text behind the close", &[], vec![], vec![]);
    late.writes.push(frame(FIN | TEXT, b"late"));
    cases.push(late);
    cases
}

fn limits() -> Vec<Case> {
    let mut cases = Vec::new();
    for opcode in [TEXT, BINARY] {
        for length in [262_144, 1 << 20, 4 << 20] {
            let payload = vec![b'B'; length];
            let name = format!("9 opcode {opcode}, {length} bytes");
            cases.push(good(name.clone(), &[frame(FIN | opcode, &payload)], vec![(opcode, payload.clone())], vec![]));
            let mut pieces: Vec<Vec<u8>> = payload.chunks(65_536).map(|piece| frame(0, piece)).collect();
            pieces[0][0] = opcode;
            pieces.push(frame(FIN, b""));
            cases.push(good(format!("{name}, in fragments of 64 KiB"), &pieces, vec![(opcode, payload)], vec![]));
        }
    }
    let small: Vec<Vec<u8>> =
        (0..1_000).map(|number| frame(FIN | TEXT, format!("message {number}").as_bytes())).collect();
    let echoes = (0..1_000).map(|number| (TEXT, format!("message {number}").into_bytes())).collect();
    cases.push(good("9 a thousand small messages", &small, echoes, vec![]));
    cases
}

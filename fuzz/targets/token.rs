//! Connection tokens: garbage never opens, what opens says the same when it is sealed again.
#![no_main]

use std::sync::LazyLock;

use hubgate_gateway::secret::Secret;
use hubgate_gateway::token::{Sealed, TokenKeys};
use libfuzzer_sys::fuzz_target;

// The seed was sealed with the second key; whoever changes one of its characters must not get in.
const SEED: &[u8] = include_bytes!("../seeds/token/sealed");

static KEYS: LazyLock<TokenKeys> = LazyLock::new(|| {
    let secrets = ["first", "second"].map(|word| Secret::from(word.repeat(8)));
    TokenKeys::new(&secrets).expect("keys")
});

fuzz_target!(|data: &[u8]| {
    let Ok((contents, _)) = KEYS.open(data) else { return };
    assert_eq!(data, SEED);
    let Ok(Sealed::Token(again, _)) = KEYS.seal(&contents) else { panic!("does not fit any more") };
    let (opened, _) = KEYS.open(again.expose().as_bytes()).expect("opens");
    assert_eq!(opened, contents);
});

//! Request paths: what is forwarded reads as what was matched, and both readings have the same segments.
#![no_main]

use hubgate_gateway::path::NormalPath;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let Ok(path) = NormalPath::parse(text) else { return };
    let again = NormalPath::parse(path.as_str()).expect("what is forwarded is a path");
    assert_eq!(path.folded(), again.folded());
    assert_eq!(path.as_str(), again.as_str());
    assert_eq!(path.folded().matches('/').count(), path.as_str().matches('/').count());
    assert!(!path.folded().split('/').any(|segment| matches!(segment, "." | "..")));
    let root = NormalPath::parse("/").expect("a path");
    assert!(path.is_within(&root) && path.is_within(&path) && path.is_same_hub(&again));
    assert_eq!(path.replace_prefix(&root, "").as_ref(), path.as_str());
    let _ = (path.negotiate_hub(), path.other_reading());
});

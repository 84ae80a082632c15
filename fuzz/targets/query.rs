//! Query strings: an edit leaves one value and all other parameters, and secrets never show.
#![no_main]

use hubgate_gateway::query::Query;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let query = Query::new(text);
    let _ = (query.negotiate_version(), query.use_stateful_reconnect(), query.access_token());
    let others = |query: Query<'_>| {
        let is_id = |name: &str| hubgate_gateway::query::decode(name).eq_ignore_ascii_case("id");
        query.pairs().filter(|(name, _)| !is_id(name)).map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>()
    };
    let replaced = query.edited(&[("id", Some("T"))]);
    let id = Query::new(&replaced).id();
    assert_eq!(id.as_deref(), Some("T"));
    assert_eq!(others(Query::new(&replaced)), others(query));
    let removed = query.edited(&[("id", None)]);
    assert_eq!(Query::new(&removed).id(), None);
    let hidden = Query::new(&format!("access_token=xyzzy&{text}")).redacted();
    assert!(text.contains("xyzzy") || !hidden.contains("xyzzy"));
});

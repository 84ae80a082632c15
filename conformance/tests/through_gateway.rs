//! All rows of the case list through `hubgate serve` in front of ASP.NET Core: they pass there, the rows marked `!` too.

mod suite;

#[test]
fn through_gateway_before_aspnet_10() {
    suite::run(suite::Suite { version: 10, gateway: Some(suite::hubgate()) });
}

#[test]
fn through_gateway_before_aspnet_8() {
    suite::run(suite::Suite { version: 8, gateway: Some(suite::hubgate()) });
}

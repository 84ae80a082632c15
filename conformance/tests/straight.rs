//! All rows of the case list straight against ASP.NET Core: they pass there, but for the rows marked `!`, which fail.

mod suite;

#[test]
fn straight_against_aspnet_10() {
    suite::run(suite::Suite { version: 10, gateway: None });
}

#[test]
fn straight_against_aspnet_8() {
    suite::run(suite::Suite { version: 8, gateway: None });
}

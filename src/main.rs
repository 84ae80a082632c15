//! The `hubgate` command.
fn main() {}

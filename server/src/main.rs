//! The `ssd` command.
fn main() {}

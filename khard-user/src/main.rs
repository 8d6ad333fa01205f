//! The `khard` command.
fn main() {}

//! khard's kernel programs.
fn main() {}

//! khard's own tasks.
fn main() {}

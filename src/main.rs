//! Pass argv on, turn the outcome into an exit code; nothing else.
fn main() {}

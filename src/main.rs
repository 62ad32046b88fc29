//! The doorway: everything is decided in `cli`.

fn main() {}

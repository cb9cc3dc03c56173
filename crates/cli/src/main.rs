//! The binary `cedargate`.
fn main() {}

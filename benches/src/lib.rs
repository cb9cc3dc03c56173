//! Support for whole-system benches.

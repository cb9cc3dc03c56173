//! `cedargate demo`.
use crate::config::Environment;
pub(super) async fn run(_environment: &Environment, _once: bool) -> anyhow::Result<u8> {
    unimplemented!()
}

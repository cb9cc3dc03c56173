//! `cedargate demo --once`: the whole product, as a newcomer first sees it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::process::{Command, Output};

fn demo() -> Output {
    Command::new(env!("CARGO_BIN_EXE_cedargate"))
        .args(["demo", "--once"])
        .env_remove("COOLIFY_API_URL")
        .env_remove("COOLIFY_API_TOKEN")
        .output()
        .unwrap()
}

#[test]
fn the_story_goes_as_it_should_twice_in_a_row_and_leaves_nothing() {
    for _ in 0..2 {
        let output = demo();
        let text = String::from_utf8(output.stdout).unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{text}\n{error}");
        assert!(text.contains("All 10 steps went as they should."), "{text}");
        for expected in [
            "connection_established",
            "\"code\": -32004",
            "mcp_permission_request",
            "permission-respond",
            "sample-server-1",
            "approval_opened",
            "chain of",
        ] {
            assert!(text.contains(expected), "{expected}: {text}");
        }
        assert!(!text.contains('\u{1b}'), "no colours when nobody looks");
        assert!(
            !text.contains("cgu_"),
            "the admin's token stays in its file"
        );
        let state = text
            .lines()
            .find_map(|line| line.trim().strip_prefix("state"))
            .unwrap();
        let state = state.split_whitespace().next().unwrap();
        assert!(!std::path::Path::new(state).exists(), "{state} is removed");
    }
}

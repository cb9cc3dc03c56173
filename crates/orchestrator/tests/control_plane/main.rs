//! The orchestrator through its own doors: the router, the contract's client, sockets.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    reason = "tests fail by panicking, and a table of doors is long"
)]

mod activation;
mod agents;
mod approvals;
mod budgets;
mod console;
mod doors;
mod email;
mod feed;
mod notifications;
mod oidc;
mod pages;
mod people;
mod plane;
mod policy_folder;
mod second_factor;
mod slack;
mod tools;
mod websocket;
mod workflow;
mod zones;

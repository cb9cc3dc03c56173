//! Whole-system journeys through the public doors, each in one process on SQLite and as
//! two processes on PostgreSQL; those about time in this process, whose clock they move.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a journey that cannot go on says so by panicking"
)]

/// Runs each journey in both layouts, on a system of its own.
macro_rules! journeys {
    ($($journey:ident),* $(,)?) => {
        mod one_process {
            use cedargate_tests::{Layout, System};
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $journey() -> anyhow::Result<()> {
                    super::$journey(System::start(Layout::OneProcess).await?).await
                }
            )*
        }
        mod two_processes {
            use cedargate_tests::{Layout, System};
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $journey() -> anyhow::Result<()> {
                    super::$journey(System::start(Layout::TwoProcesses).await?).await
                }
            )*
        }
    };
}

mod activation;
mod browser;
mod checklist;
mod database;
mod demo;
mod documented;
mod escalated;
mod expired;
mod identity;
mod killed;
mod limits;
mod mcp_bridge;
mod mcp_bytes;
mod mcp_clients;
mod mcp_conformance;
mod mcp_oauth;
mod mcp_pins;
mod objects;
mod outage;
mod people;
mod policies;
mod postgres;
mod recorded;
mod refused;
mod secrets;
mod watch;
mod wire;
mod workflow;
mod zones;

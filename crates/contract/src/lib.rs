//! What the planes and the command line say to each other over HTTP: types and one typed client.
//!
//! The gateway knows the orchestrator only through [`Client`], which sends HTTP requests
//! to any `tower::Service`: the orchestrator's router in one process, an HTTP client
//! across two. One code path, and the wire is always exercised.

pub mod agents;
pub mod approvals;
pub mod audit;
pub mod budgets;
pub mod catalog;
pub mod client;
pub mod error;
pub mod explain;
pub mod facts;
pub mod feed;
pub mod gateways;
pub mod health;
pub mod notifications;
pub mod overview;
pub mod policy_sets;
pub mod tools;
pub mod users;
pub mod zones;

pub use client::Client;
pub use error::Error;

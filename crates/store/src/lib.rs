//! What is remembered: the only crate that knows SQL, and the feed of changes.
//!
//! SQL is written once, in what SQLite and PostgreSQL both accept. Every write is one
//! transaction that *begins* by incrementing `feed_head`: that row is the lock, the
//! order of the feed, and the announcement. What a write records for the audit trail
//! is part of the same transaction.

pub mod access;
pub mod activity;
pub mod agents;
pub mod approvals;
pub mod audit;
pub mod budgets;
pub mod catalogs;
mod column;
pub mod database;
pub mod error;
pub mod feed;
pub mod gateways;
pub mod grants;
pub mod identities;
pub mod inbox;
pub mod notifications;
pub mod policy_sets;
pub mod roster;
pub mod second_factors;
pub mod sessions;
#[cfg(test)]
mod testing;
mod tokens;
pub mod tools;
pub mod users;
mod write;
pub mod zones;

pub use database::Store;
pub use error::StoreError;

use std::net::IpAddr;

use authz::{UserId, time::Timestamp};

/// Who does something, and when: recorded with every write.
#[derive(Clone, Debug)]
pub struct Actor {
    /// The person; absent when the orchestrator or a gateway acts by itself.
    pub user: Option<UserId>,
    /// How: `api`, `cli`, `ui`, `webhook`, `folder`, `gateway`, `bootstrap`, `sweeper`, …
    pub via: &'static str,
    /// From where; absent when nobody connected for it, or it is not known.
    pub from: Option<IpAddr>,
    /// When.
    pub at: Timestamp,
}

impl Actor {
    /// A part of the product that acts by itself: no person, from nowhere.
    #[must_use]
    pub const fn itself(via: &'static str, at: Timestamp) -> Self {
        Self {
            user: None,
            via,
            from: None,
            at,
        }
    }
}

//! What is allowed. Pure: no IO, no async, no clock. The only crate that knows Cedar.
//!
//! The one question is [`decide()`]: may this agent, about whom these [`Facts`] are
//! known, send this [`Command`], now, under this [`PolicySet`]? The answer is a
//! [`Permit`], without which no handler runs, or a [`Refused`], which
//! [`approval::derive`] shows to be hard or liftable by people.
//!
//! Everything that a decision needs is an argument, the time included.

pub mod agent;
pub mod approval;
pub mod arguments;
pub mod command;
pub mod decide;
mod entities;
pub mod explain;
pub mod facts;
#[cfg(test)]
mod fixtures;
pub mod grant;
pub mod id;
mod internals;
pub mod mutate;
pub mod policy_set;
#[cfg(feature = "prove")]
pub mod prove;
mod question;
pub mod redact;
pub mod run_tests;
mod schema;
pub mod session;
pub mod shadow;
pub mod slice;
pub mod time;
pub mod typed;
pub mod user;

pub use agent::{Agent, AgentRef};
pub use command::{Arguments, Command, CommandKey, Risk, Service, Target};
pub use decide::{Circumstances, Decision, Permit, Refused, decide};
pub use facts::{Facts, Principal};
pub use grant::{Grant, Scope};
pub use id::{
    AgentId, AgentName, AgentSessionId, ApprovalRequestId, CommandName, DecisionId, GrantId,
    MessageId, RoleName, ServiceName, SessionId, TargetName, TeamName, TokenId, UserId, ZoneName,
};
pub use policy_set::{Finding, PolicySet, PolicySetVersion, PolicySources, Source};
pub use session::Session;
pub use slice::{Action, Slice};
pub use time::{Clock, Timestamp};
pub use user::User;

//! What would come of a command: asked by people, carried out by nobody.

use std::net::{IpAddr, Ipv4Addr};

use authz::{
    AgentId, AgentName, CommandKey, PolicySetVersion, Risk, Session, approval::Reach,
    command::ArgumentsDigest, explain::Explanation, time::Timestamp,
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// Where a call comes from unless the question says otherwise.
pub const DEFAULT_IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// At most so many hypothetical grants.
pub const MAX_GRANTS: usize = 8;

/// `POST /api/explain`: what would be decided, and why. Nothing is carried out, no
/// approval is asked for, and nothing is recorded.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExplainCommand {
    /// The agent's id or name.
    pub agent: String,
    /// The command.
    pub command: CommandKey,
    /// Its arguments, checked against the command's schema.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub arguments: Map<String, Value>,
    /// Whose catalog describes the command, where gateways differ; else that of the
    /// gateway that spoke last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// Under which stored policy set; the one in force if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy_set: Option<PolicySetVersion>,
    /// When; now if absent. Grants are those that the agent has then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// From where; [`DEFAULT_IP`] if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub ip: Option<IpAddr>,
    /// In which session; in a fresh one if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<HypotheticalSession>,
    /// Grants that the agent shall have besides its own, at most [`MAX_GRANTS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(max_items = 8)]
    pub grants: Vec<HypotheticalGrant>,
}

/// A session that nobody has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HypotheticalSession {
    /// Whether the agent has read content that anybody may have written.
    pub tainted: bool,
    /// How many of its commands were permitted before this one.
    pub calls: u32,
    /// How long ago it began, in seconds.
    pub seconds: u64,
}

/// A grant that nobody gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HypotheticalGrant {
    /// How much it covers, of the command in question.
    pub reach: Reach,
    /// How many people gave it: 1 or 2.
    #[schema(minimum = 1, maximum = 2)]
    pub approvals: u8,
    /// Up to which risk; the command's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
}

/// The answer to [`ExplainCommand`].
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ExplainAnswer {
    /// Who.
    pub agent: AgentId,
    /// Their name.
    pub agent_name: AgentName,
    /// What.
    pub command: CommandKey,
    /// What it may do to the world.
    pub risk: Risk,
    /// Whose catalog described it.
    pub gateway: String,
    /// With what: as given, with the command's defaults.
    #[schema(value_type = Object)]
    pub arguments: Map<String, Value>,
    /// Of the arguments.
    pub digest: ArgumentsDigest,
    /// Which policy set decided.
    pub policy_set: PolicySetVersion,
    /// Whether that is the one in force.
    pub in_force: bool,
    /// When.
    pub at: Timestamp,
    /// From where.
    #[schema(value_type = String)]
    pub ip: IpAddr,
    /// In which session.
    pub session: Session,
    /// How many grants the agent had, those that nobody gave included.
    pub grants: usize,
    /// What came of it, and why.
    #[serde(flatten)]
    pub explanation: Explanation,
}

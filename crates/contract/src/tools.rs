//! Tools of MCP servers, and who reviewed their definitions.

use std::collections::BTreeMap;

use authz::{CommandName, Risk, ServiceName, command::ArgumentsDigest, time::Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

/// `GET /api/gateway/tool-reviews`: which definitions somebody reviewed. A tool whose
/// definition has another digest, or none here, is not pinned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolReviews {
    /// By service and tool: SHA-256 of the definition's canonical JSON.
    #[schema(value_type = BTreeMap<String, BTreeMap<String, String>>)]
    pub services: BTreeMap<ServiceName, BTreeMap<CommandName, ArgumentsDigest>>,
}

/// SHA-256 of a definition's canonical JSON. Of what is no object there is none.
#[must_use]
pub fn digest(definition: &Value) -> Option<ArgumentsDigest> {
    let members = definition.as_object()?;
    Some(authz::Arguments::new(members.clone()).digest().clone())
}

/// Whether a tool may be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ToolState {
    /// Its definition is the reviewed one.
    Reviewed,
    /// It is another than the reviewed one: refused until somebody reviews it.
    Changed,
    /// Nobody ever reviewed it: refused until somebody does.
    New,
    /// It was reviewed, and no gateway sees it any more.
    Gone,
}

impl ToolState {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reviewed => "reviewed",
            Self::Changed => "changed",
            Self::New => "new",
            Self::Gone => "gone",
        }
    }
}

/// One line of `GET /api/services/{service}/tools`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolView {
    /// Its name.
    pub name: CommandName,
    /// Whether it may be called.
    pub state: ToolState,
    /// What it may do to the world; absent when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub risk: Option<Risk>,
    /// The definition that gateways see now, of the one that spoke last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<ArgumentsDigest>,
    /// The gateways that see another one than that.
    #[serde(default)]
    pub differs_at: Vec<String>,
    /// The review, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<ToolReview>,
    /// What to look at before approving it.
    #[serde(default)]
    pub warnings: Vec<ToolWarning>,
}

/// A review.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolReview {
    /// Of this definition.
    pub digest: ArgumentsDigest,
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Something in a definition that a reviewer may overlook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToolWarning {
    /// What it is.
    pub kind: ToolWarningKind,
    /// Where: `description`, `inputSchema.properties.path.description`.
    pub place: String,
    /// What stands there, with invisible characters written out; an excerpt.
    pub excerpt: String,
}

/// What may be overlooked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ToolWarningKind {
    /// Characters that nobody sees and models read, or that turn the order of others round.
    Invisible,
    /// Words that sound like an instruction to the model rather than a description.
    Instruction,
    /// The name of another service's tool.
    OtherTool,
    /// More text than anybody reads.
    Long,
}

impl ToolWarningKind {
    /// In words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invisible => "invisible characters",
            Self::Instruction => "sounds like an instruction to the model",
            Self::OtherTool => "speaks of another service's tool",
            Self::Long => "very long",
        }
    }
}

/// `GET /api/services/{service}/tools/{tool}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ToolDetails {
    /// As in the list.
    #[serde(flatten)]
    pub tool: ToolView,
    /// The definition that gateways see now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Value>,
    /// The reviewed one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reviewed_definition: Option<Value>,
    /// From the reviewed one to the one now, line by line: each begins with `+`, `-` or a
    /// space, then a space. Invisible characters are written out.
    pub difference: Vec<String>,
}

/// `POST /api/services/{service}/approve-tools`: these definitions, and no others, may be
/// called from now on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveTools {
    /// At most 2048.
    pub tools: Vec<ApproveTool>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApproveTool {
    /// Its name.
    pub name: CommandName,
    /// Of the definition that the reviewer saw: if it is another by now, nothing is approved.
    pub digest: ArgumentsDigest,
}

/// `POST /api/services/{service}/withdraw-tools`: these may not be called any more until
/// somebody reviews them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WithdrawTools {
    /// At most 2048.
    pub tools: Vec<CommandName>,
}

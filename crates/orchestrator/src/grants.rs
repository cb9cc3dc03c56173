//! Grants: taken back.

use authz::{AgentRef, GrantId, approval::may_revoke};
use store::{StoreError, grants::StoredGrant};

use crate::{
    Orchestrator,
    approvals::{MAX_REASON_CHARS, check_text},
    authenticate::Person,
    error::Error,
};

/// Takes a grant back for a person; where an agent is named, one of that agent's.
///
/// # Errors
///
/// When this person may not, or it has ended.
pub(crate) async fn revoke(
    orchestrator: &Orchestrator,
    person: &Person,
    agent: Option<&AgentRef>,
    grant: GrantId,
    reason: &str,
) -> Result<StoredGrant, Error> {
    check_text("reason", reason, MAX_REASON_CHARS)?;
    orchestrator.settle().await?;
    let actor = orchestrator.actor(person);
    let store = orchestrator.store();
    let stored = store.grant(grant).await?;
    let holder = AgentRef::Id(stored.grant.agent);
    let holder = match agent {
        Some(named) => store.agent(named).await?.agent,
        None => store.agent(&holder).await?.agent,
    };
    if holder.id != stored.grant.agent {
        return Err(StoreError::NotFound(format!("grant `{grant}` of this agent")).into());
    }
    may_revoke(
        &orchestrator.in_force().set,
        &person.user,
        &holder,
        person.presence(orchestrator),
    )?;
    let stored = store.revoke_grant(grant, reason, &actor).await?;
    tracing::info!(
        grant = %grant,
        agent.id = %holder.id,
        scope = stored.grant.scope.key(),
        user = %person.user.id,
        "grant_revoked"
    );
    Ok(stored)
}

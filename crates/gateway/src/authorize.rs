//! From a command to a permit, or to the reason why there is none.
//!
//! A permit may rest on facts from memory. A refusal may not: it is decided once more on
//! facts asked for after the request arrived, unless a `forbid` that no grant can lift
//! decided it. So an approval works at the next try, and waits for no cache.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use authz::{
    AgentId, Circumstances, Clock, Command, Decision, DecisionId, Permit, Principal, Refused,
    Session,
    approval::{Escalation, derive},
    decide,
    shadow::Fate,
};
use contract::{
    approvals::{ApprovalStatus, OpenApproval},
    facts::SpendGrant,
};
use http::StatusCode;
use serde_json::{Map, Value};

use crate::{
    authenticate::Caller,
    facts::{FactsCache, FactsError, Held},
    limits::{Charge, Limits},
    metrics::Metrics,
    policy::{Active, Policies},
    refusal::{Asked, Denied, Refusal},
    sessions::Sessions,
    shadow::{self, Difference},
    zones::{Placed, Zones},
};

/// So often a command is decided again because facts changed while it was decided.
const MAX_ROUNDS: usize = 4;

/// Decides commands.
#[derive(Debug)]
pub(crate) struct Authorizer {
    pub(crate) orchestrator: contract::Client,
    pub(crate) facts: Arc<FactsCache>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) limits: Arc<Limits>,
    pub(crate) clock: Clock,
    /// The latest time that was decided at, in milliseconds.
    pub(crate) latest: AtomicI64,
    pub(crate) approvals_url: String,
}

/// One command to be decided.
pub(crate) struct Case<'a> {
    pub(crate) decision: DecisionId,
    pub(crate) caller: &'a Caller,
    pub(crate) command: Command,
    /// The arguments as people may see them.
    pub(crate) arguments: &'a Map<String, Value>,
    /// Why, in the agent's words; may be empty.
    pub(crate) reason: &'a str,
}

impl Authorizer {
    /// Permits a command, spending the grant that it rests on if that is for one use, or
    /// says why not: a refusal that people can lift has been put before them. With a permit
    /// comes what it takes of limits. Also what it rested on, for the record.
    pub(crate) async fn authorize(
        &self,
        case: Case<'_>,
    ) -> (Result<(Permit, Charge), Refusal>, Witness) {
        let mut seen = Seen {
            difference: None,
            principal: Arc::clone(&case.caller.held.principal),
            session: Session::fresh(self.clock.now()),
        };
        let outcome = self.decide(case, &mut seen).await;
        if let (Ok(_) | Err(Refusal::Denied(_)), Some(Compared { from, difference })) =
            (&outcome, &seen.difference)
        {
            self.metrics
                .shadow_differs(from.as_str(), difference.decision);
        }
        let witness = Witness {
            difference: seen.difference.map(|compared| compared.difference),
            principal: seen.principal,
            session: seen.session,
        };
        (outcome, witness)
    }

    /// What the shadow says about a command whose fate is decided.
    fn compare(
        &self,
        active: &Active,
        from: Fate,
        principal: &Principal,
        command: (&Command, &Placed),
        at: Circumstances,
    ) -> Option<Compared> {
        let shadow = self.policies.shadow()?;
        if shadow.version() == active.version() {
            return None;
        }
        let difference = shadow::compare(&shadow, from, principal, command, at)?;
        Some(Compared { from, difference })
    }

    async fn decide(&self, case: Case<'_>, seen: &mut Seen) -> Result<(Permit, Charge), Refusal> {
        let Case {
            decision,
            caller,
            mut command,
            arguments,
            reason,
        } = case;
        // What one comes with can only make a right less, so policy need not be asked.
        caller.identity.suffices(command.target.risk)?;
        let agent = caller.held.principal.agent().id;
        let described = Arc::clone(&command.target);
        let mut held = caller.held.clone();
        let mut fresh_since = caller.arrived;
        if self.clock_went_back() {
            // A grant that had expired would be good again by this clock. The orchestrator
            // does not forget that it had; what is in memory here does.
            tracing::warn!("the clock went back: what is known of agents is asked for again");
            self.facts.invalidate_all();
            fresh_since = self.facts.clock().now();
            held = self.fresh(agent, fresh_since).await?;
        }
        for _ in 0..MAX_ROUNDS {
            seen.principal = Arc::clone(&held.principal);
            let active = self.policies.current().ok_or(Refusal::NoPolicySet)?;
            let zones = self.zones.current().ok_or(Refusal::NoZones)?;
            // The one place where a command gets the zones that people put it into: what it
            // is decided, recorded and put before people as from here on.
            let placed = zones.place(&described);
            command.target = Arc::clone(placed.target());
            let slices = active.slices(&placed);
            let now = self.clock.now();
            // Looked up each time: it may have read something meanwhile.
            seen.session = self.sessions.enter(agent, caller.session.as_ref(), now);
            let at = Circumstances {
                now,
                ip: caller.ip,
                session: seen.session,
            };
            let began = Instant::now();
            match decide(slices.invoke(), &held.principal, command, at) {
                Decision::Permit(permit) => {
                    self.metrics.decided("permit", began.elapsed());
                    // Before the grant is spent: it is of no use for a call that is limited.
                    let charge = self.charge(&held, &permit)?;
                    if self.spend(&permit, decision).await? {
                        self.sessions.permitted(agent, at.session.id);
                        seen.difference = self.compare(
                            &active,
                            Fate::Permit,
                            &held.principal,
                            (permit.command(), &placed),
                            at,
                        );
                        return Ok((permit, charge));
                    }
                    // Someone else used the grant, or it was taken back: decide without it.
                    command = permit.command().clone();
                    self.facts.invalidate(agent);
                    fresh_since = self.facts.clock().now();
                }
                Decision::Refuse(refused) => {
                    let escalation = derive(
                        slices.invoke(),
                        slices.escalate(),
                        &held.principal,
                        &refused,
                        at,
                    );
                    self.metrics.decided("refuse", began.elapsed());
                    if held.asked_since(fresh_since) || decided_by_a_wall(&refused, &escalation) {
                        seen.difference = self.compare(
                            &active,
                            shadow::fate(&escalation),
                            &held.principal,
                            (&refused.command, &placed),
                            at,
                        );
                        let denied = self
                            .deny(
                                decision,
                                (&held, at),
                                *refused,
                                escalation,
                                (arguments, reason),
                            )
                            .await?;
                        match denied {
                            Denial::Final(denied) => return Err(Refusal::Denied(denied)),
                            // Approved at this very moment.
                            Denial::Stale(refused) => {
                                seen.difference = None;
                                command = refused;
                            }
                        }
                        fresh_since = self.facts.clock().now();
                    } else {
                        command = refused.command;
                    }
                }
            }
            held = self.fresh(agent, fresh_since).await?;
        }
        tracing::error!(agent.id = %agent, "a command could not be decided: its facts change faster than it can be");
        Err(Refusal::Internal)
    }

    async fn fresh(&self, agent: AgentId, since: Duration) -> Result<Held, Refusal> {
        let held = self.facts.fresh(agent, since).await;
        held.map_err(|error| match error {
            FactsError::Unknown => {
                Refusal::Unauthenticated("the agent is no longer registered".to_owned())
            }
            FactsError::Orchestrator(error) => Refusal::Orchestrator(error),
        })
    }

    /// Whether the clock shows less than it did; says so once.
    fn clock_went_back(&self) -> bool {
        let now = self.clock.now().as_millis();
        let latest = self.latest.fetch_max(now, Ordering::AcqRel);
        now < latest
            && self
                .latest
                .compare_exchange(latest, now, Ordering::AcqRel, Ordering::Acquire)
                .is_ok()
    }

    /// Takes a permitted command from the limits that it meets.
    fn charge(&self, held: &Held, permit: &Permit) -> Result<Charge, Refusal> {
        let charge = self
            .limits
            .charge(held.principal.agent(), &permit.command().target.key);
        charge.map_err(Refusal::Limited)
    }

    /// Spends a grant for one use; whether the permit stands.
    async fn spend(&self, permit: &Permit, decision: DecisionId) -> Result<bool, Refusal> {
        let Some(grant) = permit.grant().filter(|grant| grant.single_use) else {
            return Ok(true);
        };
        match self
            .orchestrator
            .spend_grant(grant.id, &SpendGrant { decision })
            .await
        {
            Ok(()) => Ok(true),
            Err(error) if error.status().is_some_and(is_spent) => Ok(false),
            Err(error) => {
                tracing::warn!(grant = %grant.id, error = &error as &dyn std::error::Error, "a grant for one use cannot be spent");
                Err(Refusal::Orchestrator(Arc::new(error)))
            }
        }
    }

    async fn deny(
        &self,
        decision: DecisionId,
        (held, circumstances): (&Held, Circumstances),
        refused: Refused,
        escalation: Escalation,
        (arguments, reason): (&Map<String, Value>, &str),
    ) -> Result<Denial, Refusal> {
        // What an agent got wrong is no reason to call whoever writes policies.
        for error in refused.errors.iter().filter(|_| !refused.misfit) {
            tracing::error!(
                policy = error.policy,
                error = error.message,
                "a policy cannot be evaluated"
            );
            self.metrics.policy_error(&error.policy);
        }
        let principal = &held.principal;
        let mut permitted_by_approval = Vec::new();
        let (asked, policies, advice) = match escalation {
            Escalation::Hard { policies, advice } => {
                // What forbids asking may be other than what forbids the command.
                let own = policies.is_empty() && advice.is_empty();
                let (policies, advice) = if own {
                    (refused.policies.clone(), refused.advice.clone())
                } else {
                    (policies, advice)
                };
                (Asked::Useless, policies, advice)
            }
            Escalation::Liftable {
                approvals,
                workflow,
                policies,
            } => {
                permitted_by_approval = policies;
                let open = opening(
                    principal,
                    &refused,
                    approvals,
                    workflow,
                    (arguments, reason),
                    circumstances,
                );
                let asked = match self.orchestrator.open_approval(&open).await {
                    Ok(approval) if approval.status == ApprovalStatus::Approved => {
                        return Ok(Denial::Stale(refused.command));
                    }
                    Ok(approval) => {
                        let url = format!(
                            "{}/approvals/{}",
                            self.approvals_url.trim_end_matches('/'),
                            approval.id
                        );
                        Asked::Request { approval, url }
                    }
                    Err(contract::Error::Refused { status, detail })
                        if status == StatusCode::TOO_MANY_REQUESTS =>
                    {
                        tracing::info!(agent.id = %principal.agent().id, command = %refused.command.target.key, detail, "no further permission request");
                        Asked::TooMany(detail)
                    }
                    Err(error) => {
                        tracing::warn!(agent.id = %principal.agent().id, command = %refused.command.target.key, error = &error as &dyn std::error::Error, "permission request cannot be sent");
                        Asked::Failed
                    }
                };
                (asked, refused.policies.clone(), refused.advice.clone())
            }
        };
        Ok(Denial::Final(Box::new(Denied {
            decision,
            agent: principal.agent().id,
            command: refused.command.target.key.clone(),
            policies,
            permitted_by_approval,
            advice,
            policy_set: refused.policy_set,
            policy_error: refused.policy_error,
            misfit: refused.misfit,
            asked,
            at: self.clock.now(),
        })))
    }
}

/// What a decision rested on, and what the shadow policy set would have decided otherwise,
/// which changes nothing.
pub(crate) struct Witness {
    pub(crate) difference: Option<Difference>,
    /// The facts that it was decided on last.
    pub(crate) principal: Arc<Principal>,
    /// The session as it was then.
    pub(crate) session: Session,
}

/// The same while it is being decided.
struct Seen {
    difference: Option<Compared>,
    principal: Arc<Principal>,
    session: Session,
}

/// A difference, and from what.
struct Compared {
    from: Fate,
    difference: Difference,
}

/// What asking people came to.
enum Denial {
    /// The command is refused.
    Final(Box<Denied>),
    /// It was approved meanwhile: decide it again.
    Stale(Command),
}

/// Whether the orchestrator says that a grant is spent, revoked, expired or gone.
fn is_spent(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::CONFLICT | StatusCode::NOT_FOUND | StatusCode::GONE
    )
}

/// Whether a `forbid` that no grant can lift decided, or arguments that cannot be judged:
/// then newer facts need not be asked for.
fn decided_by_a_wall(refused: &Refused, escalation: &Escalation) -> bool {
    matches!(escalation, Escalation::Hard { .. })
        && (!refused.policies.is_empty() || refused.misfit)
}

fn opening(
    principal: &Principal,
    refused: &Refused,
    approvals: u8,
    workflow: Option<String>,
    (arguments, reason): (&Map<String, Value>, &str),
    at: Circumstances,
) -> OpenApproval {
    let agent = principal.agent();
    let target = &refused.command.target;
    let reason = if reason.is_empty() {
        format!(
            "Agent {} attempted to use {} for operation: {}",
            agent.name, target.key.service, target.key.name
        )
    } else {
        reason.to_owned()
    };
    OpenApproval {
        agent: agent.id,
        target: (**target).clone(),
        arguments: arguments.clone(),
        digest: refused.command.arguments.digest().clone(),
        reason,
        policies: refused.policies.clone(),
        advice: refused.advice.clone(),
        workflow,
        approvals,
        policy_set: refused.policy_set.clone(),
        ip: Some(at.ip),
        session: Some(at.session),
    }
}

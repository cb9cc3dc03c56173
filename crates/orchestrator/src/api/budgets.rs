//! Budgets, as gateways use them and people see them.

use authz::{AgentRef, ServiceName, Timestamp};
use axum::{Json, extract::State};
use contract::budgets::{BudgetView, BudgetsElsewhere, MAX_REPORTED, ReportBudgets};
use serde::Deserialize;
use store::{Actor, budgets::Run};
use utoipa::IntoParams;

use super::{Json as Body, Parameters, gateway::check_gateway};
use crate::{
    Orchestrator, approvals,
    authenticate::{GatewayCaller, May, View},
    budgets,
    error::Error,
};

/// A run's name is at most so long.
const MAX_RUN_CHARS: usize = 64;

/// What is told again of the time before: another orchestrator's clock may be behind so far.
const OVERLAP: std::time::Duration = std::time::Duration::from_secs(30);

/// What a list may be narrowed to.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// Of this agent only, by id or name.
    #[serde(default)]
    agent: Option<String>,
    /// Of this service only.
    #[serde(default)]
    service: Option<String>,
}

#[utoipa::path(
    get,
    path = "/api/budgets",
    tag = "services",
    summary = "What is used of today's budgets, most first",
    params(Filter),
    responses((status = 200, description = "Over all gateways", body = Vec<BudgetView>), (status = 404, description = "There is no such agent"))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Vec<BudgetView>>, Error> {
    let agent = match filter.agent {
        None => None,
        Some(agent) => {
            let agent: AgentRef = agent
                .parse()
                .map_err(|error| Error::field("agent", error))?;
            Some(orchestrator.store().agent(&agent).await?.agent.id)
        }
    };
    let service = filter.service.map(|service| {
        let service: Result<ServiceName, _> = service.parse();
        service.map_err(|error| Error::field("service", error))
    });
    let service = service.transpose()?;
    let today = budgets::today(&orchestrator, agent, service.as_ref());
    Ok(Json(today.await?))
}

#[utoipa::path(
    post,
    path = "/api/gateway/budgets",
    tag = "gateway",
    summary = "Say what went through a gateway, and hear what went through others",
    request_body = ReportBudgets,
    responses((status = 200, description = "What went through others", body = BudgetsElsewhere))
)]
pub(crate) async fn report(
    _: GatewayCaller,
    State(orchestrator): State<Orchestrator>,
    Body(report): Body<ReportBudgets>,
) -> Result<Json<BudgetsElsewhere>, Error> {
    check_gateway(&report.gateway)?;
    approvals::check_text("run", &report.run, MAX_RUN_CHARS)?;
    if report.run.is_empty() {
        return Err(Error::field("run", "it is empty"));
    }
    if report.used.len() > MAX_REPORTED {
        let message = format!("at most {MAX_REPORTED} at a time");
        return Err(Error::field("used", message));
    }
    let now = orchestrator.now();
    let run = Run {
        gateway: &report.gateway,
        run: &report.run,
        day: report.day.0,
    };
    let store = orchestrator.store();
    if !report.used.is_empty() {
        let actor = Actor::itself("gateway", now);
        let used: Vec<_> = report.used.into_iter().map(budgets::to_store).collect();
        store.keep_budget_use(run, &used, &actor).await?;
    }
    let since = report
        .since
        .map_or(Timestamp::from_millis(0), |since| since.minus(OVERLAP));
    let elsewhere = store.budget_use_elsewhere(run, since).await?;
    Ok(Json(BudgetsElsewhere {
        told: now,
        elsewhere: elsewhere.into_iter().map(budgets::of_store).collect(),
    }))
}

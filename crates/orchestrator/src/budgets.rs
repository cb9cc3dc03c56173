//! Budgets: what gateways say that is used of them, put together.

use std::collections::HashMap;

use authz::{AgentId, AgentName, AgentRef, ServiceName};
use contract::budgets::{BudgetKey, BudgetUse, BudgetView, Day};
use store::{StoreError, budgets as stored};

use crate::{Orchestrator, error::Error};

/// Numbers of calls and bytes fit; what does not is as much as fits.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn number(count: i64) -> u64 {
    u64::try_from(count).unwrap_or(0)
}

/// As the store keeps it.
pub(crate) fn to_store(used: BudgetUse) -> stored::BudgetUse {
    let BudgetKey {
        service,
        command,
        agent,
    } = used.key;
    stored::BudgetUse {
        key: stored::BudgetKey {
            service,
            command,
            agent,
        },
        calls: count(used.calls),
        bytes: count(used.bytes),
        calls_limit: used.calls_limit.map(count),
        bytes_limit: used.bytes_limit.map(count),
    }
}

/// As it is said to gateways and people.
pub(crate) fn of_store(used: stored::BudgetUse) -> BudgetUse {
    let stored::BudgetKey {
        service,
        command,
        agent,
    } = used.key;
    BudgetUse {
        key: BudgetKey {
            service,
            command,
            agent,
        },
        calls: number(used.calls),
        bytes: number(used.bytes),
        calls_limit: used.calls_limit.map(number),
        bytes_limit: used.bytes_limit.map(number),
    }
}

/// What is used today: of one agent, of one service, or of everything; most first.
///
/// # Errors
///
/// When the store fails.
pub(crate) async fn today(
    orchestrator: &Orchestrator,
    agent: Option<AgentId>,
    service: Option<&ServiceName>,
) -> Result<Vec<BudgetView>, Error> {
    let day = Day::of(orchestrator.now());
    let store = orchestrator.store();
    let used = store.budget_use(day.0, agent, service).await?;
    let mut names: HashMap<AgentId, AgentName> = HashMap::new();
    for agent in used.iter().filter_map(|used| used.key.agent) {
        if names.contains_key(&agent) {
            continue;
        }
        match store.agent(&AgentRef::Id(agent)).await {
            Ok(stored) => names.insert(agent, stored.agent.name),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
    }
    let views = used.into_iter().map(|used| {
        let used = of_store(used);
        BudgetView {
            agent_name: used.key.agent.and_then(|agent| names.get(&agent).cloned()),
            spent: used.is_spent(),
            resets: day.end(),
            used,
        }
    });
    Ok(views.collect())
}

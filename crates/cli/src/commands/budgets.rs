//! `cedargate budgets`: what is used of today's.

use authz::{AgentRef, ServiceName};
use contract::budgets::BudgetView;

use super::Context;
use crate::{
    client::Answer,
    output::{Output, time},
};

pub(super) async fn run(
    context: &Context,
    agent: Option<&AgentRef>,
    service: Option<&ServiceName>,
) -> anyhow::Result<()> {
    let agent = agent.map(ToString::to_string);
    let service = service.map(ToString::to_string);
    let budgets = context
        .client()
        .budgets(agent.as_deref(), service.as_deref())
        .await
        .of(&context.remote)?;
    context
        .output
        .print(&budgets, |output| table(output, &budgets))
}

fn table(output: Output, budgets: &[BudgetView]) -> String {
    output.table(
        &["of", "agent", "calls", "bytes", "state", "whole again"],
        budgets.iter().map(|view| {
            let key = &view.used.key;
            let agent = match (&view.agent_name, key.agent) {
                (Some(name), _) => name.to_string(),
                (None, Some(agent)) => agent.to_string(),
                (None, None) => "all together".to_owned(),
            };
            vec![
                key.to_string(),
                agent,
                of(view.used.calls, view.used.calls_limit),
                of(view.used.bytes, view.used.bytes_limit),
                if view.spent { "spent" } else { "left" }.to_owned(),
                time(view.resets),
            ]
        }),
    )
}

fn of(used: u64, limit: Option<u64>) -> String {
    match limit {
        Some(limit) => format!("{used} of {limit}"),
        None => used.to_string(),
    }
}

//! `cedargate approvals`.

use std::time::Duration;

use authz::{ApprovalRequestId, approval::Choice};
use contract::{
    approvals::{ApprovalView, Approve, Reject, VerdictView, Withdraw},
    feed::Change,
};
use futures_util::StreamExt;

use super::Context;
use crate::{
    arguments::Approvals,
    client::Answer,
    output::{Output, json_line, printable, span, time, write_line},
    signals,
};

/// Between attempts to follow the feed again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn run(context: &Context, command: Approvals) -> anyhow::Result<()> {
    let client = context.client();
    match command {
        Approvals::List { all, agent } => {
            let approvals = match &agent {
                None => client.approvals(all).await,
                Some(agent) => client.approvals_of(agent, all).await,
            };
            let approvals = approvals.of(&context.remote)?;
            context.output.print(&approvals, |output| {
                if approvals.is_empty() {
                    "nothing waits for you".to_owned()
                } else {
                    table(output, &approvals)
                }
            })
        }
        Approvals::Show { id } => {
            let approval = client.approval(id).await.of(&context.remote)?;
            context
                .output
                .print(&approval, |output| detail(output, &approval))
        }
        Approvals::Approve {
            id,
            reach,
            duration,
            reason,
        } => {
            let approve = Approve {
                reach,
                duration_seconds: duration.map(|span| span.as_secs()),
                reason,
            };
            let approval = client.approve(id, &approve).await.of(&context.remote)?;
            context.output.print(&approval, |_| decided(&approval))
        }
        Approvals::Reject { id, reason } => {
            let approval = client
                .reject(id, &Reject { reason })
                .await
                .of(&context.remote)?;
            context.output.print(&approval, |_| decided(&approval))
        }
        Approvals::Withdraw { id, reason } => {
            let approval = client
                .withdraw(id, &Withdraw { reason })
                .await
                .of(&context.remote)?;
            context.output.print(&approval, |_| decided(&approval))
        }
        Approvals::Watch { plain } => {
            if !plain && !context.output.json && crate::watch::is_possible() {
                return crate::watch::run(&context.remote, &crate::planes::system_clock()).await;
            }
            let shutdown = signals::shutdown()?;
            tokio::select! {
                watched = watch(context) => watched,
                () = shutdown.cancelled() => Ok(()),
            }
        }
    }
}

/// Prints what is pending, then every change, until it is stopped. A connection that
/// breaks is made again, from where it broke.
async fn watch(context: &Context) -> anyhow::Result<()> {
    // Followed first and listed then, so that nothing falls between.
    let mut feed = Some(
        context
            .client()
            .follow(None)
            .await
            .of(&context.remote)?
            .boxed(),
    );
    let pending = context
        .client()
        .approvals(false)
        .await
        .of(&context.remote)?;
    for approval in pending.iter().rev() {
        show_line(context.output, approval)?;
    }
    let mut after = None;
    loop {
        let Some(stream) = &mut feed else {
            tokio::time::sleep(RETRY).await;
            // Refused is for good; out of reach may pass.
            feed = match context.client().follow(after).await {
                Ok(stream) => Some(stream.boxed()),
                Err(error) if error.status().is_some() => {
                    return Err(context.remote.explain(error));
                }
                Err(_) => None,
            };
            continue;
        };
        match stream.next().await {
            Some(Ok(Some(event))) => {
                after = Some(event.sequence);
                if let Some(id) = approval_of(&event.change) {
                    show_line(
                        context.output,
                        &context.client().approval(id).await.of(&context.remote)?,
                    )?;
                }
            }
            Some(Ok(None)) => {}
            Some(Err(_)) | None => feed = None,
        }
    }
}

fn approval_of(change: &Change) -> Option<ApprovalRequestId> {
    match change {
        Change::ApprovalOpened { approval, .. }
        | Change::ApprovalAdvanced { approval, .. }
        | Change::ApprovalApproved { approval, .. }
        | Change::ApprovalRejected { approval, .. }
        | Change::ApprovalClosed { approval, .. } => Some(*approval),
        Change::AgentChanged { .. }
        | Change::UserChanged { .. }
        | Change::GrantEnded { .. }
        | Change::PolicySetActivated { .. }
        | Change::PolicySetShadowed { .. }
        | Change::ToolsReviewed { .. }
        | Change::ZonesChanged { .. } => None,
    }
}

fn show_line(output: Output, approval: &ApprovalView) -> anyhow::Result<()> {
    if output.json {
        return write_line(&json_line(approval)?);
    }
    let summary = &approval.summary;
    let text = format!(
        "{}  {:9} {}  {} {} ({}, approved by {})  {}",
        time(summary.opened),
        summary.status.as_str(),
        summary.id,
        approval.agent_name,
        summary.command,
        approval.risk,
        approvals_of(approval),
        approval.reason,
    );
    write_line(printable(&text).trim_end())
}

fn approvals_of(approval: &ApprovalView) -> String {
    format!(
        "{} of {}",
        approval.summary.approvals_given, approval.summary.approvals_needed
    )
}

fn table(output: Output, approvals: &[ApprovalView]) -> String {
    output.table(
        &[
            "id", "status", "agent", "command", "risk", "approved", "expires", "reason",
        ],
        approvals.iter().map(|approval| {
            let summary = &approval.summary;
            vec![
                summary.id.to_string(),
                summary.status.as_str().to_owned(),
                approval.agent_name.to_string(),
                summary.command.to_string(),
                approval.risk.to_string(),
                format!(
                    "{} of {}",
                    summary.approvals_given, summary.approvals_needed
                ),
                time(summary.expires),
                approval.reason.clone(),
            ]
        }),
    )
}

fn detail(output: Output, approval: &ApprovalView) -> String {
    let summary = &approval.summary;
    let arguments = serde_json::to_string(&approval.arguments).unwrap_or_default();
    let mut text = output.fields(&[
        ("id", summary.id.to_string()),
        ("status", summary.status.as_str().to_owned()),
        (
            "agent",
            format!("{} ({})", approval.agent_name, summary.agent),
        ),
        ("command", summary.command.to_string()),
        ("risk", approval.risk.to_string()),
        ("arguments", arguments),
        ("reason", approval.reason.clone()),
        ("refused by", approval.policies.join(", ")),
        ("advice", approval.advice.join(" ")),
        ("approved", approvals_of(approval)),
        ("asked", times(approval.joined.saturating_add(1))),
        ("opened", time(summary.opened)),
        ("expires", time(summary.expires)),
        (
            "grant",
            approval
                .grant
                .map(|grant| grant.to_string())
                .unwrap_or_default(),
        ),
        ("policy set", approval.policy_set.short().to_owned()),
    ]);
    if !approval.verdicts.is_empty() {
        text.push_str("\n\n");
        text.push_str(&output.table(
            &["who", "verdict", "reach", "for", "when", "reason"],
            approval.verdicts.iter().map(verdict),
        ));
    }
    if !approval.choices.is_empty() {
        text.push_str("\n\nyou may choose\n");
        text.push_str(&output.table(
            &["reach", "at most for"],
            approval.choices.iter().map(choice),
        ));
    }
    text
}

fn times(number: u64) -> String {
    if number == 1 {
        "once".to_owned()
    } else {
        format!("{number} times")
    }
}

fn verdict(verdict: &VerdictView) -> Vec<String> {
    vec![
        verdict.user.to_string(),
        if verdict.approved {
            "approved"
        } else {
            "rejected"
        }
        .to_owned(),
        verdict
            .reach
            .map_or("-", authz::approval::Reach::as_str)
            .to_owned(),
        verdict.duration_seconds.map_or("-".to_owned(), span),
        time(verdict.at),
        verdict.reason.clone(),
    ]
}

fn choice(choice: &Choice) -> Vec<String> {
    vec![
        choice.reach.as_str().to_owned(),
        span(choice.longest_seconds),
    ]
}

fn decided(approval: &ApprovalView) -> String {
    let summary = &approval.summary;
    let what = printable(&format!("{} {}", approval.agent_name, summary.command));
    match approval.grant {
        Some(grant) => format!("{}: {what} ({grant})", summary.status.as_str()),
        None if summary.status == contract::approvals::ApprovalStatus::Pending => {
            format!(
                "your approval counts: {what} ({} people; one more must)",
                approvals_of(approval)
            )
        }
        None => format!("{}: {what}", summary.status.as_str()),
    }
}

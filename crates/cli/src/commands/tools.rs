//! `cedargate services tools`: definitions of MCP servers' tools, and their reviews.

use authz::{CommandName, ServiceName};
use contract::tools::{
    ApproveTool, ApproveTools, ToolDetails, ToolState, ToolView, ToolWarning, WithdrawTools,
};
use serde_json::json;

use super::Context;
use crate::{
    arguments::Tools,
    client::Answer,
    exit::{NotFound, Usage},
    output::{Output, printable, time},
};

pub(super) async fn run(context: &Context, command: Tools) -> anyhow::Result<()> {
    let output = context.output;
    match command {
        Tools::List { service } => {
            let tools = all(context, &service).await?;
            output.print(&tools, |output| table(output, &tools))
        }
        Tools::Show { service, tool } => {
            let details = one(context, &service, &tool).await?;
            output.print(&details, |output| detail(output, &details))
        }
        Tools::Diff { service, tool } => {
            let names = match tool {
                Some(tool) => vec![tool],
                None => unreviewed(&all(context, &service).await?)
                    .map(|tool| tool.name.clone())
                    .collect(),
            };
            let mut all = Vec::new();
            for name in names {
                all.push(one(context, &service, &name).await?);
            }
            output.print(&all, |_| {
                let told: Vec<_> = all.iter().map(difference).collect();
                if told.is_empty() {
                    "nothing changed since it was reviewed".to_owned()
                } else {
                    told.join("\n\n")
                }
            })
        }
        Tools::Approve {
            service,
            tools,
            all: every,
            digest,
        } => {
            let known = all(context, &service).await?;
            let chosen = if every {
                let fine = unreviewed(&known).filter(|tool| tool.warnings.is_empty());
                fine.collect()
            } else {
                named(&service, &known, &tools)?
            };
            let approve = approvals(&chosen, digest.as_deref())?;
            if !approve.is_empty() {
                let body = ApproveTools {
                    tools: approve.clone(),
                };
                let client = context.client();
                client
                    .approve_tools(&service, &body)
                    .await
                    .of(&context.remote)?;
            }
            let left: Vec<_> = unreviewed(&known)
                .filter(|tool| every && !tool.warnings.is_empty())
                .map(|tool| tool.name.clone())
                .collect();
            output.print(&json!({"approved": approve, "left": left}), |_| {
                let done = format!("approved {} of {service}", counted(approve.len()));
                if left.is_empty() {
                    return done;
                }
                let names: Vec<_> = left.iter().map(ToString::to_string).collect();
                format!(
                    "{done}\nleft out, because there is something to look at (`cedargate services tools diff {service} TOOL`): {}",
                    names.join(", ")
                )
            })
        }
        Tools::Withdraw { service, tools } => {
            let body = WithdrawTools {
                tools: tools.clone(),
            };
            let client = context.client();
            client
                .withdraw_tools(&service, &body)
                .await
                .of(&context.remote)?;
            output.print(&json!({"withdrawn": tools}), |_| {
                format!(
                    "withdrew the review of {} of {service}",
                    counted(tools.len())
                )
            })
        }
    }
}

async fn all(context: &Context, service: &ServiceName) -> anyhow::Result<Vec<ToolView>> {
    context.client().tools(service).await.of(&context.remote)
}

async fn one(
    context: &Context,
    service: &ServiceName,
    tool: &CommandName,
) -> anyhow::Result<ToolDetails> {
    context
        .client()
        .tool(service, tool)
        .await
        .of(&context.remote)
}

fn unreviewed(tools: &[ToolView]) -> impl Iterator<Item = &ToolView> {
    let open = |tool: &&ToolView| matches!(tool.state, ToolState::New | ToolState::Changed);
    tools.iter().filter(open)
}

fn named<'a>(
    service: &ServiceName,
    known: &'a [ToolView],
    names: &[CommandName],
) -> anyhow::Result<Vec<&'a ToolView>> {
    let find = |name: &CommandName| {
        known.iter().find(|tool| tool.name == *name).ok_or_else(|| {
            NotFound(format!(
                "no gateway sees a tool `{service}/{name}`; `cedargate services tools list {service}` has them"
            ))
            .into()
        })
    };
    names.iter().map(find).collect()
}

/// What is approved is what was just read, or exactly what the person looked at.
fn approvals(tools: &[&ToolView], digest: Option<&str>) -> anyhow::Result<Vec<ApproveTool>> {
    if digest.is_some() && tools.len() != 1 {
        return Err(Usage("`--digest` is of one tool".to_owned()).into());
    }
    let approve = tools.iter().map(|tool| {
        let digest = match digest {
            Some(text) => text.to_owned().try_into()?,
            None => tool
                .digest
                .clone()
                .ok_or_else(|| NotFound(format!("no gateway sees `{}` any more", tool.name)))?,
        };
        Ok(ApproveTool {
            name: tool.name.clone(),
            digest,
        })
    });
    approve.collect()
}

fn counted(tools: usize) -> String {
    match tools {
        1 => "1 tool".to_owned(),
        count => format!("{count} tools"),
    }
}

fn table(output: Output, tools: &[ToolView]) -> String {
    output.table(
        &["tool", "state", "risk", "reviewed by", "when", "look at"],
        tools.iter().map(|tool| {
            let review = tool.review.as_ref();
            vec![
                tool.name.to_string(),
                tool.state.as_str().to_owned(),
                tool.risk.map(|risk| risk.to_string()).unwrap_or_default(),
                review.map(|review| review.by.clone()).unwrap_or_default(),
                review.map(|review| time(review.at)).unwrap_or_default(),
                kinds(&tool.warnings),
            ]
        }),
    )
}

fn kinds(warnings: &[ToolWarning]) -> String {
    let mut kinds: Vec<_> = warnings
        .iter()
        .map(|warning| warning.kind.as_str())
        .collect();
    kinds.dedup();
    kinds.join(", ")
}

fn detail(output: Output, details: &ToolDetails) -> String {
    let tool = &details.tool;
    let review = tool.review.as_ref();
    let text = |value: Option<String>| value.unwrap_or_default();
    let mut told = output.fields(&[
        ("tool", tool.name.to_string()),
        ("state", tool.state.as_str().to_owned()),
        ("risk", text(tool.risk.map(|risk| risk.to_string()))),
        (
            "digest",
            text(tool.digest.as_ref().map(ToString::to_string)),
        ),
        ("reviewed by", text(review.map(|review| review.by.clone()))),
        ("reviewed", text(review.map(|review| time(review.at)))),
        ("differs at", tool.differs_at.join(", ")),
    ]);
    told.push_str(&warnings(&tool.warnings));
    if let Some(definition) = &details.definition {
        let text = serde_json::to_string_pretty(definition).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(printable).collect();
        told.push_str("\n\n");
        told.push_str(&lines.join("\n"));
    }
    told
}

fn difference(details: &ToolDetails) -> String {
    let tool = &details.tool;
    let mut told = format!("{} ({})", tool.name, tool.state.as_str());
    if let Some(digest) = &tool.digest {
        told.push_str("\ndigest ");
        told.push_str(digest.as_str());
    }
    told.push_str(&warnings(&tool.warnings));
    for line in &details.difference {
        told.push('\n');
        told.push_str(&printable(line));
    }
    told
}

fn warnings(warnings: &[ToolWarning]) -> String {
    let lines = warnings.iter().map(|warning| {
        format!(
            "\n! {}: {}: {}",
            printable(&warning.place),
            warning.kind.as_str(),
            printable(&warning.excerpt)
        )
    });
    lines.collect()
}

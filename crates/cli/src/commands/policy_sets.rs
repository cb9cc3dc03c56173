//! `cedargate policy status|activate|rollback|history|shadow`: which policy set is in
//! force, and which beside it.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use authz::{PolicySetVersion, PolicySources, policy_set::Severity};
use contract::{
    gateways::GatewayView,
    policy_sets::{
        ActivatePolicySet, PolicySetChanged, PolicySetStatus, PushPolicySet, RollBack,
        ShadowPolicySet, Then,
    },
};
use serde_json::json;

use super::Context;
use crate::{
    arguments::{Global, PolicySets},
    client::{Answer, Remote, settings},
    config::{Config, Environment, PolicyPaths},
    exit::{self, NotFound, Usage},
    output::{Output, printable_lines, time},
};

/// A version is told from a folder by so many digits at least, and so few are unique.
const SHORTEST_VERSION: usize = 8;

pub(super) async fn run(
    global: &Global,
    environment: Environment,
    command: PolicySets,
) -> anyhow::Result<u8> {
    let settings = settings(global, environment.clone(), BTreeMap::new())?;
    let context = Context {
        remote: Remote::find(global, &settings)?,
        output: Output::new(global.json),
    };
    let sources = |folder, schema| folder_sources(global, environment, folder, schema);
    match command {
        PolicySets::Activate {
            what,
            schema,
            reason,
            allow_lockout,
        } => {
            let changed = match What::of(&what, schema.as_deref())? {
                What::Folder(folder) => {
                    let push = PushPolicySet {
                        sources: sources(folder, schema)?,
                        then: Then::Activate,
                        reason,
                        allow_lockout,
                    };
                    context.client().push_policy_set(&push).await
                }
                What::Version(prefix) => {
                    let version = version(&context, &prefix).await?;
                    let activate = ActivatePolicySet {
                        reason,
                        allow_lockout,
                    };
                    context
                        .client()
                        .activate_policy_set(&version, &activate)
                        .await
                }
            };
            let changed = changed.of(&context.remote)?;
            print_changed(&context, &changed, "in force now", "in force already")
        }
        PolicySets::Rollback {
            to,
            reason,
            allow_lockout,
        } => {
            let to = match to {
                Some(prefix) => Some(version(&context, &prefix).await?),
                None => None,
            };
            let back = RollBack {
                to,
                reason,
                allow_lockout,
            };
            let changed = context.client().roll_back_policy_set(&back).await;
            let changed = changed.of(&context.remote)?;
            print_changed(&context, &changed, "in force again", "in force already")
        }
        PolicySets::Shadow {
            what,
            schema,
            off: _,
            reason,
        } => shadow(&context, what, schema, reason, sources).await,
        PolicySets::Versions => versions(&context).await,
        PolicySets::Show { version } => show(&context, &version).await,
        PolicySets::History { limit } => history(&context, limit).await,
    }?;
    Ok(exit::OK)
}

async fn versions(context: &Context) -> anyhow::Result<()> {
    let stored = context.client().policy_sets().await.of(&context.remote)?;
    context.output.print(&stored, |output| {
        output.table(
            &["version", "stored", "by", "findings", "state"],
            stored.iter().map(|view| {
                vec![
                    view.version.short().to_owned(),
                    time(view.stored),
                    view.stored_by.clone(),
                    view.findings.len().to_string(),
                    if view.active { "in force" } else { "" }.to_owned(),
                ]
            }),
        )
    })
}

/// The sources of one set, as files with their names before them.
async fn show(context: &Context, which: &str) -> anyhow::Result<()> {
    let version = match which {
        "active" | "shadow" => {
            let status = context.client().policy_set_status().await;
            let status = status.of(&context.remote)?;
            if which == "active" {
                status.version
            } else {
                let shadow = status.shadow;
                shadow
                    .ok_or_else(|| NotFound("no policy set is evaluated as shadow".to_owned()))?
                    .version
            }
        }
        prefix => version(context, prefix).await?,
    };
    let view = context.client().policy_set(&version).await;
    let view = view.of(&context.remote)?;
    context.output.print(&view, |_| {
        let sources = view.sources.as_ref();
        let files = sources
            .into_iter()
            .flat_map(|sources| std::iter::once(&sources.schema).chain(&sources.policies));
        let files = files.map(|file| format!("// --- {} ---\n{}", file.name, file.text.trim_end()));
        printable_lines(&files.collect::<Vec<_>>().join("\n\n"))
    })
}

/// What a command is about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum What {
    Folder(PathBuf),
    /// The first digits of a stored version.
    Version(String),
}

impl What {
    pub(super) fn of(text: &str, schema: Option<&Path>) -> anyhow::Result<Self> {
        let path = Path::new(text);
        let is_version = (SHORTEST_VERSION..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        if path.is_dir() || schema.is_some() {
            Ok(Self::Folder(path.to_owned()))
        } else if is_version {
            Ok(Self::Version(text.to_ascii_lowercase()))
        } else {
            Err(Usage(format!(
                "`{text}` is neither a folder nor a version: at least {SHORTEST_VERSION} hexadecimal digits, as `cedargate policy history` shows them"
            ))
            .into())
        }
    }
}

/// The sources of a folder, which the orchestrator checks.
fn folder_sources(
    global: &Global,
    environment: Environment,
    folder: PathBuf,
    schema: Option<PathBuf>,
) -> anyhow::Result<PolicySources> {
    let mut flags = BTreeMap::new();
    for (key, path) in [("policies", Some(folder)), ("schema", schema)] {
        if let Some(path) = path {
            flags.insert(key, path.to_string_lossy().into_owned());
        }
    }
    let settings = settings(global, environment, flags)?;
    match Config::from_settings(&settings)?.policies {
        PolicyPaths::Own { policies, schema } => {
            orchestrator::policy_folder::read(&schema, &policies)
                .map_err(|finding| anyhow::anyhow!("{}", printable_lines(&finding.to_string())))
        }
        // Not with a folder named.
        PolicyPaths::Shipped => Err(Usage("no folder is named".to_owned()).into()),
    }
}

/// The one stored version that begins so.
pub(super) async fn version(context: &Context, prefix: &str) -> anyhow::Result<PolicySetVersion> {
    if let Ok(version) = prefix.parse() {
        return Ok(version);
    }
    let stored = context.client().policy_sets().await.of(&context.remote)?;
    let prefix = prefix.to_ascii_lowercase();
    let mut matching = stored
        .into_iter()
        .filter(|stored| stored.version.as_str().starts_with(&prefix));
    match (matching.next(), matching.next()) {
        _ if prefix.len() < SHORTEST_VERSION => Err(Usage(format!(
            "`{prefix}` is too short for a version: say at least {SHORTEST_VERSION} digits"
        ))
        .into()),
        (Some(one), None) => Ok(one.version),
        (None, _) => Err(NotFound(format!(
            "no stored policy set begins with `{prefix}`; `cedargate policy history` shows those that were in force"
        ))
        .into()),
        (Some(_), Some(_)) => Err(Usage(format!(
            "several stored policy sets begin with `{prefix}`: say more digits"
        ))
        .into()),
    }
}

async fn shadow(
    context: &Context,
    what: Option<String>,
    schema: Option<PathBuf>,
    reason: String,
    sources: impl FnOnce(PathBuf, Option<PathBuf>) -> anyhow::Result<PolicySources>,
) -> anyhow::Result<()> {
    let wanted = match &what {
        None => None,
        Some(what) => Some(What::of(what, schema.as_deref())?),
    };
    let changed = match wanted {
        Some(What::Folder(folder)) => {
            let push = PushPolicySet {
                sources: sources(folder, schema)?,
                then: Then::Shadow,
                reason,
                allow_lockout: false,
            };
            context.client().push_policy_set(&push).await
        }
        Some(What::Version(prefix)) => {
            let version = Some(version(context, &prefix).await?);
            let shadow = ShadowPolicySet { version, reason };
            context.client().shadow_policy_set(&shadow).await
        }
        None => {
            let off = ShadowPolicySet {
                version: None,
                reason,
            };
            context.client().shadow_policy_set(&off).await
        }
    };
    let changed = changed.of(&context.remote)?;
    context.output.print(&changed, |_| match &changed.status.shadow {
        Some(shadow) => format!(
            "{}  evaluated beside {} and not enforced; differences are in the journal and in cedargate_shadow_differences_total",
            shadow.version.short(),
            changed.status.version.short()
        ),
        None if changed.changed => "no policy set is evaluated as shadow any more".to_owned(),
        None => "no policy set was evaluated as shadow".to_owned(),
    })
}

async fn history(context: &Context, limit: u32) -> anyhow::Result<()> {
    let activations = context
        .client()
        .policy_activations(limit)
        .await
        .of(&context.remote)?;
    context.output.print(&activations, |output| {
        output.table(
            &["#", "version", "how", "when", "by", "via", "reason"],
            activations.iter().map(|one| {
                vec![
                    one.id.to_string(),
                    one.version.short().to_owned(),
                    one.kind.replace('_', " "),
                    time(one.at),
                    one.by.clone(),
                    one.via.clone(),
                    one.reason.clone(),
                ]
            }),
        )
    })
}

fn print_changed(
    context: &Context,
    changed: &PolicySetChanged,
    now: &str,
    already: &str,
) -> anyhow::Result<()> {
    context.output.print(changed, |_| {
        let status = &changed.status;
        let what = if changed.changed { now } else { already };
        let mut text = format!(
            "{}  {what}, {} policies",
            status.version.short(),
            status.policies
        );
        if status.folder_held {
            text.push_str(
                "; the orchestrator's policy folder holds another set, and acts when it is edited",
            );
        }
        let warnings = status
            .warnings
            .iter()
            .filter(|finding| finding.severity == Severity::Warning)
            .map(|finding| printable_lines(&finding.to_string()));
        std::iter::once(text)
            .chain(warnings)
            .collect::<Vec<_>>()
            .join("\n\n")
    })
}

/// `cedargate policy status`.
pub(super) async fn status(context: &Context) -> anyhow::Result<()> {
    let status = context
        .client()
        .policy_set_status()
        .await
        .of(&context.remote)?;
    let gateways = context.client().gateways().await.of(&context.remote)?;
    let mut value = serde_json::to_value(&status)?;
    if let Some(value) = value.as_object_mut() {
        value.insert("gateways".to_owned(), json!(gateways));
    }
    context.output.print(&value, |output| {
        let findings = status.rejected.iter().chain(&status.warnings);
        let findings = findings.map(|finding| printable_lines(&finding.to_string()));
        [fields(output, &status), table(output, &gateways)]
            .into_iter()
            .chain(findings)
            .collect::<Vec<_>>()
            .join("\n\n")
    })
}

fn fields(output: Output, status: &PolicySetStatus) -> String {
    let folder = match (&status.folder, status.rejected.len()) {
        (_, 1) => "NOT in force: 1 finding".to_owned(),
        (_, number @ 2..) => format!("NOT in force: {number} findings"),
        (Some(folder), 0) if status.folder_held => format!(
            "{} NOT in force: another was activated by hand; `cedargate policy activate {}`, or an edit, puts it in force",
            folder.short(),
            folder.short()
        ),
        (_, 0) => "in force".to_owned(),
    };
    let shadow = status.shadow.as_ref().map(|shadow| {
        format!(
            "{} since {}, by {}",
            shadow.version.short(),
            time(shadow.since),
            shadow.by
        )
    });
    output.fields(&[
        ("version", status.version.short().to_owned()),
        ("policies", status.policies.to_string()),
        ("in force since", time(status.activated)),
        ("put there by", status.activated_by.clone()),
        ("because", status.reason.clone()),
        ("folder", folder),
        ("folder read", status.checked.map(time).unwrap_or_default()),
        ("shadow", shadow.unwrap_or_default()),
    ])
}

fn table(output: Output, gateways: &[GatewayView]) -> String {
    if gateways.is_empty() {
        return "no gateway has reported yet".to_owned();
    }
    output.table(
        &["gateway", "enforces", "since", "shadow", "state", "seen"],
        gateways.iter().map(|view| {
            let said = &view.status;
            let short = |version: Option<&PolicySetVersion>| {
                version.map_or("-", PolicySetVersion::short).to_owned()
            };
            let mut states = Vec::new();
            if view.silent {
                states.push("silent".to_owned());
            }
            if said.version.is_none() {
                states.push("refuses everything".to_owned());
            } else if !view.current {
                states.push("not yet the one in force".to_owned());
            }
            if said.last_known_good {
                states.push("last known good".to_owned());
            }
            states.extend(said.problem.clone());
            if states.is_empty() {
                states.push("ok".to_owned());
            }
            vec![
                said.gateway.clone(),
                short(said.version.as_ref()),
                said.since.map(time).unwrap_or_default(),
                short(said.shadow.as_ref()),
                states.join(", "),
                time(view.seen),
            ]
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_told_from_a_version() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        assert_eq!(What::of(path, None).unwrap(), What::Folder(path.into()));
        let version = "0123ABCDef98";
        assert_eq!(
            What::of(version, None).unwrap(),
            What::Version("0123abcdef98".to_owned())
        );
        assert_eq!(
            What::of(version, Some(Path::new("x.cedarschema"))).unwrap(),
            What::Folder(version.into()),
            "only a folder has a schema"
        );
        for neither in [
            "",
            "0123abc",
            "polices",
            &"0".repeat(65),
            "0123456789abcdeg",
        ] {
            let error = What::of(neither, None).unwrap_err();
            assert_eq!(exit::code_of(&error), exit::USAGE, "{neither}");
        }
    }
}

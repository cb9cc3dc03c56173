//! One side of a comparison: a folder, or a version that the orchestrator has stored.

use std::{path::PathBuf, sync::Arc};

use authz::{PolicySet, PolicySetVersion};

use super::source::{self, Loaded};
use crate::{
    arguments::{Global, PolicyFrom},
    client::Answer as _,
    commands::{
        Context,
        policy_sets::{What, version},
    },
    config::Environment,
    exit::{NotFound, Usage},
};

/// What is compared.
pub(super) struct Side {
    /// How people call it.
    pub(super) name: String,
    pub(super) set: Arc<PolicySet>,
    /// Where its fixtures would be.
    pub(super) folder: Option<PathBuf>,
}

/// Loads a folder, `active`, `shadow`, or the stored version that begins so.
///
/// # Errors
///
/// A [`Usage`] with every finding, when it could not be put in force; that there is no such
/// thing.
pub(super) async fn side(
    global: &Global,
    environment: &Environment,
    text: &str,
) -> anyhow::Result<Side> {
    if !matches!(text, "active" | "shadow") {
        // What is not there is told as what it most likely was to be.
        let path = std::path::Path::new(text);
        if (text.contains(['/', '.']) || path.exists()) && !path.is_dir() {
            return Err(Usage(format!("there is no folder `{text}`")).into());
        }
        if let What::Folder(folder) = What::of(text, None)? {
            let from = PolicyFrom {
                policies: Some(folder.clone()),
                schema: None,
            };
            let Loaded { name, set, .. } = source::load(global, environment.clone(), &from)?;
            return Ok(Side {
                name,
                set,
                folder: Some(folder),
            });
        }
    }
    let context = Context::new(global, environment.clone())?;
    let (name, version) = match text {
        "active" => (Some("active"), in_force(&context).await?),
        "shadow" => {
            let status = context.client().policy_set_status().await;
            let shadow = status
                .of(&context.remote)?
                .shadow
                .ok_or_else(|| NotFound("no policy set is evaluated as shadow".to_owned()))?;
            (Some("shadow"), shadow.version)
        }
        prefix => (None, version(&context, prefix).await?),
    };
    let Loaded { set, .. } = stored(&context, &version).await?;
    let short = version.short();
    Ok(Side {
        name: name.map_or_else(|| short.to_owned(), |name| format!("{name} ({short})")),
        set,
        folder: None,
    })
}

/// The version that the orchestrator wants enforced.
pub(super) async fn in_force(context: &Context) -> anyhow::Result<PolicySetVersion> {
    let status = context.client().policy_set_status().await;
    Ok(status.of(&context.remote)?.version)
}

/// A stored version.
pub(super) async fn stored(
    context: &Context,
    version: &PolicySetVersion,
) -> anyhow::Result<Loaded> {
    let view = context.client().policy_set(version).await;
    let sources = view.of(&context.remote)?.sources;
    let sources = sources
        .filter(|sources| sources.version() == *version)
        .ok_or_else(|| {
            anyhow::anyhow!("the orchestrator's answer is not the policy set {version}")
        })?;
    source::loaded(version.short().to_owned(), Ok(sources))
}

//! Which policies a command is about, and what its tests know of services.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use authz::{Finding, PolicySet, PolicySources, mutate::Workshop};
use handlers::Catalog;

use crate::{
    arguments::{Global, PolicyFrom},
    client::settings,
    config::{Config, Environment, PolicyPaths},
    data_folder::shipped_sources,
    exit::Usage,
    planes,
    policy_test::{Fixtures, SUFFIX, fixtures},
};

/// Where fixtures are, unless a command is told.
pub(super) const FIXTURES: &str = "fixtures.yaml";

/// Sources, or what is wrong with them, under the name of their folder.
pub(super) type Named = (String, Result<PolicySources, Vec<Finding>>);

/// The policies that were named, or that `serve` would choose.
pub(super) fn sources(
    global: &Global,
    environment: Environment,
    from: &PolicyFrom,
) -> anyhow::Result<Named> {
    let mut flags = BTreeMap::new();
    for (key, path) in [("policies", &from.policies), ("schema", &from.schema)] {
        if let Some(path) = path {
            flags.insert(key, path.to_string_lossy().into_owned());
        }
    }
    let settings = settings(global, environment, flags)?;
    let paths = Config::from_settings(&settings)?.policies;
    let own = settings.data()?;
    Ok(match &paths {
        PolicyPaths::Own { policies, schema } => (
            policies.display().to_string(),
            super::read(schema, policies),
        ),
        PolicyPaths::Shipped => {
            let (schema, policies) = (own.join("schema.cedarschema"), own.join("policies"));
            if policies.is_dir() {
                (
                    policies.display().to_string(),
                    super::read(&schema, &policies),
                )
            } else {
                ("the shipped policies".to_owned(), Ok(shipped_sources()))
            }
        }
    })
}

/// A set to ask, with where its policies stand.
pub(super) struct Loaded {
    pub(super) name: String,
    pub(super) set: Arc<PolicySet>,
    pub(super) workshop: Workshop,
}

/// The folder and the schema that are read, where policies are not those of the binary.
pub(super) fn places(
    global: &Global,
    environment: Environment,
    from: &PolicyFrom,
) -> anyhow::Result<Vec<PathBuf>> {
    let mut flags = BTreeMap::new();
    for (key, path) in [("policies", &from.policies), ("schema", &from.schema)] {
        if let Some(path) = path {
            flags.insert(key, path.to_string_lossy().into_owned());
        }
    }
    let settings = settings(global, environment, flags)?;
    let paths = Config::from_settings(&settings)?.policies;
    Ok(match paths {
        PolicyPaths::Own { policies, schema } => vec![policies, schema],
        PolicyPaths::Shipped => {
            let own = settings.data()?;
            vec![own.join("policies"), own.join("schema.cedarschema")]
        }
    })
}

/// Loads the policies that were named.
///
/// # Errors
///
/// A [`Usage`] with every finding, when they could not be put in force.
pub(super) fn load(
    global: &Global,
    environment: Environment,
    from: &PolicyFrom,
) -> anyhow::Result<Loaded> {
    let (name, sources) = sources(global, environment, from)?;
    loaded(name, sources)
}

/// Loads sources.
///
/// # Errors
///
/// As [`load`].
pub(super) fn loaded(
    name: String,
    sources: Result<PolicySources, Vec<Finding>>,
) -> anyhow::Result<Loaded> {
    let loaded = sources.and_then(|sources| {
        let (set, _) = PolicySet::load(&sources)?;
        Ok((set, Workshop::new(&sources)?))
    });
    let (set, workshop) = loaded.map_err(|findings| wrong(&findings))?;
    Ok(Loaded {
        name,
        set: Arc::new(set),
        workshop,
    })
}

/// Findings as an error of whoever called.
pub(super) fn wrong(findings: &[Finding]) -> Usage {
    let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
    Usage(texts.join("\n\n"))
}

/// The policies that go with test files: named, or those of the first path's folder.
pub(super) fn beside(from: &PolicyFrom, paths: &[PathBuf]) -> PolicyFrom {
    let folder = paths.first().map(|path| {
        let is_test = path.to_string_lossy().ends_with(SUFFIX) || path.is_file();
        match path.parent() {
            Some(parent) if is_test && parent == Path::new("") => PathBuf::from("."),
            Some(parent) if is_test => parent.to_owned(),
            _ => path.clone(),
        }
    });
    PolicyFrom {
        policies: from.policies.clone().or(folder),
        schema: from.schema.clone(),
    }
}

/// What the gateway knows of services, without their addresses and credentials.
pub(super) fn catalog(global: &Global, environment: &Environment) -> anyhow::Result<Arc<Catalog>> {
    let settings = settings(global, environment.clone(), BTreeMap::new())?;
    planes::catalog(&Environment::default(), settings.services()?.as_deref())
}

/// The fixtures that were named, or those beside the policies.
///
/// # Errors
///
/// A [`Usage`] that says where they were looked for, or what is wrong with them.
pub(super) fn fixtures_of(
    global: &Global,
    environment: &Environment,
    named: Option<&Path>,
    folder: &str,
) -> anyhow::Result<(Fixtures, authz::Timestamp)> {
    let path = named.map_or_else(|| Path::new(folder).join(FIXTURES), Path::to_owned);
    if !path.is_file() {
        let message = format!(
            "there are no fixtures at `{}`: a YAML file with `agents`; --fixtures names another",
            path.display()
        );
        return Err(Usage(message).into());
    }
    fixtures(&path, &catalog(global, environment)?).map_err(|finding| wrong(&[*finding]).into())
}

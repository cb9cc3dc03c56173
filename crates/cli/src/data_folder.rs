//! The data folder: what is kept on disk, and who may read it.

use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};

use crate::config::PolicyPaths;

mod shipped {
    //! The policy set of the repository that this binary was built from.
    include!(concat!(env!("OUT_DIR"), "/shipped.rs"));

    pub(super) fn schema() -> &'static str {
        SCHEMA
    }

    pub(super) fn policies() -> &'static [(&'static str, &'static str)] {
        POLICIES
    }
}

/// The folder of a gateway's or orchestrator's state, made if missing.
#[derive(Clone, Debug)]
pub struct DataFolder {
    path: PathBuf,
}

impl DataFolder {
    /// The file of the first admin's token.
    pub const ADMIN_TOKEN: &str = "admin-token";

    /// Opens it. A new one can be entered by its owner only.
    ///
    /// # Errors
    ///
    /// When it cannot be made, or is not a folder.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let failed = || format!("the data folder `{}` cannot be made", path.display());
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).with_context(failed)?;
        }
        match create_private(path) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(error) => return Err(error).with_context(failed),
        }
        Ok(Self {
            path: path.to_owned(),
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Schema and folder of the policy set to use: the operator's, or the shipped one,
    /// which is written here the first time and belongs to the operator from then on.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn policies(&self, paths: &PolicyPaths) -> anyhow::Result<(PathBuf, PathBuf)> {
        match paths {
            PolicyPaths::Own { policies, schema } => Ok((schema.clone(), policies.clone())),
            PolicyPaths::Shipped => {
                let (schema, policies) = (
                    self.path.join("schema.cedarschema"),
                    self.path.join("policies"),
                );
                write_shipped(&schema, &policies).with_context(|| {
                    format!(
                        "the shipped policies cannot be written to `{}`",
                        self.path.display()
                    )
                })?;
                Ok((schema, policies))
            }
        }
    }

    /// Where the first admin's token is, if this folder's orchestrator was started here.
    #[must_use]
    pub fn admin_token_path(&self) -> PathBuf {
        self.path.join(Self::ADMIN_TOKEN)
    }

    /// The key that secrets in this folder's database are encrypted with, made if there is
    /// none. Whoever copies the database without it has no secrets.
    ///
    /// # Errors
    ///
    /// When it cannot be read or written.
    pub fn secrets_key(&self) -> anyhow::Result<SecretString> {
        let path = self.path.join("secrets-key");
        let failed = || format!("the key in `{}` cannot be kept or read", path.display());
        match private_file(&path) {
            Ok(mut file) => {
                let key = crate::planes::random_secret();
                writeln!(file, "{}", key.expose_secret())
                    .and_then(|()| file.sync_all())
                    .with_context(failed)?;
                Ok(key)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let text = fs::read_to_string(&path).with_context(failed)?;
                let text = text.trim();
                anyhow::ensure!(
                    !text.is_empty(),
                    "`{}` is empty: remove it, and give notification targets their secrets again",
                    path.display()
                );
                Ok(text.into())
            }
            Err(error) => Err(error).with_context(failed),
        }
    }

    /// Makes sure that the first admin's token can be kept, before it is made: there is
    /// no second one.
    ///
    /// # Errors
    ///
    /// When the folder cannot be written.
    pub fn prepare_admin_token(&self) -> anyhow::Result<AdminTokenFile> {
        let temporary = self.path.join(format!("{}.new", Self::ADMIN_TOKEN));
        let _ = fs::remove_file(&temporary);
        let file = private_file(&temporary).with_context(|| {
            format!(
                "the admin's token cannot be kept in `{}`",
                self.path.display()
            )
        })?;
        Ok(AdminTokenFile {
            file,
            temporary,
            path: self.admin_token_path(),
            kept: false,
        })
    }
}

/// A place for the first admin's token. Dropped without being filled, it is gone.
#[derive(Debug)]
pub struct AdminTokenFile {
    file: fs::File,
    temporary: PathBuf,
    path: PathBuf,
    kept: bool,
}

impl AdminTokenFile {
    /// Puts the token there, on disk, for the owner to read and nobody else.
    ///
    /// # Errors
    ///
    /// When the disk is full, or the folder is gone.
    pub fn keep(mut self, token: &SecretString) -> anyhow::Result<PathBuf> {
        let kept = writeln!(self.file, "{}", token.expose_secret())
            .and_then(|()| self.file.sync_all())
            .and_then(|()| fs::rename(&self.temporary, &self.path));
        kept.with_context(|| {
            format!(
                "the admin's token cannot be written to `{}`",
                self.path.display()
            )
        })?;
        self.kept = true;
        Ok(self.path.clone())
    }
}

impl Drop for AdminTokenFile {
    fn drop(&mut self) {
        if !self.kept {
            let _ = fs::remove_file(&self.temporary);
        }
    }
}

/// The schema and the policies that this binary was built with.
#[must_use]
pub fn shipped_sources() -> authz::PolicySources {
    let source = |name: &str, text: &str| authz::Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    authz::PolicySources {
        schema: source("schema.cedarschema", shipped::schema()),
        policies: shipped::policies()
            .iter()
            .filter(|(name, _)| !is_invariant(name))
            .map(|(name, text)| source(name, text))
            .collect(),
    }
}

/// What must hold of the policies that this binary was built with.
#[must_use]
pub fn shipped_invariants() -> Vec<authz::Source> {
    shipped::policies()
        .iter()
        .filter(|(name, _)| is_invariant(name))
        .map(|(name, text)| authz::Source {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        })
        .collect()
}

fn is_invariant(name: &str) -> bool {
    Path::new(name).starts_with(orchestrator::policy_folder::INVARIANTS)
}

fn write_shipped(schema: &Path, policies: &Path) -> std::io::Result<()> {
    if !schema.exists() {
        let new = schema.with_extension("new");
        fs::write(&new, shipped::schema())?;
        fs::rename(&new, schema)?;
    }
    if policies.exists() {
        return Ok(());
    }
    // All or nothing: half a policy set may be a valid one.
    let new = policies.with_extension("new");
    if new.exists() {
        fs::remove_dir_all(&new)?;
    }
    for (name, text) in shipped::policies() {
        let path = new.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        fs::write(path, text)?;
    }
    fs::rename(&new, policies)
}

#[cfg(unix)]
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().mode(0o700).create(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> std::io::Result<()> {
    fs::create_dir(path)
}

fn private_file(path: &Path) -> std::io::Result<fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    fn mode(path: &Path) -> u32 {
        std::os::unix::fs::PermissionsExt::mode(&fs::metadata(path).unwrap().permissions()) & 0o777
    }

    #[test]
    #[cfg(unix)]
    fn only_the_owner_may_look() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(&root.path().join("a/data")).unwrap();
        assert_eq!(mode(folder.path()), 0o700);
        let path = folder
            .prepare_admin_token()
            .unwrap()
            .keep(&"cgu_x".into())
            .unwrap();
        assert_eq!(
            (mode(&path), fs::read_to_string(&path).unwrap().as_str()),
            (0o600, "cgu_x\n")
        );
        assert!(
            fs::read_dir(folder.path()).unwrap().count() == 1,
            "nothing is left beside it"
        );
        drop(folder.prepare_admin_token().unwrap());
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            "cgu_x\n",
            "an unused place changes nothing"
        );
        assert!(fs::read_dir(folder.path()).unwrap().count() == 1);
        assert!(DataFolder::open(&path).is_err(), "a file is not a folder");
    }

    #[test]
    #[cfg(unix)]
    fn the_key_of_secrets_is_made_once_for_the_owner_only() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        let key = folder.secrets_key().unwrap();
        assert_eq!(key.expose_secret().len(), 64);
        assert_eq!(
            folder.secrets_key().unwrap().expose_secret(),
            key.expose_secret()
        );
        let path = root.path().join("secrets-key");
        assert_eq!(mode(&path), 0o600);
        fs::write(&path, "\n").unwrap();
        assert!(folder.secrets_key().is_err(), "never an empty key");
    }

    #[test]
    fn the_shipped_policies_are_written_once() {
        let root = tempfile::tempdir().unwrap();
        let folder = DataFolder::open(root.path()).unwrap();
        let (schema, policies) = folder.policies(&PolicyPaths::Shipped).unwrap();
        let sources = shipped_sources();
        assert!(!sources.policies.is_empty());
        assert_eq!(fs::read_to_string(&schema).unwrap(), sources.schema.text);
        let count = |folder: &Path| fs::read_dir(folder).unwrap().count();
        // The folder of invariants is one more, and none of it is a policy.
        assert_eq!(count(&policies), sources.policies.len() + 1);
        let invariants = shipped_invariants();
        assert_eq!(count(&policies.join("invariants")), invariants.len());
        for invariant in invariants {
            let path = policies.join(&invariant.name);
            assert_eq!(fs::read_to_string(path).unwrap(), invariant.text);
        }
        let edited = policies.join(&sources.policies[0].name);
        fs::write(&edited, "// mine").unwrap();
        folder.policies(&PolicyPaths::Shipped).unwrap();
        assert_eq!(fs::read_to_string(&edited).unwrap(), "// mine");
    }
}

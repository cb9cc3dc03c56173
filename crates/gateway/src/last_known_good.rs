//! The policy set in force, kept on disk: what a gateway starts with when it cannot have
//! the orchestrator's.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use contract::policy_sets::PolicySetBundle;

/// No policy set is larger, as JSON.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// The file of the policy set that was in force last.
#[derive(Clone, Debug)]
pub(crate) struct LastKnownGood {
    path: PathBuf,
}

/// Why what is kept cannot be used. It is left as it is, and overwritten by the next set.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// Nothing was kept yet.
    #[error("none is kept")]
    Nothing,
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// It is no policy set, or not wholly.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl LastKnownGood {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps a set instead of the one before: one or the other is there whatever happens.
    ///
    /// # Errors
    ///
    /// When the disk says no; then the one before is kept.
    pub(crate) fn keep(&self, bundle: &PolicySetBundle) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(bundle)?)
    }

    /// What was kept, if it is whole: its sources have the digest that it is named by.
    ///
    /// # Errors
    ///
    /// See [`Unusable`].
    pub(crate) fn read(&self) -> Result<PolicySetBundle, Unusable> {
        let metadata = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Nothing),
            Err(error) => return Err(Unusable::Unreadable(error)),
            Ok(metadata) => metadata,
        };
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(Unusable::Damaged(
                "it is not a file of a policy set's size".to_owned(),
            ));
        }
        let mut text = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text))
            .map_err(Unusable::Unreadable)?;
        let bundle: PolicySetBundle =
            serde_json::from_slice(&text).map_err(|error| Unusable::Damaged(error.to_string()))?;
        if bundle.sources.version() != bundle.version {
            return Err(Unusable::Damaged(
                "its sources do not have its digest".to_owned(),
            ));
        }
        Ok(bundle)
    }
}

/// Writes a file instead of the one before: one or the other is there whatever happens, and
/// only its owner may read it.
///
/// # Errors
///
/// When the disk says no; then the one before is there.
pub(crate) fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|path| !path.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let mut name = path.to_owned().into_os_string();
    name.push(".new");
    let temporary = PathBuf::from(name);
    // A crash may have left one behind; never write through what another put there.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&temporary)?;
    let kept = file
        .write_all(text)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&temporary, path))
        // A new name is on the disk only when its folder is.
        .and_then(|()| File::open(folder)?.sync_all());
    if kept.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::world::{bundle, sources};

    #[test]
    fn what_is_kept_is_whole_or_not_used() {
        let folder = tempfile::tempdir().unwrap();
        let kept = LastKnownGood::new(folder.path().join("state/policy-set.json"));
        assert!(matches!(kept.read(), Err(Unusable::Nothing)));
        let first = bundle(sources());
        kept.keep(&first).unwrap();
        assert_eq!(kept.read().unwrap().version, first.version);

        let mut other = sources();
        other.policies[0].text.push_str("// edited\n");
        let second = bundle(other);
        fs::write(folder.path().join("state/policy-set.json.new"), "left").unwrap();
        kept.keep(&second).unwrap();
        assert_eq!(kept.read().unwrap().version, second.version);
        assert_eq!(
            fs::read_dir(folder.path().join("state")).unwrap().count(),
            1
        );

        let whole = fs::read_to_string(kept.path()).unwrap();
        for damaged in [
            whole[..whole.len() / 2].to_owned(),
            whole.replace("// edited", "// Edited"),
            String::new(),
            "null".to_owned(),
        ] {
            fs::write(kept.path(), damaged).unwrap();
            assert!(matches!(kept.read(), Err(Unusable::Damaged(_))));
        }
        fs::remove_file(kept.path()).unwrap();
        fs::create_dir(kept.path()).unwrap();
        assert!(matches!(kept.read(), Err(Unusable::Damaged(_))));
        assert!(kept.keep(&second).is_err(), "a folder is in the way");
    }

    #[cfg(unix)]
    #[test]
    fn only_its_owner_may_read_it() {
        use std::os::unix::fs::PermissionsExt;

        let folder = tempfile::tempdir().unwrap();
        let kept = LastKnownGood::new(folder.path().join("policy-set.json"));
        kept.keep(&bundle(sources())).unwrap();
        let mode = fs::metadata(kept.path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

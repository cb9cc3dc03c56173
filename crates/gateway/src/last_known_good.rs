//! What the orchestrator said last, kept on disk: what a gateway starts with when it cannot
//! ask it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    marker::PhantomData,
    path::{Path, PathBuf},
};

use contract::policy_sets::PolicySetBundle;
use serde::{Serialize, de::DeserializeOwned};

/// Nothing that is kept is larger, as JSON.
const MAX_BYTES: u64 = 64 * 1024 * 1024;

/// What can be kept: it says itself whether it is whole.
pub(crate) trait Kept: Serialize + DeserializeOwned {
    /// Why it is not what was kept, if it is not.
    fn damage(&self) -> Option<&'static str>;
}

impl Kept for PolicySetBundle {
    fn damage(&self) -> Option<&'static str> {
        (self.sources.version() != self.version).then_some("its sources do not have its digest")
    }
}

/// The file of what was known last.
#[derive(Debug)]
pub(crate) struct LastKnownGood<T> {
    path: PathBuf,
    holds: PhantomData<fn() -> T>,
}

impl<T> Clone for LastKnownGood<T> {
    fn clone(&self) -> Self {
        Self::new(self.path.clone())
    }
}

/// Why what is kept cannot be used. It is left as it is, and overwritten by what is kept next.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unusable {
    /// Nothing was kept yet.
    #[error("none is kept")]
    Nothing,
    /// It cannot be read.
    #[error("it cannot be read")]
    Unreadable(#[source] io::Error),
    /// It is not what was kept, or not wholly.
    #[error("it is damaged: {0}")]
    Damaged(String),
}

impl<T> LastKnownGood<T> {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self {
            path,
            holds: PhantomData,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl<T: Kept> LastKnownGood<T> {
    /// Keeps this instead of what was kept before: one or the other is there whatever happens.
    ///
    /// # Errors
    ///
    /// When the disk says no; then what was kept before is.
    pub(crate) fn keep(&self, known: &T) -> io::Result<()> {
        replace(&self.path, &serde_json::to_vec(known)?)
    }

    /// What was kept, if it is whole.
    ///
    /// # Errors
    ///
    /// See [`Unusable`].
    pub(crate) fn read(&self) -> Result<T, Unusable> {
        let metadata = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(Unusable::Nothing),
            Err(error) => return Err(Unusable::Unreadable(error)),
            Ok(metadata) => metadata,
        };
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return Err(Unusable::Damaged(
                "it is not a file of a sensible size".to_owned(),
            ));
        }
        let mut text = Vec::new();
        File::open(&self.path)
            .and_then(|file| file.take(MAX_BYTES).read_to_end(&mut text))
            .map_err(Unusable::Unreadable)?;
        let known: T =
            serde_json::from_slice(&text).map_err(|error| Unusable::Damaged(error.to_string()))?;
        match known.damage() {
            Some(why) => Err(Unusable::Damaged(why.to_owned())),
            None => Ok(known),
        }
    }
}

/// Writes a file instead of the one before: one or the other is there whatever happens, and
/// only its owner may read it.
///
/// # Errors
///
/// When the disk says no; then the one before is there.
fn replace(path: &Path, text: &[u8]) -> io::Result<()> {
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
        let kept: LastKnownGood<PolicySetBundle> =
            LastKnownGood::new(folder.path().join("state/policy-set.json"));
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

//! The folder of an operator's own services: its `*.toml`, bounded in every way.

use std::{fs::File, io::Read as _, path::Path};

use crate::config::ConfigError;

/// The longest description, in bytes. One of all that GitHub's API has is 1.2 MB long.
const MAX_FILE_BYTES: u64 = 8 << 20;

/// How many descriptions a folder may hold.
const MAX_FILES: usize = 256;

/// One description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceFile {
    /// Its path, for messages.
    pub(crate) name: String,
    /// What it says, not checked yet.
    pub(crate) text: String,
}

/// The descriptions in `folder`, by name. Others of its files, hidden ones and folders
/// below it are left alone.
///
/// # Errors
///
/// When the folder or a file cannot be read, a file is no file or leads out of the folder,
/// is longer than 8 MiB or not UTF-8, or when there are more than 256.
pub(crate) fn read(folder: &Path) -> Result<Vec<ServiceFile>, ConfigError> {
    let wrong = |path: &Path, why: &str| {
        ConfigError::Missing(format!("CEDARGATE_SERVICES: `{}` {why}", path.display()))
    };
    let unreadable =
        |path: &Path, error: &std::io::Error| wrong(path, &format!("cannot be read: {error}"));
    let inside = folder
        .canonicalize()
        .map_err(|error| unreadable(folder, &error))?;
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| unreadable(folder, &error))? {
        let path = entry.map_err(|error| unreadable(folder, &error))?.path();
        let hidden = path
            .file_name()
            .is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden
            && path
                .extension()
                .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
        if paths.len() > MAX_FILES {
            return Err(wrong(
                folder,
                &format!("holds more than {MAX_FILES} descriptions"),
            ));
        }
    }
    paths.sort();
    let mut files = Vec::new();
    for path in paths {
        // Links within the folder are how mounted configuration comes; others would read
        // files that nobody meant to be read.
        let target = path
            .canonicalize()
            .map_err(|error| unreadable(&path, &error))?;
        if !target.starts_with(&inside) {
            return Err(wrong(&path, "leads out of the folder"));
        }
        if !target.is_file() {
            return Err(wrong(&path, "is not a file"));
        }
        let mut bytes = Vec::new();
        File::open(&target)
            .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
            .map_err(|error| unreadable(&path, &error))?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(wrong(&path, "is longer than 8 MiB"));
        }
        files.push(ServiceFile {
            text: String::from_utf8(bytes).map_err(|_| wrong(&path, "is not UTF-8"))?,
            name: path.display().to_string(),
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn only_descriptions_of_the_folder_are_read() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("services");
        fs::create_dir_all(folder.join("below")).unwrap();
        fs::create_dir(folder.join("..data")).unwrap();
        for (name, text) in [
            ("b.toml", "b"),
            ("a.toml", "a"),
            (".hidden.toml", "x"),
            ("notes.md", "x"),
            ("below/c.toml", "x"),
            ("..data/d", "d"),
        ] {
            fs::write(folder.join(name), text).unwrap();
        }
        // As Kubernetes mounts what it configures.
        symlink("..data/d", folder.join("d.toml")).unwrap();
        let texts = read(&folder).unwrap();
        let texts: Vec<&str> = texts.iter().map(|file| file.text.as_str()).collect();
        assert_eq!(texts, ["a", "b", "d"]);
    }

    #[test]
    fn traps_are_refused() {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("outside.toml"), "x").unwrap();
        let trap = |name: &str, lay: &dyn Fn(&Path)| {
            let folder = place.path().join(name);
            fs::create_dir(&folder).unwrap();
            lay(&folder.join("trap.toml"));
            read(&folder).unwrap_err().to_string()
        };
        let cases = [
            (
                trap("out", &|path| symlink("../outside.toml", path).unwrap()),
                "leads out",
            ),
            (
                trap("gone", &|path| symlink("nothing", path).unwrap()),
                "cannot be read",
            ),
            (
                trap("loop", &|path| symlink("trap.toml", path).unwrap()),
                "cannot be read",
            ),
            (
                trap("folder", &|path| fs::create_dir(path).unwrap()),
                "is not a file",
            ),
            (
                trap("bytes", &|path| fs::write(path, b"\xff").unwrap()),
                "not UTF-8",
            ),
            (
                trap("long", &|path| {
                    File::create(path).unwrap().set_len(50 << 20).unwrap();
                }),
                "longer than 8 MiB",
            ),
        ];
        for (error, expected) in cases {
            assert!(
                error.contains(expected) && error.contains("CEDARGATE_SERVICES"),
                "{error}"
            );
        }
        assert!(read(&place.path().join("missing")).is_err());
    }
}

//! The journal's files: appended to, rotated, recovered.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::chain::{self, Head};

/// A file is named for its first line, so that names sort as the chain runs.
const PREFIX: &str = "journal-";
const SUFFIX: &str = ".jsonl";

/// The journal's newest file, open for appending, and the lock on its folder.
#[derive(Debug)]
pub(super) struct Disk {
    folder: PathBuf,
    file: File,
    /// So long is what was written whole. The file may be longer after a failed write;
    /// then it is cut back before the next one.
    length: u64,
    torn: bool,
    /// Held for as long as the journal is open: two writers would fork the chain.
    _lock: File,
    #[cfg(test)]
    pub(super) faults: std::sync::Arc<super::tests::Faults>,
}

/// What opening found.
#[derive(Debug)]
pub(super) struct Recovered {
    /// The last whole line.
    pub(super) head: Head,
    /// The gateway that the last line names.
    pub(super) gateway: Option<String>,
    /// So many bytes of an unfinished end were set aside.
    pub(super) torn_bytes: u64,
}

/// The journal's files, oldest first, each with the sequence of its first line.
pub(super) fn files(folder: &Path) -> io::Result<Vec<(i64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let first = path
            .file_name()
            .and_then(|name| name.to_str())
            .and_then(|name| {
                name.strip_prefix(PREFIX)?
                    .strip_suffix(SUFFIX)?
                    .parse()
                    .ok()
            });
        if let Some(first) = first {
            files.push((first, path));
        }
    }
    files.sort();
    Ok(files)
}

fn path_of(folder: &Path, first: i64) -> PathBuf {
    folder.join(format!("{PREFIX}{first:020}{SUFFIX}"))
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

impl Disk {
    /// Opens the journal in `folder`, which is created if missing; cuts off what a crash
    /// left unfinished, keeping a copy of it.
    ///
    /// # Errors
    ///
    /// When another process has it open, when the newest file was changed before its end,
    /// or when the disk says no.
    pub(super) fn open(folder: &Path) -> io::Result<(Self, Recovered)> {
        std::fs::create_dir_all(folder)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    "another gateway is writing this journal",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }

        let files = files(folder)?;
        let mut recovered = Recovered {
            head: Head::empty(),
            gateway: None,
            torn_bytes: 0,
        };
        // The newest file may hold no whole line; then the one before it ends the chain.
        let mut newest = None;
        for (first, path) in files.into_iter().rev() {
            let tail = recover(&path, first)?;
            recovered.torn_bytes += tail.torn_bytes;
            newest.get_or_insert((path, tail.length));
            if let Some((head, gateway)) = tail.last {
                recovered.head = head;
                recovered.gateway = Some(gateway);
                break;
            }
        }
        let (path, length) = newest.unwrap_or_else(|| (path_of(folder, 1), 0));
        let disk = Self {
            folder: folder.to_owned(),
            file: append_to(&path)?,
            length,
            torn: false,
            _lock: lock,
            #[cfg(test)]
            faults: std::sync::Arc::default(),
        };
        sync_folder(folder)?;
        Ok((disk, recovered))
    }

    /// So long is the newest file.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends whole lines, all or none.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.mend()?;
        if let Err(error) = self.write(lines) {
            self.torn = true;
            // If this fails as well, it is tried again before the next write.
            let _ = self.mend();
            return Err(error);
        }
        self.length += lines.len() as u64;
        Ok(())
    }

    /// Cuts the file back to `length`, which was its length at some earlier point.
    pub(super) fn cut(&mut self, length: u64) {
        self.length = length;
        self.torn = true;
        let _ = self.mend();
    }

    /// Returns when what was appended is on the disk.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        self.faults.sync()?;
        self.file.sync_data()
    }

    /// Begins a new file, whose first line will be `first`. On failure the old one stays.
    pub(super) fn rotate(&mut self, first: i64) -> io::Result<()> {
        let file = append_to(&path_of(&self.folder, first))?;
        sync_folder(&self.folder)?;
        self.file = file;
        self.length = 0;
        Ok(())
    }

    fn mend(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            self.torn = false;
        }
        Ok(())
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if let Some(room) = self.faults.room(lines.len()) {
            self.file.write_all(&lines[..room])?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_all(lines)
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// A new name is on the disk only when its folder is.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

struct Tail {
    length: u64,
    torn_bytes: u64,
    last: Option<(Head, String)>,
}

/// Reads one file to its last whole line and cuts off what follows, if that is what a
/// crash leaves: an end without any line that verifies.
fn recover(path: &Path, first: i64) -> io::Result<Tail> {
    let bytes = std::fs::read(path)?;
    let mut length = 0;
    let mut last: Option<(Head, String)> = None;
    let mut rest = bytes.as_slice();
    while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
        let (line, after) = rest.split_at(end);
        let checked = std::str::from_utf8(line).map_err(|_| "it is not text");
        let checked = checked.and_then(|line| match &last {
            Some((head, _)) => chain::follows(line, head),
            None => chain::check(line),
        });
        match checked {
            Ok((entry, head)) if last.is_some() || head.sequence == first => {
                last = Some((head, entry.gateway));
            }
            Ok(_) => {
                return Err(invalid(format!(
                    "`{}` does not begin with line {first}",
                    path.display()
                )));
            }
            Err(reason) => {
                let whole_line_follows = rest
                    .split(|&byte| byte == b'\n')
                    .skip(1)
                    .filter_map(|line| std::str::from_utf8(line).ok())
                    .any(|line| chain::check(line).is_ok());
                let sequence = last.as_ref().map_or(first, |(head, _)| head.sequence + 1);
                if whole_line_follows || chain::check(&String::from_utf8_lossy(line)).is_ok() {
                    return Err(invalid(format!(
                        "line {sequence} in `{}` does not verify: {reason}",
                        path.display()
                    )));
                }
                break;
            }
        }
        length += end as u64 + 1;
        rest = after.get(1..).unwrap_or_default();
    }
    if !rest.is_empty() {
        let mut aside = path.as_os_str().to_owned();
        aside.push(format!(".torn-at-{length}"));
        // A full disk must not keep a gateway from starting: the copy is a courtesy.
        let _ = std::fs::write(&aside, rest);
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(length)?;
        file.sync_all()?;
    }
    Ok(Tail {
        length,
        torn_bytes: rest.len() as u64,
        last,
    })
}

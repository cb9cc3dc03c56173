//! Reading a journal back: to list it, to ship it, to verify it.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use contract::audit::{JournalEntry, JournalLine};

use super::{
    chain::{self, Head},
    disk,
};

/// What [`verify`] found in a journal that is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// So many lines.
    pub lines: u64,
    /// Its end.
    pub head: Head,
    /// So many bytes of an unfinished line at the end: a gateway is writing, or was killed.
    pub unfinished_bytes: u64,
}

/// Why a journal does not verify.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It cannot be read.
    #[error("cannot read `{}`", .path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line was changed, or one is missing before it.
    #[error("line {line} of `{}` does not verify: {reason}", .path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// From 1, in this file.
        line: u64,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The end is missing, or another journal was put in its place.
    #[error(
        "the journal does not hold line {} with hash `{}`: its end is missing or was replaced",
        .expected.sequence,
        .expected.hash
    )]
    Head {
        /// The line that it ought to hold.
        expected: Head,
    },
}

/// Reads every line of the journal in `folder` and checks the chain: any edit, gap,
/// repetition or reordering is found. What was cut off at the end is found only against
/// `expected`, a head that was known earlier.
///
/// # Errors
///
/// The first thing that is wrong.
pub fn verify(folder: &Path, expected: Option<&Head>) -> Result<Verified, Broken> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| Broken::Unreadable { path, source }
    };
    let mut verified = Verified {
        lines: 0,
        head: Head::empty(),
        unfinished_bytes: 0,
    };
    let mut found = expected.is_none_or(|expected| *expected == Head::empty());
    let files = disk::files(folder).map_err(unreadable(folder))?;
    let newest = files.len();
    for (number, (first, path)) in files.iter().enumerate() {
        let broken = |line, reason| Broken::Line {
            path: path.clone(),
            line,
            reason,
        };
        if *first != verified.head.sequence.saturating_add(1) {
            return Err(broken(
                1,
                "the file does not begin where the one before ends",
            ));
        }
        let mut reader = BufReader::new(File::open(path).map_err(unreadable(path))?);
        for line in 1.. {
            let mut text = Vec::new();
            let length = reader
                .read_until(b'\n', &mut text)
                .map_err(unreadable(path))?;
            if length == 0 {
                break;
            }
            if text.pop() != Some(b'\n') {
                if number + 1 != newest {
                    return Err(broken(line, "it is not finished, and a newer file follows"));
                }
                verified.unfinished_bytes = length as u64;
                break;
            }
            let text = String::from_utf8(text).map_err(|_| broken(line, "it is not text"))?;
            let (_, head) =
                chain::follows(&text, &verified.head).map_err(|reason| broken(line, reason))?;
            verified.lines += 1;
            verified.head = head;
            found = found || expected == Some(&verified.head);
        }
    }
    match expected {
        Some(expected) if !found => Err(Broken::Head {
            expected: expected.clone(),
        }),
        _ => Ok(verified),
    }
}

/// The journal's entries, oldest first, without checking the chain.
///
/// # Errors
///
/// When the folder cannot be read; each item is an error when its file cannot be read or
/// it is not a journal line.
pub fn entries(folder: &Path) -> io::Result<impl Iterator<Item = io::Result<JournalEntry>>> {
    let files = disk::files(folder)?;
    Ok(files.into_iter().flat_map(|(_, path)| {
        let lines = File::open(path).map(|file| BufReader::new(file).lines());
        let (lines, error) = match lines {
            Ok(lines) => (Some(lines), None),
            Err(error) => (None, Some(Err(error))),
        };
        let entries = lines.into_iter().flatten().map(|line| {
            serde_json::from_str(&line?)
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        });
        error.into_iter().chain(entries)
    }))
}

/// One line of a journal, by itself.
#[derive(Debug)]
pub struct Line {
    /// The file.
    pub path: PathBuf,
    /// Its place in the file, from 1.
    pub number: u64,
    /// What it says, or what is wrong with it. Whether it follows the line before is not
    /// checked: [`verify`] does that.
    pub entry: Result<JournalEntry, &'static str>,
}

/// The lines of a journal, oldest first: of its folder, or of one file. Damaged ones are
/// among them.
///
/// # Errors
///
/// When there is no such folder or file, or the folder has no journal.
pub fn lines(path: &Path) -> io::Result<impl Iterator<Item = Line> + use<>> {
    let files: Vec<PathBuf> = if path.is_dir() {
        let files = disk::files(path)?;
        files.into_iter().map(|(_, path)| path).collect()
    } else {
        vec![path.to_owned()]
    };
    if files.is_empty() {
        let message = "there is no journal in it";
        return Err(io::Error::new(io::ErrorKind::NotFound, message));
    }
    let files = files
        .into_iter()
        .map(|path| File::open(&path).map(|file| (path, BufReader::new(file))));
    // All are opened before one is read: what cannot be read is told first.
    let files = files.collect::<io::Result<Vec<_>>>()?;
    Ok(files.into_iter().flat_map(|(path, mut reader)| {
        let mut number = 0;
        let mut ended = false;
        std::iter::from_fn(move || {
            if ended {
                return None;
            }
            number += 1;
            let mut text = Vec::new();
            let entry = match reader.read_until(b'\n', &mut text) {
                Ok(0) => return None,
                Ok(_) => whole(text),
                Err(_) => {
                    ended = true;
                    Err("it cannot be read")
                }
            };
            Some(Line {
                path: path.clone(),
                number,
                entry,
            })
        })
    }))
}

fn whole(mut text: Vec<u8>) -> Result<JournalEntry, &'static str> {
    if text.pop() != Some(b'\n') {
        return Err("it is not finished");
    }
    let text = String::from_utf8(text).map_err(|_| "it is not text")?;
    Ok(chain::check(&text)?.0)
}

/// Reads lines in order for shipping; remembers where it stopped.
#[derive(Debug)]
pub(super) struct Cursor {
    folder: PathBuf,
    /// The file being read, and the sequence of the line that comes next in it.
    open: Option<(BufReader<File>, i64)>,
}

impl Cursor {
    pub(super) fn new(folder: PathBuf) -> Self {
        Self { folder, open: None }
    }

    /// Lines from `from` through `through`, at most `max_bytes` of them but at least one.
    pub(super) fn lines(
        &mut self,
        from: i64,
        through: i64,
        max_bytes: usize,
    ) -> io::Result<Vec<JournalLine>> {
        let mut lines: Vec<JournalLine> = Vec::new();
        let mut bytes = 0;
        let mut next = from;
        while next <= through && bytes < max_bytes {
            let (reader, sequence) = match &mut self.open {
                Some((reader, sequence)) if *sequence == next => (reader, sequence),
                _ => self.seek(next)?,
            };
            let mut text = String::new();
            let position = reader.stream_position()?;
            let length = reader.read_line(&mut text)?;
            if length == 0 {
                // The chain goes on in a newer file.
                self.open = None;
                if self.starts_file(next)? {
                    continue;
                }
                break;
            }
            if text.pop() != Some('\n') {
                reader.seek(SeekFrom::Start(position))?;
                break;
            }
            bytes += length;
            lines.push(JournalLine {
                sequence: next,
                text,
            });
            next += 1;
            *sequence = next;
        }
        Ok(lines)
    }

    fn starts_file(&self, sequence: i64) -> io::Result<bool> {
        Ok(disk::files(&self.folder)?
            .iter()
            .any(|(first, _)| *first == sequence))
    }

    /// Opens the file that holds `sequence`, at that line.
    fn seek(&mut self, sequence: i64) -> io::Result<(&mut BufReader<File>, &mut i64)> {
        let missing = || {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("no journal file holds line {sequence}"),
            )
        };
        let (first, path) = disk::files(&self.folder)?
            .into_iter()
            .rev()
            .find(|(first, _)| *first <= sequence)
            .ok_or_else(missing)?;
        let mut reader = BufReader::new(File::open(path)?);
        for _ in first..sequence {
            if reader.skip_until(b'\n')? == 0 {
                return Err(missing());
            }
        }
        let (reader, sequence) = self.open.insert((reader, sequence));
        Ok((reader, sequence))
    }
}

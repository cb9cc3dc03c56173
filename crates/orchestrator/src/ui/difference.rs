//! What differs between two policy sets, file by file, as text.

use std::{collections::BTreeMap, time::Duration};

use authz::PolicySources;
use similar::{ChangeTag, TextDiff};

use super::cedar::{self, Line};

/// Around each difference, so many lines that are the same.
const AROUND: usize = 3;

/// Differences are shown up to so many lines.
const MAX_LINES: usize = 4_000;

/// Looking for the smallest difference ends then; what is shown is right even so.
const PATIENCE: Duration = Duration::from_secs(2);

/// One file that differs.
#[derive(Debug)]
pub(crate) struct FileDifference {
    pub(crate) name: String,
    /// `changed`, `added` or `removed`.
    pub(crate) what: &'static str,
    pub(crate) added: usize,
    pub(crate) removed: usize,
    /// Places that differ, with lines around.
    pub(crate) hunks: Vec<Vec<DifferenceLine>>,
}

/// A line of the one, the other, or both.
#[derive(Debug)]
pub(crate) struct DifferenceLine {
    /// `added`, `removed` or `same`.
    pub(crate) class: &'static str,
    /// `+`, `−` or nothing.
    pub(crate) sign: &'static str,
    /// Its number in the older set.
    pub(crate) old: Option<usize>,
    /// Its number in the newer set.
    pub(crate) new: Option<usize>,
    pub(crate) line: Line,
}

/// What differs between two sets.
#[derive(Debug)]
pub(crate) struct Difference {
    pub(crate) files: Vec<FileDifference>,
    /// There is more than is shown.
    pub(crate) cut: bool,
}

/// Compares. Takes seconds for large sets: call it on a thread that may wait.
pub(crate) fn between(old: &PolicySources, new: &PolicySources) -> Difference {
    let files = |sources: &PolicySources| -> BTreeMap<String, String> {
        std::iter::once(&sources.schema)
            .chain(&sources.policies)
            .map(|source| (source.name.clone(), source.text.clone()))
            .collect()
    };
    let (old, new) = (files(old), files(new));
    let mut names: Vec<_> = old.keys().chain(new.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let mut difference = Difference {
        files: Vec::new(),
        cut: false,
    };
    let mut left = MAX_LINES;
    for name in names {
        let (before, after) = (old.get(name), new.get(name));
        if before == after {
            continue;
        }
        let what = match (before, after) {
            (None, _) => "added",
            (_, None) => "removed",
            (Some(_), Some(_)) => "changed",
        };
        let before = before.map_or("", String::as_str);
        let after = after.map_or("", String::as_str);
        let (file, cut) = compared(name, what, before, after, &mut left);
        difference.files.push(file);
        difference.cut |= cut;
    }
    difference
}

fn compared(
    name: &str,
    what: &'static str,
    before: &str,
    after: &str,
    left: &mut usize,
) -> (FileDifference, bool) {
    let compared = TextDiff::configure()
        .timeout(PATIENCE)
        .diff_lines(before, after);
    let mut file = FileDifference {
        name: name.to_owned(),
        what,
        added: 0,
        removed: 0,
        hunks: Vec::new(),
    };
    for change in compared.iter_all_changes() {
        match change.tag() {
            ChangeTag::Insert => file.added += 1,
            ChangeTag::Delete => file.removed += 1,
            ChangeTag::Equal => {}
        }
    }
    let mut cut = false;
    for group in compared.grouped_ops(AROUND) {
        let mut hunk = Vec::new();
        for change in group.iter().flat_map(|part| compared.iter_changes(part)) {
            if *left == 0 {
                cut = true;
                break;
            }
            *left -= 1;
            let (class, sign) = match change.tag() {
                ChangeTag::Insert => ("added", "+"),
                ChangeTag::Delete => ("removed", "−"),
                ChangeTag::Equal => ("same", ""),
            };
            hunk.push(DifferenceLine {
                class,
                sign,
                old: change.old_index().map(|index| index + 1),
                new: change.new_index().map(|index| index + 1),
                line: cedar::line(change.value().trim_end_matches(['\n', '\r'])),
            });
        }
        if !hunk.is_empty() {
            file.hunks.push(hunk);
        }
    }
    (file, cut)
}

#[cfg(test)]
mod tests {
    use authz::Source;

    use super::*;

    fn sources(files: &[(&str, &str)]) -> PolicySources {
        let source = |(name, text): &(&str, &str)| Source {
            name: (*name).to_owned(),
            text: (*text).to_owned(),
        };
        PolicySources {
            schema: source(&("schema.cedarschema", "entity User;\n")),
            policies: files.iter().map(source).collect(),
        }
    }

    #[test]
    fn files_that_differ_are_shown_with_their_lines() {
        let ten: Vec<String> = (1..=10).map(|number| format!("// {number}")).collect();
        let old = ten.join("\n");
        let new = old.replace("// 5\n", "// five\n// and a half\n");
        let difference = between(
            &sources(&[("a.cedar", &old), ("b.cedar", "x\n"), ("same.cedar", "s\n")]),
            &sources(&[("a.cedar", &new), ("c.cedar", "y\n"), ("same.cedar", "s\n")]),
        );
        let told: Vec<_> = difference
            .files
            .iter()
            .map(|file| (file.name.as_str(), file.what, file.added, file.removed))
            .collect();
        assert_eq!(
            told,
            [
                ("a.cedar", "changed", 2, 1),
                ("b.cedar", "removed", 0, 1),
                ("c.cedar", "added", 1, 0)
            ]
        );
        let lines: Vec<_> = difference.files[0].hunks[0]
            .iter()
            .map(|line| (line.sign, line.old, line.new))
            .collect();
        assert_eq!(lines.len(), 9, "three around");
        assert_eq!(lines[0], ("", Some(2), Some(2)));
        assert_eq!(lines[3], ("−", Some(5), None));
        assert_eq!(lines[4], ("+", None, Some(5)));
        assert!(!difference.cut);
    }

    #[test]
    fn a_large_difference_is_cut() {
        let many: Vec<_> = (0..5_000).map(|number| format!("// {number}")).collect();
        let many = many.join("\n");
        let difference = between(&sources(&[]), &sources(&[("a.cedar", &many)]));
        assert!(difference.cut);
        assert_eq!(difference.files[0].added, 5_000);
        assert_eq!(difference.files[0].hunks[0].len(), MAX_LINES);
    }
}

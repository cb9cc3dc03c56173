//! Keys: what agents call objects, and why none leads out of its bucket or prefix.
//!
//! A key is put behind the configured prefix, so that no key can be anything outside it. What
//! could still be read as a way out by somebody else (a server that keeps files, a proxy that
//! decodes twice, a person who approves) is refused.

use std::{borrow::Cow, collections::BTreeMap};

use percent_encoding::percent_decode_str;

/// The longest key that S3 has, in bytes; the prefix counts.
const LONGEST: usize = 1024;

/// How often something may have been encoded before it is refused.
const DECODINGS: usize = 4;

/// The buckets that there are for agents, and what keys begin with in each: nothing, or
/// something that ends with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Buckets(BTreeMap<String, String>);

/// A bucket, as far as it is there for agents.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket<'a> {
    pub(super) name: &'a str,
    /// Empty, or it ends with `/`.
    pub(super) prefix: &'a str,
}

/// One object.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) bucket: String,
    /// As agents call it.
    pub(super) key: String,
    /// As the server calls it.
    pub(super) full: String,
}

impl Buckets {
    /// Reads `assets,shared/agents`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let mut buckets = BTreeMap::new();
        for entry in text
            .split(',')
            .map(str::trim)
            .filter(|entry| !entry.is_empty())
        {
            let (name, prefix) = entry.split_once('/').unwrap_or((entry, ""));
            if !is_bucket(name) {
                return Err(format!("`{name}` is not the name of a bucket"));
            }
            let prefix = prefix.trim_end_matches('/');
            if !prefix.is_empty() {
                check(prefix).map_err(|reason| format!("`{entry}`: the prefix {reason}"))?;
            }
            let prefix = if prefix.is_empty() {
                String::new()
            } else {
                format!("{prefix}/")
            };
            if buckets.insert(name.to_owned(), prefix).is_some() {
                return Err(format!("`{name}` is there twice"));
            }
        }
        Ok(Self(buckets))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Bucket<'_>> {
        self.0.iter().map(|(name, prefix)| Bucket { name, prefix })
    }

    /// The bucket of this name, if it is there for agents.
    pub(super) fn get(&self, name: &str) -> Option<Bucket<'_>> {
        let (name, prefix) = self.0.get_key_value(name)?;
        Some(Bucket { name, prefix })
    }
}

impl Bucket<'_> {
    /// The object that an agent calls `key`.
    ///
    /// # Errors
    ///
    /// Why there is none, as what follows "the key".
    pub(super) fn object(self, key: &str) -> Result<Object, String> {
        check(key)?;
        let full = format!("{}{key}", self.prefix);
        if full.len() > LONGEST {
            return Err(format!("is longer than {LONGEST} bytes"));
        }
        Ok(Object {
            bucket: self.name.to_owned(),
            key: key.to_owned(),
            full,
        })
    }

    /// What the server is asked for when an agent asks for keys that begin with `beginning`.
    ///
    /// # Errors
    ///
    /// As [`Bucket::object`].
    pub(super) fn beginning(self, beginning: &str) -> Result<String, String> {
        // What is in a folder, or begins like a name: either way a key if a letter follows.
        if !beginning.is_empty() {
            check(&format!("{beginning}x"))?;
        }
        let full = format!("{}{beginning}", self.prefix);
        if full.len() > LONGEST {
            return Err(format!("is longer than {LONGEST} bytes"));
        }
        Ok(full)
    }

    /// What agents call it, if it is theirs.
    pub(super) fn relative<'a>(&self, full: &'a str) -> Option<&'a str> {
        full.strip_prefix(self.prefix)
    }
}

/// Lower case letters, digits, `-` and `.`, 3 to 63 of them, and no address.
fn is_bucket(name: &str) -> bool {
    let end = |byte: Option<u8>| {
        byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    (3..=63).contains(&name.len())
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.')
        })
        && end(name.bytes().next())
        && end(name.bytes().last())
        && !name.contains("..")
        && !name.contains(".-")
        && !name.contains("-.")
        && name.parse::<std::net::Ipv4Addr>().is_err()
}

/// Whether a key could be read as anything but a name below where it is put.
fn check(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("is empty".to_owned());
    }
    if key.len() > LONGEST {
        return Err(format!("is longer than {LONGEST} bytes"));
    }
    let mut read = Cow::Borrowed(key);
    for _ in 0..DECODINGS {
        check_as_read(&read)?;
        let decoded: Vec<u8> = percent_decode_str(&read).collect();
        // What is no text when it is decoded was not meant to be.
        let Ok(decoded) = String::from_utf8(decoded) else {
            return Ok(());
        };
        if decoded == *read {
            return Ok(());
        }
        read = Cow::Owned(decoded);
    }
    Err("is percent-encoded several times over".to_owned())
}

fn check_as_read(key: &str) -> Result<(), String> {
    if key.starts_with('/') {
        return Err("begins with `/`".to_owned());
    }
    for letter in key.chars() {
        if letter.is_control() {
            return Err("holds a control character".to_owned());
        }
        if letter == '\\' {
            return Err("holds `\\`".to_owned());
        }
        if is_like_a_slash(letter) {
            return Err(format!(
                "holds {}, which looks like a slash",
                letter.escape_unicode()
            ));
        }
        if is_deceptive(letter) {
            return Err(format!(
                "holds {}, which nobody sees",
                letter.escape_unicode()
            ));
        }
    }
    for segment in key.split('/') {
        if segment.is_empty() {
            return Err("has an empty segment, or ends with `/`".to_owned());
        }
        let mut letters = segment
            .chars()
            .filter(|letter| !letter.is_whitespace() && !is_joiner(*letter))
            .peekable();
        if letters.peek().is_none() || letters.all(is_like_a_dot) {
            return Err(format!("has the segment `{}`", segment.escape_default()));
        }
    }
    Ok(())
}

/// U+2024 and its like become dots when text is normalized (NFKC), others only look like it.
fn is_like_a_dot(letter: char) -> bool {
    matches!(
        letter,
        '.' | '\u{b7}' | '\u{2024}'
            ..='\u{2027}'
                | '\u{3002}'
                | '\u{fe52}'
                | '\u{fe19}'
                | '\u{fe30}'
                | '\u{ff0e}'
                | '\u{ff61}'
    )
}

fn is_like_a_slash(letter: char) -> bool {
    matches!(
        letter,
        '\u{2044}'
            | '\u{2215}'
            | '\u{2216}'
            | '\u{29f5}'
            | '\u{29f8}'
            | '\u{29f9}'
            | '\u{fe68}'
            | '\u{ff0f}'
            | '\u{ff3c}'
    )
}

/// Between letters of some scripts, and in emoji.
fn is_joiner(letter: char) -> bool {
    matches!(letter, '\u{200c}' | '\u{200d}' | '\u{fe00}'..='\u{fe0f}')
}

/// Marks that turn the direction of writing, and what has no width.
fn is_deceptive(letter: char) -> bool {
    matches!(
        letter,
        '\u{ad}'
            | '\u{61c}'
            | '\u{180e}'
            | '\u{200b}'
            | '\u{200e}'
            | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{feff}'
            | '\u{e0000}'..='\u{e007f}'
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn no_key_leads_out() {
        let buckets = Buckets::read("assets, shared/agents/").unwrap();
        let traps = [
            "",
            "/",
            "/etc/passwd",
            "//host/share",
            "..",
            ".",
            "../secret",
            "a/../../secret",
            "a/./b",
            "a/..",
            "a//b",
            "a/",
            "...",
            "a/.. /b",
            "a/ ../b",
            "a/ /b",
            "%2e%2e/secret",
            "%2E%2e%2fsecret",
            "..%2fsecret",
            "a%2f..%2f..%2fsecret",
            "%252e%252e%252fsecret",
            "%25252e%25252e/secret",
            "%2525252525252e",
            "a%00b",
            "a%5c..%5cb",
            "%2fetc",
            "..\\secret",
            "a\\b",
            "a\0b",
            "a\nb",
            "a\u{7f}b",
            "a\u{85}b",
            // Look-alikes: of dots, of slashes, and what nobody sees.
            "\u{ff0e}\u{ff0e}/secret",
            "\u{2025}/secret",
            "\u{2024}\u{2024}/secret",
            ".\u{2024}/secret",
            "\u{fe52}\u{fe52}/secret",
            ".\u{200d}./secret",
            "a\u{ff0f}b",
            "a\u{2215}b",
            "a\u{2044}b",
            "a\u{ff3c}b",
            "a\u{202e}fdp.exe",
            "a\u{200b}b",
            "a\u{feff}b",
            "%ef%bc%8e%ef%bc%8e/secret",
            "%e2%80%a5%2fsecret",
        ];
        for trap in traps {
            for bucket in buckets.iter() {
                assert!(bucket.object(trap).is_err(), "{trap:?} in {}", bucket.name);
            }
        }
        assert!(
            buckets
                .get("assets")
                .unwrap()
                .object(&"x".repeat(1025))
                .is_err()
        );
        assert!(
            buckets
                .get("shared")
                .unwrap()
                .object(&"x".repeat(1020))
                .is_err()
        );
    }

    #[test]
    fn odd_names_are_names() {
        let buckets = Buckets::read("shared/agents").unwrap();
        let bucket = buckets.get("shared").unwrap();
        for key in [
            "a",
            "a b+c",
            "100%",
            "100%25",
            "a%20b",
            "%ff",
            "..a",
            "a..b/c.",
            ".well-known/x",
            "\u{fc}n\u{ef}c\u{f6}d\u{e9}/\u{540d}\u{524d}",
            "\u{1f469}\u{200d}\u{1f469}",
            "a:b?c#d&e=f;g,h@i$j!k'(l)*~",
            "{a}[b]^`|<>\"",
            "e\u{301}",
            "wait\u{2026} what",
        ] {
            let object = bucket
                .object(key)
                .unwrap_or_else(|why| panic!("{key}: {why}"));
            assert_eq!(object.full, format!("agents/{key}"));
            assert_eq!(bucket.relative(&object.full), Some(key));
        }
        assert_eq!(bucket.beginning("").unwrap(), "agents/");
        assert_eq!(bucket.beginning("a/").unwrap(), "agents/a/");
        assert_eq!(bucket.beginning("a/b").unwrap(), "agents/a/b");
        for beginning in ["../", "/", "a/../", "a//", "%2e%2e/", "..%2f"] {
            assert!(bucket.beginning(beginning).is_err(), "{beginning}");
        }
        assert_eq!(bucket.relative("agents-private/x"), None);
    }

    #[test]
    fn only_buckets_are_buckets() {
        for wrong in [
            "AB-c",
            "ab",
            "a_b_c",
            "a..b",
            "-abc",
            "abc-",
            "10.0.0.1",
            "a.-b",
            "abc, abc",
            "abc/../x",
            "abc/x//y",
            "b\u{fc}cher",
        ] {
            assert!(Buckets::read(wrong).is_err(), "{wrong}");
        }
        assert!(Buckets::read(" , ").unwrap().is_empty());
        assert!(Buckets::read("abc").unwrap().get("ABC").is_none());
    }

    proptest! {
        #[test]
        fn whatever_is_a_key_stays_below_its_prefix(key in "[./%2ef5cC\\\\ a\u{ff0e}\u{2025}\u{ff0f}]{0,12}") {
            let buckets = Buckets::read("shared/agents").unwrap();
            if let Ok(object) = buckets.get("shared").unwrap().object(&key) {
                // As a server reads it that decodes, and keeps files.
                let mut read = object.full;
                for _ in 0..3 {
                    prop_assert!(read.starts_with("agents/"));
                    prop_assert!(!read.split(['/', '\\']).any(|part| part == ".." || part == "." || part.is_empty()));
                    let Ok(next) = percent_decode_str(&read).decode_utf8() else { break };
                    read = next.into_owned();
                }
            }
        }
    }
}

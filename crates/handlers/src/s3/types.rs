//! Types: which may be uploaded, and whether the bytes are what they are said to be.

/// The types that may be uploaded.
#[derive(Clone, Debug)]
pub(super) struct Types(Vec<String>);

/// Types that browsers run: never meant by `image/*` or `text/*`, only by their own names.
const ACTIVE: &[&str] = &[
    "image/svg+xml",
    "text/html",
    "text/javascript",
    "text/xml",
    "text/xsl",
    "text/css",
    "application/xhtml+xml",
    "application/javascript",
    "application/xml",
];

/// How much of an object tells what it is.
pub(super) const TELLING: usize = 1024;

/// How files begin that have a type: which, and where.
const BEGINNINGS: &[(&str, usize, &[u8])] = &[
    ("image/png", 0, b"\x89PNG\r\n\x1a\n"),
    ("image/jpeg", 0, b"\xff\xd8\xff"),
    ("image/gif", 0, b"GIF8"),
    ("image/bmp", 0, b"BM"),
    ("image/tiff", 0, b"II*\0"),
    ("image/tiff", 0, b"MM\0*"),
    ("image/webp", 8, b"WEBP"),
    ("image/avif", 4, b"ftyp"),
    ("image/heic", 4, b"ftyp"),
    ("image/x-icon", 0, b"\0\0\x01\0"),
    ("application/pdf", 0, b"%PDF-"),
    ("application/zip", 0, b"PK\x03\x04"),
    ("application/zip", 0, b"PK\x05\x06"),
    ("application/gzip", 0, b"\x1f\x8b"),
    ("video/mp4", 4, b"ftyp"),
    ("video/quicktime", 4, b"ftyp"),
    ("video/quicktime", 4, b"moov"),
    ("video/quicktime", 4, b"mdat"),
    ("video/quicktime", 4, b"wide"),
    ("video/webm", 0, b"\x1a\x45\xdf\xa3"),
    ("video/x-matroska", 0, b"\x1a\x45\xdf\xa3"),
    ("video/x-msvideo", 8, b"AVI "),
    ("video/mpeg", 0, b"\0\0\x01"),
    ("video/ogg", 0, b"OggS"),
    ("audio/ogg", 0, b"OggS"),
    ("audio/wav", 8, b"WAVE"),
    ("audio/flac", 0, b"fLaC"),
    ("audio/mp4", 4, b"ftyp"),
    ("audio/webm", 0, b"\x1a\x45\xdf\xa3"),
];

/// What no type but its own may begin with: programs, and pages that browsers run.
const DANGEROUS: &[&[u8]] = &[
    b"\x7fELF",
    b"MZ",
    b"#!",
    b"\xca\xfe\xba\xbe",
    b"\xcf\xfa\xed\xfe",
];
const PAGES: &[&str] = &[
    "<!doctype",
    "<html",
    "<head",
    "<body",
    "<script",
    "<svg",
    "<?xml",
    "<iframe",
];

/// Types of text that are not `text/…`.
const TEXTS: &[&str] = &[
    "application/json",
    "application/xml",
    "application/javascript",
    "application/yaml",
    "application/x-ndjson",
    "application/toml",
    "image/svg+xml",
    "application/xhtml+xml",
];

impl Types {
    /// Reads `image/*,application/pdf`.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let types: Vec<String> = text
            .split(',')
            .map(|one| one.trim().to_ascii_lowercase())
            .filter(|one| !one.is_empty())
            .collect();
        let part = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'+' | b'-'))
        };
        for one in &types {
            let fits = one
                .split_once('/')
                .is_some_and(|(main, sub)| part(main) && (sub == "*" || part(sub)));
            if !fits {
                return Err(format!("`{one}` is not a type such as `image/*`"));
            }
        }
        if types.is_empty() {
            return Err("it names no type".to_owned());
        }
        Ok(Self(types))
    }

    /// Whether a type may be uploaded.
    pub(super) fn allow(&self, media_type: &str) -> bool {
        let essence = essence(media_type);
        self.0
            .iter()
            .any(|allowed| match allowed.strip_suffix("/*") {
                Some(main) => {
                    !ACTIVE.contains(&essence)
                        && essence
                            .strip_prefix(main)
                            .is_some_and(|rest| rest.starts_with('/'))
                }
                None => allowed == essence,
            })
    }

    /// For people.
    pub(super) fn shown(&self) -> String {
        self.0.join(", ")
    }
}

/// The type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// Whether all of it must be text.
pub(super) fn is_text(media_type: &str) -> bool {
    let essence = essence(media_type);
    essence.starts_with("text/") || TEXTS.contains(&essence)
}

/// Whether something that begins so may be of this type.
///
/// # Errors
///
/// Why not, as what follows "the content".
pub(super) fn fits(media_type: &str, beginning: &[u8]) -> Result<(), String> {
    let essence = essence(media_type);
    let begins = |at: usize, with: &[u8]| {
        beginning
            .get(at..)
            .is_some_and(|beginning| beginning.starts_with(with))
    };
    if !ACTIVE.contains(&essence) {
        if DANGEROUS.iter().any(|with| begins(0, with)) && essence != "application/octet-stream" {
            return Err(format!("is a program, not `{essence}`"));
        }
        let text = String::from_utf8_lossy(beginning).to_ascii_lowercase();
        let text = text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']);
        if PAGES.iter().any(|page| text.starts_with(page)) {
            return Err(format!("is a page or a document in XML, not `{essence}`"));
        }
    }
    let mut known = BEGINNINGS
        .iter()
        .filter(|(of, ..)| *of == essence)
        .peekable();
    if known.peek().is_some() && !known.any(|(_, at, with)| begins(*at, with)) {
        return Err(format!("does not begin as `{essence}` does"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_mean_nothing_that_browsers_run() {
        let types = Types::read("image/*, text/plain,application/pdf").unwrap();
        for allowed in [
            "image/png",
            "image/x-raw",
            "text/plain; charset=utf-8",
            "application/pdf",
        ] {
            assert!(types.allow(allowed), "{allowed}");
        }
        for refused in [
            "image/svg+xml",
            "text/html",
            "imagex/png",
            "image",
            "",
            "*/*",
            "video/mp4",
        ] {
            assert!(!types.allow(refused), "{refused}");
        }
        assert!(Types::read("image/svg+xml").unwrap().allow("image/svg+xml"));
        for wrong in ["", "image", "*/*", "image/", "a b/c", "/png"] {
            assert!(Types::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn bytes_are_what_they_are_said_to_be() {
        let cases: &[(&str, &[u8], bool)] = &[
            ("image/png", b"\x89PNG\r\n\x1a\n....", true),
            ("image/png", b"GIF89a", false),
            ("image/png", b"", false),
            ("image/webp", b"RIFF\x10\0\0\0WEBPVP8 ", true),
            ("video/mp4", b"\0\0\0\x18ftypisom", true),
            ("video/mp4", b"\x7fELF\x02", false),
            ("application/pdf", b"%PDF-1.7", true),
            ("application/pdf", b"<html>", false),
            ("image/x-raw", b"anything", true),
            ("image/x-raw", b" \n<!DOCTYPE html>", false),
            ("image/x-raw", b"\xef\xbb\xbf<svg onload=x>", false),
            ("text/plain", b"hello", true),
            ("text/plain", b"<script>alert(1)</script>", false),
            ("text/plain; charset=utf-8", b"#!/bin/sh", false),
            ("text/html", b"<html>", true),
            ("application/octet-stream", b"\x7fELF", true),
            ("application/octet-stream", b"<html>", false),
        ];
        for (media_type, bytes, fit) in cases {
            assert_eq!(
                fits(media_type, bytes).is_ok(),
                *fit,
                "{media_type} {bytes:?}"
            );
        }
    }
}

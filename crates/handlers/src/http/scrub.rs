//! Scrubbing: no secret that we know leaves in what a service said.

use authz::redact::{REDACTED, is_secret};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::request::ENCODED;

/// Shorter secrets occur by chance in innocent text.
const SHORTEST: usize = 4;

/// Replaces known secrets, raw, percent-encoded, base64-encoded or escaped for JSON.
#[derive(Clone, Debug, Default)]
pub(super) struct Scrubber {
    /// Longest first, so that no part of one is left by replacing another.
    forms: Vec<SecretString>,
}

impl Scrubber {
    pub(super) fn new(secret: Option<&SecretString>) -> Self {
        let mut scrubber = Self::default();
        if let Some(secret) = secret {
            scrubber.add(secret.expose_secret());
        }
        scrubber
    }

    /// This one, and what is secret in one command.
    pub(super) fn and<'a>(&self, secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut scrubber = self.clone();
        for secret in secrets {
            scrubber.add(secret);
        }
        scrubber
    }

    fn add(&mut self, secret: &str) {
        if secret.len() < SHORTEST {
            return;
        }
        let mut forms = vec![secret.to_owned()];
        // Both spellings of `%2f`, and that of parsers which leave unreserved characters.
        let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
        let sparing = utf8_percent_encode(secret, ENCODED).to_string();
        forms.extend([
            encoded.to_lowercase(),
            sparing.to_lowercase(),
            encoded,
            sparing,
        ]);
        if let Ok(escaped) = serde_json::to_string(secret) {
            forms.push(escaped.trim_matches('"').to_owned());
        }
        for alphabet in [STANDARD, URL_SAFE] {
            forms.extend((0..3).map(|offset| base64_at(secret.as_bytes(), offset, alphabet)));
        }
        // Coolify-like tokens are `<id>|<secret>`: the part after the bar is the secret.
        forms.extend(
            secret
                .rsplit_once('|')
                .map(|(_, part)| part.to_owned())
                .filter(|part| part.len() >= 8),
        );
        for form in forms {
            if form.len() >= SHORTEST
                && !self.forms.iter().any(|other| other.expose_secret() == form)
            {
                self.forms.push(SecretString::from(form));
            }
        }
        self.forms
            .sort_by_key(|form| std::cmp::Reverse(form.expose_secret().len()));
    }

    /// The text without secrets.
    pub(super) fn text(&self, text: &str) -> String {
        let mut clean = text.to_owned();
        for form in &self.forms {
            if clean.contains(form.expose_secret()) {
                clean = clean.replace(form.expose_secret(), REDACTED);
            }
        }
        clean
    }

    /// The value without secrets, in keys or in text.
    pub(super) fn value(&self, value: Value) -> Value {
        match value {
            Value::String(text) if self.dirty(&text) => Value::String(self.text(&text)),
            Value::Array(items) => {
                Value::Array(items.into_iter().map(|item| self.value(item)).collect())
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| {
                    let key = if self.dirty(&key) {
                        self.text(&key)
                    } else {
                        key
                    };
                    (key, self.value(value))
                });
                Value::Object(fields.collect())
            }
            other => other,
        }
    }

    fn dirty(&self, text: &str) -> bool {
        self.forms
            .iter()
            .any(|form| text.contains(form.expose_secret()))
    }
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// What base64 makes of `bytes` when they begin `offset` bytes after a multiple of three,
/// as after `Bearer ` or a user's name. Only the digits that depend on nothing else.
fn base64_at(bytes: &[u8], offset: usize, alphabet: &[u8; 64]) -> String {
    let bits = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    // A digit is six bits; the first whole digit begins on a multiple of six.
    let skip = (6 - offset * 8 % 6) % 6;
    let bits: Vec<u8> = bits.skip(skip).collect();
    let digits = bits.chunks_exact(6).map(|six| {
        six.iter()
            .fold(0_usize, |digit, bit| digit << 1 | usize::from(*bit))
    });
    digits
        .filter_map(|digit| alphabet.get(digit).map(|&letter| char::from(letter)))
        .collect()
}

/// Masks what looks like a secret in free text such as logs: the values of assignments whose
/// names sound secret (`DB_PASSWORD=…`, `"token": "…"`), what follows `Bearer`, and passwords
/// in URLs.
///
/// It finds what is written in the usual ways, no more: who may read logs is for policy.
pub(super) fn masked(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        clean.push_str(&masked_line(line));
    }
    clean
}

fn masked_line(line: &str) -> String {
    let mut clean = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find(['=', ':', ' ']) {
        let (before, from) = rest.split_at(at);
        let separator = from.chars().next().unwrap_or(' ');
        let after = from.get(separator.len_utf8()..).unwrap_or_default();
        clean.push_str(before);
        clean.push(separator);
        rest = after;
        let name = before
            .rsplit(|c: char| {
                !(c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '"' | '\'' | '\\'))
            })
            .next();
        let name = name.unwrap_or_default().trim_matches(['"', '\'', '\\']);
        let bearer = separator == ' ' && name.eq_ignore_ascii_case("bearer");
        if bearer || (separator != ' ' && is_secret(name)) {
            rest = mask_value(after, &mut clean);
        } else if let Some(url) = after.strip_prefix("//")
            && separator == ':'
        {
            rest = mask_userinfo(url, &mut clean);
        }
    }
    clean.push_str(rest);
    clean
}

/// Writes the mask for the value at the beginning of `text`; what follows it is returned.
fn mask_value<'a>(text: &'a str, clean: &mut String) -> &'a str {
    let trimmed = text.trim_start_matches(' ');
    clean.push_str(text.get(..text.len() - trimmed.len()).unwrap_or_default());
    // Logs may hold JSON in JSON, where quotes are escaped.
    let open = ["\"", "'", "\\\"", "\\'"]
        .into_iter()
        .find(|quote| trimmed.starts_with(quote));
    let value = trimmed
        .strip_prefix(open.unwrap_or_default())
        .unwrap_or(trimmed);
    // The scheme's name is no secret: what follows it is.
    if value
        .get(..7)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("bearer "))
    {
        return trimmed;
    }
    let end = match open {
        Some(quote) => value.find(quote),
        None => {
            value.find(|c: char| c.is_whitespace() || matches!(c, ',' | '&' | '"' | '\'' | '\\'))
        }
    };
    let (value, rest) = value.split_at(end.unwrap_or(value.len()));
    clean.push_str(open.unwrap_or_default());
    clean.push_str(if value.is_empty() { value } else { REDACTED });
    rest
}

fn mask_userinfo<'a>(url: &'a str, clean: &mut String) -> &'a str {
    clean.push_str("//");
    let end = url
        .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?'))
        .unwrap_or(url.len());
    let authority = url.get(..end).unwrap_or_default();
    match authority.rsplit_once('@') {
        Some((userinfo, _)) if userinfo.contains(':') => {
            let user = userinfo.split(':').next().unwrap_or_default();
            clean.push_str(user);
            clean.push(':');
            clean.push_str(REDACTED);
            url.get(userinfo.len()..).unwrap_or_default()
        }
        _ => url,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "7|s3cr3t/tok+en==";

    fn scrubber() -> Scrubber {
        Scrubber::new(Some(&SecretString::from(SECRET)))
    }

    #[test]
    fn a_secret_is_replaced_in_every_form() {
        let encodings = [
            SECRET,
            "7%7Cs3cr3t%2Ftok%2Ben%3D%3D",
            "7%7cs3cr3t%2ftok%2ben%3d%3d",
            // base64 of `7|s3cr3t/tok+en==`, of `Bearer 7|…` and of `me:7|…`
            "N3xzM2NyM3QvdG9rK2VuPT0=",
            "QmVhcmVyIDd8czNjcjN0L3Rvaytlbj09",
            "bWU6N3xzM2NyM3QvdG9rK2VuPT0=",
            "s3cr3t/tok+en==",
        ];
        for encoding in encodings {
            let clean = scrubber().text(&format!("x {encoding} y"));
            assert!(clean.contains(REDACTED), "{encoding}: {clean}");
            for part in ["s3cr3t", "M2NyM3", "czNjcjN0", "zY3IzdC"] {
                assert!(!clean.contains(part), "{encoding}: {clean}");
            }
        }
        assert_eq!(scrubber().text("nothing here"), "nothing here");
    }

    #[test]
    fn secrets_in_keys_and_deep_values_are_replaced() {
        let value = serde_json::json!({"a": [{SECRET: SECRET}], "n": 1});
        assert_eq!(
            scrubber().value(value),
            serde_json::json!({"a": [{REDACTED: REDACTED}], "n": 1})
        );
    }

    #[test]
    fn the_debug_form_shows_no_secret() {
        assert!(!format!("{:?}", scrubber()).contains("s3cr3t"));
    }

    #[test]
    fn logs_are_masked_where_secrets_are_usual() {
        let cases = [
            (
                "DB_PASSWORD=hunter2 PORT=80",
                "DB_PASSWORD=[redacted] PORT=80",
            ),
            (
                r#"{"token": "abc def", "port": 80}"#,
                r#"{"token": "[redacted]", "port": 80}"#,
            ),
            ("api_key: 'x y' z", "api_key: '[redacted]' z"),
            (
                "postgres://u:p%40w@db:5432/x?y",
                "postgres://u:[redacted]@db:5432/x?y",
            ),
            ("https://host:80/a:b@c", "https://host:80/a:b@c"),
            (
                "Authorization: Bearer abc.def",
                "Authorization: Bearer [redacted]",
            ),
            (
                r#"\"token\": \"abc\", \"port\": 80"#,
                r#"\"token\": \"[redacted]\", \"port\": 80"#,
            ),
            (
                r#""authorization": "Bearer abc""#,
                r#""authorization": "Bearer [redacted]""#,
            ),
            ("got bearer abc, next", "got bearer [redacted], next"),
            (
                "12:30:01 listening on :80 = ok\nsecret=\n",
                "12:30:01 listening on :80 = ok\nsecret=\n",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(masked(text), expected);
        }
    }
}

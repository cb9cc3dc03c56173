//! Masks: what looks like a secret in text that nobody could mark.

use authz::redact::{REDACTED, is_secret};

/// Masks what looks like a secret in free text such as logs: the values of assignments whose
/// names sound secret (`DB_PASSWORD=…`, `"token": "…"`), what follows `Bearer`, and passwords
/// in URLs.
///
/// It finds what is written in the usual ways, no more: who may read logs is for policy.
pub(crate) fn text(text: &str) -> String {
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

/// Masks passwords and tokens in the URLs of a text: `https://user:password@host`.
pub(crate) fn urls(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        clean.push_str(before);
        clean.push(':');
        rest = mask_userinfo(after, &mut clean);
    }
    clean.push_str(rest);
    clean
}

/// What stands before `@` without a password is a name, unless it is as long as a token.
const LONGEST_USER: usize = 20;

/// Writes `//` and the masked user of a URL whose scheme was written; what follows is returned.
fn mask_userinfo<'a>(url: &'a str, clean: &mut String) -> &'a str {
    clean.push_str("//");
    let end = url
        .find(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '\'' | '?' | '#' | '<' | '>'))
        .unwrap_or(url.len());
    let Some((userinfo, _)) = url
        .get(..end)
        .and_then(|authority| authority.rsplit_once('@'))
    else {
        return url;
    };
    match userinfo.split_once(':') {
        Some((user, password)) if !password.is_empty() => {
            clean.push_str(user);
            clean.push(':');
            clean.push_str(REDACTED);
        }
        None if userinfo.len() > LONGEST_USER => clean.push_str(REDACTED),
        _ => clean.push_str(userinfo),
    }
    url.get(userinfo.len()..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(super::text(text), expected);
        }
    }

    #[test]
    fn urls_keep_everything_but_what_is_secret() {
        let cases = [
            ("https://u:p@h/x", "https://u:[redacted]@h/x"),
            (
                "https://ghp_0123456789abcdefghij@github.com/a/b",
                "https://[redacted]@github.com/a/b",
            ),
            (
                "see ssh://git@h/a and redis://:p@h:6379",
                "see ssh://git@h/a and redis://:[redacted]@h:6379",
            ),
            ("https://h/a@b:c", "https://h/a@b:c"),
            ("git@github.com:a/b.git", "git@github.com:a/b.git"),
            ("://", "://"),
        ];
        for (text, expected) in cases {
            assert_eq!(urls(text), expected);
        }
    }
}

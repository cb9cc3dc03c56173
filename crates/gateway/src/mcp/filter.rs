//! Lists, without what an agent may not see. What stays is the upstream's own text.

use std::borrow::Cow;

use handlers::jsonrpc::{self, Members, ScanError};

use super::method::Listed;

/// What became of a message of an upstream's.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Filtered {
    /// It may be passed on as it is.
    Same,
    /// This is to be passed on.
    Other(String),
}

/// Which of a list's items an agent may see, by what they are called.
pub(crate) trait Sight {
    /// Whether one of a list is to be seen.
    fn sees(&mut self, listed: Listed, name: &str) -> bool;

    /// What there is, before any of it is hidden: names, and the exact texts.
    fn observe(&mut self, listed: Listed, items: &[(Cow<'_, str>, &str)]);
}

/// How a result may be kept by whoever receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caching {
    /// The protocol has no such thing yet.
    Unsaid,
    /// By this agent alone, and no longer than so many milliseconds.
    Private { at_most: u64 },
}

/// The member of an item that names it.
fn naming(listed: Listed) -> &'static str {
    match listed {
        Listed::Tools | Listed::Prompts => "name",
        Listed::Resources => "uri",
        Listed::Templates => "uriTemplate",
        Listed::Tasks => "taskId",
    }
}

/// A change to a text: what stands from here to there is another.
struct Edit {
    from: usize,
    to: usize,
    with: String,
}

/// Filters a message that an upstream sent. `listed` says which lists it may hold.
///
/// # Errors
///
/// When the message, or what it lists, cannot be read in one way only.
pub(crate) fn message(
    text: &str,
    listed: &[Listed],
    caching: Caching,
    sight: &mut impl Sight,
) -> Result<Filtered, ScanError> {
    let message = jsonrpc::members(text)?;
    let Some(result) = message.raw("result").filter(|raw| raw.starts_with('{')) else {
        return Ok(Filtered::Same);
    };
    let base = offset(text, result);
    let members = jsonrpc::members(result)?;
    // What a tool answered is no list, whatever it looks like.
    if members.raw("content").is_some() {
        return Ok(Filtered::Same);
    }
    let mut edits = Vec::new();
    let mut found = listed.is_empty();
    for &listed in listed {
        let Some(list) = members.raw(listed.member()) else {
            continue;
        };
        found = true;
        if let Some(kept) = items(list, listed, sight)? {
            let from = base + offset(result, list);
            edits.push(Edit {
                from,
                to: from + list.len(),
                with: kept,
            });
        }
    }
    if let (Caching::Private { at_most }, true) = (caching, found) {
        private(&members, base, result, at_most, &mut edits);
    }
    Ok(if edits.is_empty() {
        Filtered::Same
    } else {
        Filtered::Other(edited(text, edits))
    })
}

/// The list without what is not seen; none if all of it is.
fn items(list: &str, listed: Listed, sight: &mut impl Sight) -> Result<Option<String>, ScanError> {
    let items = jsonrpc::elements(list)?;
    let mut named = Vec::with_capacity(items.len());
    for &item in &items {
        // What cannot be named cannot be asked for either.
        if let Ok(Some(name)) = jsonrpc::members(item)?.text(naming(listed)) {
            named.push((name, item));
        }
    }
    sight.observe(listed, &named);
    let seen = named.iter().filter(|(name, _)| sight.sees(listed, name));
    let kept: Vec<&str> = seen.map(|(_, item)| *item).collect();
    Ok((kept.len() < items.len()).then(|| format!("[{}]", kept.join(","))))
}

fn private(members: &Members<'_>, base: usize, result: &str, at_most: u64, edits: &mut Vec<Edit>) {
    let mut added = String::new();
    let mut put = |name: &str, right: &dyn Fn(&str) -> bool, value: String| match members.get(name)
    {
        Some(member) if right(member.value) => {}
        Some(member) => edits.push(Edit {
            from: base + offset(result, member.value),
            to: base + offset(result, member.value) + member.value.len(),
            with: value,
        }),
        None => {
            let comma = if added.is_empty() && members.iter().next().is_none() {
                ""
            } else {
                ","
            };
            added = format!(r#"{added}{comma}"{name}":{value}"#);
        }
    };
    put(
        "ttlMs",
        &|value| {
            value
                .parse::<f64>()
                .is_ok_and(|ttl| ttl >= 0.0 && ttl <= to_f64(at_most))
        },
        at_most.to_string(),
    );
    put(
        "cacheScope",
        &|value| value == r#""private""#,
        r#""private""#.to_owned(),
    );
    if !added.is_empty() {
        let end = base + result.len() - 1;
        edits.push(Edit {
            from: end,
            to: end,
            with: added,
        });
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "milliseconds of a day fit a double exactly"
)]
fn to_f64(millis: u64) -> f64 {
    millis as f64
}

/// Where a part of a text begins in it.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr().saturating_sub(text.as_ptr().addr())
}

fn edited(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| edit.from);
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for edit in edits {
        out.push_str(text.get(at..edit.from).unwrap_or_default());
        out.push_str(&edit.with);
        at = edit.to;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Only(&'static [&'static str], usize);

    impl Sight for Only {
        fn sees(&mut self, _: Listed, name: &str) -> bool {
            self.0.contains(&name)
        }

        fn observe(&mut self, _: Listed, items: &[(Cow<'_, str>, &str)]) {
            self.1 += items.len();
        }
    }

    fn filtered(text: &str, listed: Listed, caching: Caching) -> Result<Filtered, ScanError> {
        message(text, &[listed], caching, &mut Only(&["a", "c"], 0))
    }

    #[test]
    fn what_stays_is_the_upstreams_own_text() {
        let text = r#"{ "result":{"x":1.10,"tools":[ {"name":"a","execution":{"taskSupport":"optional"},"n":12345678901234567890},
            {"name":"b"} , {"n\u0061me":"c", "inputSchema":{"P":1,"p":2}} ],"nextCursor":"z"},"id":1,"jsonrpc":"2.0"}"#;
        let expected = r#"{ "result":{"x":1.10,"tools":[{"name":"a","execution":{"taskSupport":"optional"},"n":12345678901234567890},{"n\u0061me":"c", "inputSchema":{"P":1,"p":2}}],"nextCursor":"z"},"id":1,"jsonrpc":"2.0"}"#;
        assert_eq!(
            filtered(text, Listed::Tools, Caching::Unsaid),
            Ok(Filtered::Other(expected.to_owned()))
        );
        let all = r#"{"jsonrpc":"2.0","id":1,"result":{"tools":[ {"name":"a"} ]}}"#;
        assert_eq!(
            filtered(all, Listed::Tools, Caching::Unsaid),
            Ok(Filtered::Same)
        );
        let error = r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"tools"}}"#;
        assert_eq!(
            filtered(error, Listed::Tools, Caching::Unsaid),
            Ok(Filtered::Same)
        );
    }

    #[test]
    fn a_filtered_list_is_private_and_young() {
        let private = Caching::Private { at_most: 5_000 };
        for (result, expected) in [
            (
                r#"{"tools":[],"ttlMs":60000,"cacheScope":"public"}"#,
                Some(r#"{"tools":[],"ttlMs":5000,"cacheScope":"private"}"#),
            ),
            (r#"{"tools":[],"ttlMs":10,"cacheScope":"private"}"#, None),
            (
                r#"{"tools":[],"ttlMs":"x"}"#,
                Some(r#"{"tools":[],"ttlMs":5000,"cacheScope":"private"}"#),
            ),
            (
                r#"{"tools":[]}"#,
                Some(r#"{"tools":[],"ttlMs":5000,"cacheScope":"private"}"#),
            ),
            (
                r#"{"tools":[{"name":"b"}],"ttlMs":5000}"#,
                Some(r#"{"tools":[],"ttlMs":5000,"cacheScope":"private"}"#),
            ),
        ] {
            let whole = |result: &str| format!(r#"{{"jsonrpc":"2.0","id":1,"result":{result}}}"#);
            let found = filtered(&whole(result), Listed::Tools, private).unwrap();
            let expected = expected.map_or(Filtered::Same, |text| Filtered::Other(whole(text)));
            assert_eq!(found, expected, "{result}");
        }
    }

    #[test]
    fn a_list_that_can_be_read_in_two_ways_is_refused() {
        for text in [
            r#"{"id":1,"result":{"tools":[{"name":"b"}],"tools":[]}}"#,
            r#"{"id":1,"result":{"tools":[{"name":"a","name":"b"}]}}"#,
            r#"{"id":1,"result":{"tools":[{"name":"a","Name":"b"}]}}"#,
            r#"{"id":1,"result":{"tools":[]},"Result":{"tools":[{"name":"b"}]}}"#,
            r#"{"id":1,"result":{"tools":{}}}"#,
            r#"{"id":1,"result":{"tools":["a"]}}"#,
            r#"[{"id":1,"result":{"tools":[{"name":"b"}]}}]"#,
            r#"{"id":1,"result":{"tools":[}}"#,
        ] {
            assert!(
                filtered(text, Listed::Tools, Caching::Unsaid).is_err(),
                "{text}"
            );
        }
        let unnamed = r#"{"id":1,"result":{"tools":[{"title":"a"},{"name":7}]}}"#;
        assert_eq!(
            filtered(unnamed, Listed::Tools, Caching::Unsaid),
            Ok(Filtered::Other(
                r#"{"id":1,"result":{"tools":[]}}"#.to_owned()
            ))
        );
    }

    #[test]
    fn items_are_named_by_their_kind() {
        for (listed, list) in [
            (Listed::Resources, r#"[{"uri":"a"},{"uri":"b"}]"#),
            (
                Listed::Templates,
                r#"[{"uriTemplate":"a"},{"uriTemplate":"b"}]"#,
            ),
            (Listed::Prompts, r#"[{"name":"a"},{"name":"b"}]"#),
            (Listed::Tasks, r#"[{"taskId":"a"},{"taskId":"b"}]"#),
        ] {
            let text = format!(r#"{{"id":1,"result":{{"{}":{list}}}}}"#, listed.member());
            let Ok(Filtered::Other(kept)) = filtered(&text, listed, Caching::Unsaid) else {
                panic!("{text}")
            };
            assert!(
                kept.contains(r#""a""#) && !kept.contains(r#""b""#),
                "{kept}"
            );
        }
    }
}

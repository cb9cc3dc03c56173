//! Lists, without what an agent may not see. What stays is the upstream's own text.

use std::{borrow::Cow, ops::Range, sync::Arc};

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

    /// A list of this kind that was taken apart before.
    fn known(&self, listed: Listed) -> Option<Arc<Known>>;

    /// Keeps a list that was taken apart, should it come again.
    fn keep(&mut self, listed: Listed, list: Known);
}

/// Shorter lists are taken apart anew, and longer ones are not kept.
const KEPT_BYTES: Range<usize> = 2 * 1024..4 * 1024 * 1024;

/// A list as a server wrote it, taken apart: servers tell the same one time after time.
#[derive(Debug)]
pub(crate) struct Known {
    text: Box<str>,
    /// What each of its items is called that has a name, and where it stands.
    items: Vec<(Box<str>, Range<usize>)>,
    /// How many there are, also without a name.
    count: usize,
}

impl Known {
    /// How much memory it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        self.text.len() + self.items.len() * 64
    }

    /// A message that holds this very list, with `[]` in its place, and where that is.
    ///
    /// To put one array in the place of another changes nothing about how the rest is read,
    /// so what is learnt of the shorter message holds for the whole one: if the `[]` is the
    /// list of its result, the list is the list of the result.
    fn cut_out_of(&self, text: &str) -> Option<(String, usize)> {
        const BEGINNING: usize = 64;
        const TRIES: usize = 4;
        let own = self.text.as_bytes();
        let beginning = own.get(..BEGINNING)?;
        let at = memchr::memmem::find_iter(text.as_bytes(), beginning)
            .take(TRIES)
            .find(|&at| {
                let rest = text.as_bytes().get(at..).unwrap_or_default();
                rest.starts_with(own)
            })?;
        let (before, after) = (text.get(..at)?, text.get(at + own.len()..)?);
        Some(([before, "[]", after].concat(), at))
    }
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
    if let &[one] = listed
        && let Some(known) = sight.known(one)
        && let Some((short, at)) = known.cut_out_of(text)
        && let Some(filtered) = around((&short, at), one, &known, caching, sight)
    {
        return Ok(filtered);
    }
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

/// As [`message`], for one whose list is known and was cut out; none if that is not the list
/// of its result, or the rest cannot be read.
fn around(
    (text, at): (&str, usize),
    listed: Listed,
    known: &Known,
    caching: Caching,
    sight: &mut impl Sight,
) -> Option<Filtered> {
    let message = jsonrpc::members(text).ok()?;
    let result = message.raw("result").filter(|raw| raw.starts_with('{'))?;
    let base = offset(text, result);
    let members = jsonrpc::members(result).ok()?;
    let list = members.raw(listed.member())?;
    if base + offset(result, list) != at || list != "[]" || members.raw("content").is_some() {
        return None;
    }
    let item = |range: &Range<usize>| known.text.get(range.clone()).unwrap_or_default();
    let named: Vec<_> = known
        .items
        .iter()
        .map(|(name, range)| (Cow::Borrowed(&**name), item(range)))
        .collect();
    sight.observe(listed, &named);
    let kept = kept(&named, known.count, listed, sight);
    let all = kept.is_none();
    let mut edits = vec![Edit {
        from: at,
        to: at + list.len(),
        with: kept.unwrap_or_else(|| known.text.to_string()),
    }];
    if let Caching::Private { at_most } = caching {
        private(&members, base, result, at_most, &mut edits);
    }
    Some(if all && edits.len() == 1 {
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
    if KEPT_BYTES.contains(&list.len()) {
        let place = |item: &str| {
            let start = offset(list, item);
            start..start + item.len()
        };
        let items_of = named.iter().map(|(name, item)| (&**name, *item));
        sight.keep(
            listed,
            Known {
                text: list.into(),
                items: items_of
                    .map(|(name, item)| (name.into(), place(item)))
                    .collect(),
                count: items.len(),
            },
        );
    }
    Ok(kept(&named, items.len(), listed, sight))
}

/// The list of what is seen; none if that is all of `count`.
fn kept(
    named: &[(Cow<'_, str>, &str)],
    count: usize,
    listed: Listed,
    sight: &mut impl Sight,
) -> Option<String> {
    let seen = named.iter().filter(|(name, _)| sight.sees(listed, name));
    let kept: Vec<&str> = seen.map(|(_, item)| *item).collect();
    (kept.len() < count).then(|| format!("[{}]", kept.join(",")))
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

        fn known(&self, _: Listed) -> Option<Arc<Known>> {
            None
        }

        fn keep(&mut self, _: Listed, _: Known) {}
    }

    /// Sees every other one, and remembers the last list.
    #[derive(Default)]
    struct Remembering {
        known: Option<Arc<Known>>,
        asked: Vec<String>,
        observed: Vec<(String, String)>,
    }

    impl Sight for Remembering {
        fn sees(&mut self, _: Listed, name: &str) -> bool {
            self.asked.push(name.to_owned());
            name.ends_with(['0', '2', '4', '6', '8'])
        }

        fn observe(&mut self, _: Listed, items: &[(Cow<'_, str>, &str)]) {
            let items = items.iter();
            self.observed = items
                .map(|(name, item)| (name.to_string(), (*item).to_owned()))
                .collect();
        }

        fn known(&self, _: Listed) -> Option<Arc<Known>> {
            self.known.clone()
        }

        fn keep(&mut self, _: Listed, list: Known) {
            self.known = Some(Arc::new(list));
        }
    }

    /// A list that is known is found again, and nothing else is taken for it: with a memory
    /// the same comes out as without, whatever the message.
    #[test]
    fn a_known_list_changes_nothing_but_the_effort() {
        use std::fmt::Write;

        let list = |count: usize, named: &str| {
            let mut list = String::from("[");
            for n in 0..count {
                let comma = if n == 0 { "" } else { " ,\n" };
                let _ = write!(
                    list,
                    r#"{comma}{{"{named}":"tool-{n}","description":"Does \u0061 thing, 1.10 times."}}"#
                );
            }
            list + "]"
        };
        let long = list(60, "name");
        assert!(KEPT_BYTES.contains(&long.len()));
        let others = [
            list(61, "name"),
            list(60, "title"),
            format!("[{{\"name\":\"tool-0\",\"tools\":{long}}}]"),
            long.replace("tool-31", "tool-32"),
            "[]".to_owned(),
        ];
        let mut messages = Vec::new();
        for list in others.iter().chain([&long]) {
            messages.extend([
                format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"tools":{list}}}}}"#),
                format!(r#"{{"id":"[]","result": {{"a":[], "tools": {list} ,"ttlMs":1,"cacheScope":"private"}} }}"#),
                format!(r#"{{"id":1,"result":{{"other":{list}}}}}"#),
                format!(r#"{{"id":1,"result":{{"other":{list},"tools":[]}}}}"#),
                format!(r#"{{"id":1,"result":{{"tools":[],"other":{list}}}}}"#),
                format!(r#"{{"id":1,"result":{{"tools":{list},"tools":[]}}}}"#),
                format!(r#"{{"id":1,"result":{{"tools":{list},"Tools":[]}}}}"#),
                format!(r#"{{"id":1,"result":{{"content":[],"tools":{list}}}}}"#),
                format!(r#"{{"id":1,"error":{{"tools":{list}}}}}"#),
                format!(r#"{{"id":1,"tools":{list},"result":{{}}}}"#),
                format!(r#"{{"id":1,"result":{list}}}"#),
                format!(r#"{{"id":1,"result":{{"tools":{list}}}"#),
                format!(r#"{{"id":1,"result":{{"tools":{list}x}}}}"#),
                format!(r#"{{"id":1,"result":{{"tools":{list}}},"result":{{}}}}"#),
                format!(r#"[{{"id":1,"result":{{"tools":{list}}}}}]"#),
            ]);
        }
        let caching = [Caching::Unsaid, Caching::Private { at_most: 5_000 }];
        let mut found = 0;
        for (message_of, caching) in messages
            .iter()
            .flat_map(|one| caching.map(|how| (one, how)))
        {
            let mut without = Remembering::default();
            let expected = message(message_of, &[Listed::Tools], caching, &mut without);
            // The list is known from another message.
            let mut with = Remembering::default();
            let first = format!(r#"{{"id":0,"result":{{"tools":{long}}}}}"#);
            message(&first, &[Listed::Tools], Caching::Unsaid, &mut with).unwrap();
            (with.asked, with.observed) = Default::default();
            let known = with.known.clone().unwrap();
            found += usize::from(known.cut_out_of(message_of).is_some());
            let told = message(message_of, &[Listed::Tools], caching, &mut with);
            assert_eq!(told, expected, "{message_of}");
            assert_eq!(with.asked, without.asked, "{message_of}");
            if expected.is_ok() {
                assert_eq!(with.observed, without.observed, "{message_of}");
            }
        }
        assert!(found >= 30, "{found}");
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

//! Pages: lists that come piece by piece, where the document shows how.

use serde_json::Value;

use super::{
    answer::{Answer, has_header, is_of, json_response, property, property_names},
    argument::{Argument, In},
    document::Document,
    operation::Operation,
};

/// What the parameter is called that says how many items a page has.
const SIZES: &[&str] = &[
    "per_page",
    "perPage",
    "page_size",
    "pageSize",
    "limit",
    "page[size]",
    "max_results",
    "maxResults",
    "$top",
    "count",
    "take",
];
const NUMBERS: &[&str] = &["page", "page_number", "pageNumber", "page[number]"];
const OFFSETS: &[&str] = &["offset", "skip", "$skip", "startAt"];
const CURSORS: &[&str] = &[
    "cursor",
    "page_token",
    "pageToken",
    "next_token",
    "nextToken",
    "continuation_token",
    "continuationToken",
    "page[cursor]",
    "after",
];
/// Where an answer has the next cursor.
const NEXT: &[&str] = &[
    "next_cursor",
    "nextCursor",
    "next_page_token",
    "nextPageToken",
    "next_token",
    "nextToken",
    "continuation_token",
    "continuationToken",
    "meta.next_cursor",
    "pagination.next_cursor",
    "paging.next.after",
    "response_metadata.next_cursor",
];
const MORE: &[&str] = &["has_more", "hasMore", "has_next", "hasNext"];
/// Where an answer has its list, if there are several.
const LISTS: &[&str] = &["data", "items", "results", "values", "records", "entries"];

/// How a list comes in pieces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pages {
    /// `page`, `offset` or `cursor`.
    pub(super) by: &'static str,
    pub(super) parameter: String,
    pub(super) size: Option<String>,
    pub(super) size_max: i64,
    pub(super) first: Option<i64>,
    pub(super) next: Option<&'static str>,
    pub(super) more: Option<&'static str>,
    pub(super) link: bool,
}

/// The pages of an operation, if it has any; its arguments for them are taken away.
pub(super) fn pages(
    document: &Document,
    operation: Operation<'_>,
    arguments: &mut Vec<Argument>,
    answer: Answer,
) -> (Option<Pages>, Answer) {
    match found(document, operation, arguments, &answer) {
        None => (None, answer),
        Some((pages, answer)) => {
            let ours = |argument: &Argument| {
                argument.place == In::Query
                    && (argument.wire == pages.parameter
                        || Some(&argument.wire) == pages.size.as_ref())
            };
            arguments.retain(|argument| !ours(argument));
            (Some(pages), answer)
        }
    }
}

fn found(
    document: &Document,
    operation: Operation<'_>,
    arguments: &[Argument],
    answer: &Answer,
) -> Option<(Pages, Answer)> {
    if operation.method != "GET" {
        return None;
    }
    let query = |names: &[&str], kinds: &[&str]| {
        names.iter().find_map(|name| {
            arguments.iter().find(|argument| {
                argument.place == In::Query
                    && argument.wire == *name
                    && kinds.contains(&argument.kind)
            })
        })
    };
    let (response, schema) = json_response(document, operation)?;
    let answer = match answer {
        Answer::List { .. } => answer.clone(),
        Answer::Object { .. } => Answer::List {
            name: super::answer::noun(operation.path),
            at: Some(list_of(document, schema, operation)?),
        },
        Answer::Any | Answer::Text => return None,
    };
    let is_object = matches!(&answer, Answer::List { at: Some(_), .. });
    let numeric = ["integer", "number"];
    let size = query(SIZES, &numeric);
    let link = has_header(response, "link");
    let more = MORE
        .iter()
        .copied()
        .find(|name| is_object && is_of(document, property(document, schema, name, 0), "boolean"));
    let number = query(NUMBERS, &numeric);
    let offset = query(OFFSETS, &numeric);
    let cursor = query(CURSORS, &["string"]);
    let next = NEXT
        .iter()
        .copied()
        .find(|path| is_object && at(document, schema, path).is_some());
    let (by, parameter) = match (cursor, number, offset) {
        (Some(cursor), ..) if next.is_some() => ("cursor", cursor),
        (_, Some(number), _) if size.is_some() => ("page", number),
        (_, _, Some(offset)) if size.is_some() => ("offset", offset),
        _ => return None,
    };
    // The command gets arguments of these names, for all services alike.
    let clashes = arguments.iter().any(|argument| {
        let ours =
            argument.wire == parameter.wire || size.is_some_and(|size| size.wire == argument.wire);
        let name = argument.name.replace('-', "_");
        !(ours && argument.place == In::Query) && (name == "limit" || name == by)
    });
    if clashes {
        return None;
    }
    let bound = |argument: &Argument, key: &str| argument.keys.get(key).and_then(Value::as_i64);
    let size_max = size
        .and_then(|size| bound(size, "maximum"))
        .filter(|most| *most > 0)
        .map_or(100, |most| most.min(1000));
    let zero = |value: &Value| value.as_i64() == Some(0);
    let first = (by == "page"
        && (bound(parameter, "minimum") == Some(0) || parameter.examples.iter().any(zero)))
    .then_some(0);
    Some((
        Pages {
            by,
            parameter: parameter.wire.clone(),
            size: size.map(|size| size.wire.clone()),
            size_max,
            first,
            next: next.filter(|_| by == "cursor"),
            more,
            link: link && by == "page" && more.is_none(),
        },
        answer,
    ))
}

/// Where an object has its only list, or the one that is called as lists are.
fn list_of(document: &Document, schema: &Value, operation: Operation<'_>) -> Option<String> {
    let noun = super::answer::noun(operation.path);
    let lists: Vec<&String> = property_names(document, schema)
        .into_iter()
        .filter(|name| is_of(document, property(document, schema, name, 0), "array"))
        .filter(|name| !name.contains('.'))
        .collect();
    let named = |wanted: &str| lists.iter().find(|name| **name == wanted);
    let found = match lists.as_slice() {
        [only] => Some(only),
        _ => named(&noun).or_else(|| LISTS.iter().find_map(|name| named(name))),
    };
    found.map(|name| (*name).clone())
}

/// The schema at a path such as `meta.next_cursor`.
fn at<'a>(document: &'a Document, schema: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.')
        .try_fold(schema, |schema, name| property(document, schema, name, 0))
}

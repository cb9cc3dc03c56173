//! Lines and arrays as the gateway before this one read them: the database comes first, and
//! SQL needs no quotes.

use serde_json::{Map, Value};

use crate::{
    description::PostgresTable,
    grammar::{Line, Word},
};

/// Commands that take SQL.
const TAKE_SQL: [&str; 4] = ["query", "sql", "explain", "execute"];

/// How a SELECT may begin that nobody called `query`.
const BEGIN_SELECT: [&str; 4] = ["select", "with", "values", "table"];

/// The line with its database as the argument `--database`, and SQL that was not quoted as
/// one word: all that was typed, to the end of the line.
pub(crate) fn line(table: &PostgresTable, line: Line, text: &str) -> Line {
    let Line { service, words } = line;
    let mut words = words.into_iter().peekable();
    let is_database = |word: &mut Word| {
        let names = table.databases.iter();
        let mut names =
            names.flat_map(|(name, database)| std::iter::once(name).chain(&database.aliases));
        names.any(|name| *name == word.text)
    };
    let database = words
        .peek_mut()
        .is_some_and(is_database)
        .then(|| words.next())
        .flatten();
    let words: Vec<Word> = words.collect();
    let mut words = with_sql(words, text);
    if let Some(database) = database.filter(|_| !words.is_empty()) {
        // Before `--`, after which nothing is an option.
        let option = Word {
            text: format!("--database={}", database.text),
            ..Word::default()
        };
        let at = words
            .iter()
            .position(|word| !word.quoted && word.text == "--");
        words.insert(at.unwrap_or(words.len()), option);
    }
    Line { service, words }
}

fn with_sql(words: Vec<Word>, text: &str) -> Vec<Word> {
    let is = |word: &Word, names: &[&str]| {
        !word.quoted
            && names
                .iter()
                .any(|name| word.text.eq_ignore_ascii_case(name))
    };
    let sql = |from: &Word| Word {
        text: text
            .get(from.at..)
            .unwrap_or_default()
            .trim_end()
            .to_owned(),
        quoted: true,
        ..Word::default()
    };
    let command = |name: &str| Word {
        text: name.to_owned(),
        ..Word::default()
    };
    match words.as_slice() {
        [first, next, ..] if is(first, &TAKE_SQL) => {
            let plain = !next.quoted
                && next.json.is_none()
                && !next.text.starts_with("--")
                && !text
                    .get(next.at..)
                    .unwrap_or_default()
                    .starts_with(['"', '\'']);
            if plain {
                return vec![command(&first.text), sql(next)];
            }
        }
        [first, _, ..] if is(first, &BEGIN_SELECT) => return vec![command("query"), sql(first)],
        _ => {}
    }
    words
}

/// Arguments by name: an array is the statement, and then its parameters one by one.
pub(crate) fn by_name(operation: &str, arguments: Value) -> Value {
    let takes_sql = TAKE_SQL
        .iter()
        .any(|name| operation.trim().eq_ignore_ascii_case(name));
    match arguments {
        Value::Array(values) if takes_sql && !values.is_empty() => {
            let mut values = values.into_iter();
            let mut named = Map::new();
            named.extend(values.next().map(|sql| ("sql".to_owned(), sql)));
            let params: Vec<Value> = values.collect();
            if !params.is_empty() {
                named.insert("params".to_owned(), Value::Array(params));
            }
            Value::Object(named)
        }
        other => other,
    }
}

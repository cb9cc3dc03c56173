//! The commands that take a statement of the agent's: `query`, `explain` and `execute`.
//!
//! A statement of `query` is never judged by its words. It is parsed alone first, as exactly
//! one statement; then it is put where only a SELECT, VALUES or TABLE may stand, between
//! parentheses, and the server's own grammar keeps everything else out. What stands around it
//! turns every column into text and cuts what is too long on the server, so that nothing
//! longer than the limits comes here.

use futures_util::{Stream, TryStreamExt as _};
use serde_json::{Map, Value};
use sqlx::{
    AssertSqlSafe, Column as _, Either, Executor as _, PgConnection, Row as _, Statement as _,
    postgres::{PgArguments, PgDatabaseError, PgErrorPosition, PgRow},
};

use super::{
    failure::Failure,
    parameter,
    value::{self, Column},
};

/// No value is cut shorter, in characters.
const SHORTEST_CUT: usize = 16;

/// Stands before a statement that is only to be explained.
pub(super) const EXPLAIN: &str = "EXPLAIN (FORMAT JSON)\n";

/// What `query` takes.
const NO_SELECT: &str = "`query` takes one SELECT, VALUES or TABLE statement that changes nothing, \
    without a semicolon before its end";

/// What `execute` takes of what returns rows.
const NO_ROWS: &str = "of statements that return rows, `execute` takes SELECT, VALUES, and INSERT, \
    UPDATE or DELETE with RETURNING, that change nothing within a WITH and end without a semicolon";

/// What an agent asks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) sql: &'a str,
    pub(super) params: &'a [Value],
    pub(super) max_rows: usize,
    pub(super) max_bytes: usize,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) data: Map<String, Value>,
    /// Rows were left unread, so that the connection is of no use any more.
    pub(super) unread: bool,
}

/// A statement that the server has parsed.
struct Parsed<'a> {
    sql: &'a str,
    columns: Vec<Column>,
    arguments: PgArguments,
}

impl Parsed<'_> {
    /// SQL that reads the columns from `source`: one row has their texts, and, where the row
    /// is longer than `bytes` in all, which of them were cut; and what `more` says.
    fn reading(&self, source: &str, rows: usize, bytes: usize, more: &str) -> String {
        let names = |prefix: &str| {
            let names = (1..=self.columns.len()).map(|number| format!("{prefix}{number}"));
            names.collect::<Vec<_>>()
        };
        let (texts, columns) = (names("t"), names("c"));
        // Some letters are four bytes.
        let share = (bytes / (4 * self.columns.len().max(1))).max(SHORTEST_CUT);
        let each = |write: &dyn Fn(&String) -> String| {
            texts.iter().map(write).collect::<Vec<_>>().join(", ")
        };
        let expressions = self.columns.iter().zip(&columns).zip(&texts);
        let expressions: Vec<String> = expressions
            .map(|((column, name), text)| format!("{} AS {text}", column.expression(name)))
            .collect();
        let lengths = texts
            .iter()
            .map(|text| format!("COALESCE(pg_catalog.octet_length({text}), 0)::pg_catalog.int8"));
        let length = std::iter::once("0".to_owned())
            .chain(lengths)
            .collect::<Vec<_>>()
            .join(" + ");
        let alias = if columns.is_empty() {
            String::new()
        } else {
            format!("({})", columns.join(", "))
        };
        let (whole, cut) = (
            each(&|text| text.clone()),
            each(&|text| format!("pg_catalog.left({text}, {share})")),
        );
        let which = each(&|text| format!("pg_catalog.length({text}) > {share}"));
        let comma = if texts.is_empty() { "" } else { ", " };
        // Each LIMIT and OFFSET keeps the planner from writing an expression out twice.
        format!(
            "SELECT CASE WHEN length_ <= {bytes} THEN ARRAY[{whole}]::pg_catalog.text[] \
             ELSE ARRAY[{cut}]::pg_catalog.text[] END, \
             CASE WHEN length_ > {bytes} THEN ARRAY[{which}]::pg_catalog.bool[] END{more} \
             FROM (SELECT {whole}{comma}{length} AS length_ \
             FROM (SELECT {} FROM {source} AS q{alias} LIMIT {rows}) AS r OFFSET 0) AS s",
            expressions.join(", "),
        )
    }
}

/// Statements end here: what stands between parentheses ends without a semicolon.
///
/// Cut off the end, a semicolon is either the statement's or part of a comment: texts and
/// names end with their quotes.
pub(super) fn trimmed(sql: &str) -> &str {
    sql.trim_end_matches(|letter: char| letter == ';' || letter.is_ascii_whitespace())
}

/// Has the server parse the statement, alone and as it is, and reads its parameters. Nothing
/// is carried out.
async fn parse<'a>(
    connection: &mut PgConnection,
    question: Question<'a>,
) -> Result<Parsed<'a>, Failure> {
    let sql = trimmed(question.sql);
    if sql.contains('\0') {
        return Err(Failure::Refused("a statement holds no NUL".to_owned()));
    }
    let statement = (&mut *connection)
        .prepare(sqlx::SqlSafeStr::into_sql_str(AssertSqlSafe(sql)))
        .await
        .map_err(|error| match error {
            // Of multiranges, for example, the driver has never heard.
            sqlx::Error::Protocol(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. } => Failure::Type,
            error => Failure::Statement(error, 0),
        })?;
    let types = match statement.parameters() {
        Some(Either::Left(types)) => types.to_vec(),
        _ => Vec::new(),
    };
    let columns = statement.columns().iter();
    let columns = Column::all(columns.map(|column| (column.name(), column.type_info())));
    let arguments = parameter::read(connection, &types, question.params).await?;
    Ok(Parsed {
        sql,
        columns,
        arguments,
    })
}

/// The rows of one statement that only reads.
pub(super) async fn query(
    connection: &mut PgConnection,
    question: Question<'_>,
) -> Result<Outcome, Failure> {
    let parsed = parse(connection, question).await?;
    // Parentheses of its own, on lines of their own: a comment may end the statement.
    let source = format!("(\n{}\n)", parsed.sql);
    let reading = parsed.reading(&source, question.max_rows + 1, question.max_bytes, "");
    let before = reading.find(&source).map_or(0, |at| {
        reading.get(..at).unwrap_or_default().chars().count() + 2
    });
    let rows = sqlx::query_with(AssertSqlSafe(reading), parsed.arguments)
        .persistent(false)
        .fetch(connection);
    let read = read(rows, &parsed.columns, question, Rest::Left).await;
    let read = read.map_err(|error| {
        if misplaced(&error) {
            Failure::Refused(NO_SELECT.to_owned())
        } else {
            Failure::Statement(error, before)
        }
    })?;
    let unread = read.unread;
    Ok(Outcome {
        data: read.shown(&parsed.columns),
        unread,
    })
}

/// How a statement would be carried out.
pub(super) async fn explain(
    connection: &mut PgConnection,
    question: Question<'_>,
) -> Result<Outcome, Failure> {
    let parsed = parse(connection, question).await?;
    let row = sqlx::query_with(
        AssertSqlSafe(format!("{EXPLAIN}{}", parsed.sql)),
        parsed.arguments,
    )
    .persistent(false)
    .fetch_one(connection)
    .await
    .map_err(|error| Failure::Statement(error, EXPLAIN.len()))?;
    let plan: Value = row.try_get(0)?;
    Ok(Outcome {
        data: Map::from_iter([("plan".to_owned(), plan)]),
        unread: false,
    })
}

/// What a statement changed, and the rows that it returns.
pub(super) async fn execute(
    connection: &mut PgConnection,
    question: Question<'_>,
) -> Result<Outcome, Failure> {
    let parsed = parse(connection, question).await?;
    let mut data = Map::new();
    if parsed.columns.is_empty() {
        let done = sqlx::query_with(AssertSqlSafe(parsed.sql.to_owned()), parsed.arguments)
            .persistent(false)
            .execute(&mut *connection)
            .await
            .map_err(|error| Failure::Statement(error, 0))?;
        data.insert("affectedRows".to_owned(), done.rows_affected().into());
        return Ok(Outcome {
            data,
            unread: false,
        });
    }
    // It is carried out whole, however many of its rows are read.
    let names: Vec<String> = (1..=parsed.columns.len())
        .map(|number| format!("c{number}"))
        .collect();
    let with = format!("WITH w_({}) AS (\n", names.join(", "));
    let reading = parsed.reading(
        "w_",
        question.max_rows + 1,
        question.max_bytes,
        ", (SELECT pg_catalog.count(*) FROM w_)",
    );
    let statement = format!("{with}{}\n) {reading}", parsed.sql);
    let rows = sqlx::query_with(AssertSqlSafe(statement), parsed.arguments)
        .persistent(false)
        .fetch(connection);
    let read = read(rows, &parsed.columns, question, Rest::Read).await;
    let read = read.map_err(|error| {
        if misplaced(&error) {
            Failure::Refused(NO_ROWS.to_owned())
        } else {
            Failure::Statement(error, with.chars().count())
        }
    })?;
    data.insert("affectedRows".to_owned(), read.affected.into());
    data.extend(read.shown(&parsed.columns));
    Ok(Outcome {
        data,
        unread: false,
    })
}

/// What becomes of rows that do not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    /// They stay where they are.
    Left,
    /// They are read and forgotten.
    Read,
}

/// Rows, as many as may be.
#[derive(Debug, Default)]
struct Read {
    rows: Vec<Value>,
    truncated: bool,
    unread: bool,
    /// How many the statement made, if it was asked.
    affected: i64,
}

impl Read {
    /// As agents see them.
    fn shown(self, columns: &[Column]) -> Map<String, Value> {
        let mut data = Map::new();
        data.insert("rowCount".to_owned(), self.rows.len().into());
        data.insert("rows".to_owned(), Value::Array(self.rows));
        let fields = columns.iter().map(Column::field).collect();
        data.insert("fields".to_owned(), Value::Array(fields));
        if self.truncated {
            data.insert("truncated".to_owned(), Value::Bool(true));
        }
        data
    }
}

async fn read(
    mut rows: impl Stream<Item = sqlx::Result<PgRow>> + Unpin,
    columns: &[Column],
    question: Question<'_>,
    rest: Rest,
) -> sqlx::Result<Read> {
    let mut read = Read::default();
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        let texts: Vec<Option<String>> = row.try_get(0)?;
        let cut: Option<Vec<Option<bool>>> = row.try_get(1)?;
        if rest == Rest::Read {
            read.affected = row.try_get(2)?;
        }
        let length: usize = texts.iter().flatten().map(String::len).sum();
        let fits = read.rows.is_empty() || bytes + length <= question.max_bytes;
        if read.truncated || read.rows.len() >= question.max_rows || !fits {
            read.truncated = true;
            if rest == Rest::Left {
                read.unread = true;
                break;
            }
            continue;
        }
        bytes += length;
        read.truncated |= cut.is_some();
        let row = value::row(columns, texts, &cut.unwrap_or_default());
        read.rows.push(row);
    }
    Ok(read)
}

/// Whether a statement, which the server parsed alone without complaint, may not stand where
/// we put it: it is no SELECT, or changes something.
fn misplaced(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    let error: Option<&PgDatabaseError> = error.try_downcast_ref();
    error.is_some_and(|error| {
        // What functions raise has no place in the statement.
        matches!(error.code(), "42601" | "0A000")
            && matches!(error.position(), Some(PgErrorPosition::Original(_)))
    })
}

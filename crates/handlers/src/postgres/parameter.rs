//! Parameters: a JSON value becomes a value of the type that the statement wants there. The
//! server decides the type and reads the text; nothing is ever put into a statement.

use serde_json::Value;
use sqlx::{
    AssertSqlSafe, Encode, PgConnection, Postgres, Row as _, Type,
    encode::IsNull,
    error::BoxDynError,
    postgres::{PgArgumentBuffer, PgArguments, PgTypeInfo, PgTypeKind, types::Oid},
};

use super::failure::Failure;

/// A value in the form in which the server sends and takes it.
struct Raw {
    oid: u32,
    /// Absent for NULL.
    bytes: Option<Vec<u8>>,
}

impl Type<Postgres> for Raw {
    /// Of no importance: [`Encode::produces`] goes before it.
    fn type_info() -> PgTypeInfo {
        PgTypeInfo::with_oid(Oid(25))
    }
}

impl Encode<'_, Postgres> for Raw {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Ok(match &self.bytes {
            Some(bytes) => {
                buffer.extend_from_slice(bytes);
                IsNull::No
            }
            None => IsNull::Yes,
        })
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(PgTypeInfo::with_oid(Oid(self.oid)))
    }
}

/// The parameters of a statement that wants these types.
///
/// # Errors
///
/// [`Failure::Refused`] when there are more or fewer, or a value is none of its type.
pub(super) async fn read(
    connection: &mut PgConnection,
    types: &[PgTypeInfo],
    values: &[Value],
) -> Result<PgArguments, Failure> {
    if types.len() != values.len() {
        return Err(Failure::Refused(format!(
            "the statement has {} parameters and {} values were given",
            types.len(),
            values.len()
        )));
    }
    let mut arguments = PgArguments::default();
    for (number, (kind, value)) in (1..).zip(types.iter().zip(values)) {
        let oid = kind.oid().map_or(0, |Oid(oid)| oid);
        let text = text(value, kind)
            .map_err(|problem| Failure::Refused(format!("parameter {number}: {problem}")))?;
        let bytes = match &text {
            None => None,
            Some(text) => match direct(oid, text) {
                Some(bytes) => Some(bytes),
                None => Some(asked(connection, oid, text, number).await?),
            },
        };
        add(&mut arguments, Raw { oid, bytes })?;
    }
    Ok(arguments)
}

fn add(arguments: &mut PgArguments, raw: Raw) -> Result<(), Failure> {
    sqlx::Arguments::add(arguments, raw).map_err(|error| Failure::Sqlx(sqlx::Error::Encode(error)))
}

/// The value as PostgreSQL reads it; none for NULL.
fn text(value: &Value, kind: &PgTypeInfo) -> Result<Option<String>, String> {
    let oid = kind.oid().map_or(0, |Oid(oid)| oid);
    // JSON takes JSON, whatever it is: there, a text is one in quotes, and `null` a value.
    // As text it is taken where that is JSON already: so it came from the gateway before.
    if matches!(oid, 114 | 3802) {
        return Ok(match value {
            Value::Null => None,
            Value::String(text) if serde_json::from_str::<Value>(text).is_ok() => {
                Some(text.clone())
            }
            other => Some(other.to_string()),
        });
    }
    if let (17, Some(bytes)) = (oid, of_buffer(value)) {
        return Ok(Some(format!("\\x{}", hex::encode(bytes))));
    }
    Ok(Some(match value {
        Value::Null => return Ok(None),
        Value::Bool(yes) => yes.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        Value::Array(items) if matches!(kind.kind(), PgTypeKind::Array(_)) => array(items)?,
        Value::Array(_) => return Err("an array, which is not what stands there".to_owned()),
        Value::Object(_) => return Err("an object, which is not what stands there".to_owned()),
    }))
}

/// `{"type": "Buffer", "data": […]}`, as we write bytes.
fn of_buffer(value: &Value) -> Option<Vec<u8>> {
    if value.get("type")?.as_str()? != "Buffer" {
        return None;
    }
    let bytes = value.get("data")?.as_array()?.iter();
    bytes
        .map(|byte| byte.as_u64().and_then(|byte| u8::try_from(byte).ok()))
        .collect()
}

/// An array as PostgreSQL writes it: `{"a",NULL,{"b"}}`.
fn array(items: &[Value]) -> Result<String, String> {
    let items = items.iter().map(|item| match item {
        Value::Null => Ok("NULL".to_owned()),
        Value::Array(items) => array(items),
        Value::String(text) => Ok(quoted(text)),
        // Of `jsonb[]`.
        Value::Object(_) => match of_buffer(item) {
            Some(bytes) => Ok(quoted(&format!("\\x{}", hex::encode(bytes)))),
            None => Ok(quoted(&item.to_string())),
        },
        Value::Bool(_) | Value::Number(_) => Ok(quoted(&item.to_string())),
    });
    Ok(format!(
        "{{{}}}",
        items.collect::<Result<Vec<_>, String>>()?.join(",")
    ))
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// What we can write as the server does, without asking it; the server reads it again.
fn direct(oid: u32, text: &str) -> Option<Vec<u8>> {
    match oid {
        // text, varchar, unknown, json: their bytes are their text.
        25 | 1043 | 705 | 114 => Some(text.as_bytes().to_vec()),
        // jsonb, version 1
        3802 => Some([&[1], text.as_bytes()].concat()),
        16 => match text {
            "true" => Some(vec![1]),
            "false" => Some(vec![0]),
            _ => None,
        },
        21 => text.parse::<i16>().ok().map(|n| n.to_be_bytes().to_vec()),
        23 => text.parse::<i32>().ok().map(|n| n.to_be_bytes().to_vec()),
        20 => text.parse::<i64>().ok().map(|n| n.to_be_bytes().to_vec()),
        701 => text.parse::<f64>().ok().map(|n| n.to_be_bytes().to_vec()),
        _ => None,
    }
}

/// Has the server read the text as a value of the type, and say how it sends that.
async fn asked(
    connection: &mut PgConnection,
    oid: u32,
    text: &str,
    number: usize,
) -> Result<Vec<u8>, Failure> {
    const NAMES: &str = "
        SELECT pg_catalog.format_type(t.oid, NULL), pg_catalog.format('%I.%I', n.nspname, p.proname)
        FROM pg_catalog.pg_type AS t
        JOIN pg_catalog.pg_proc AS p ON p.oid = t.typsend
        JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
        WHERE t.oid = $1";

    let names = sqlx::query(NAMES)
        .bind(Oid(oid))
        .persistent(false)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(names) = names else {
        return Err(Failure::Refused(format!(
            "parameter {number} has a type that cannot be sent; cast it in the statement"
        )));
    };
    // Names that the server wrote, quoted as it reads them.
    let (kind, send): (String, String) = (names.try_get(0)?, names.try_get(1)?);
    let statement = format!("SELECT {send}(($1::pg_catalog.text)::{kind})");
    let row = sqlx::query(AssertSqlSafe(statement))
        .bind(text)
        .persistent(false)
        .fetch_one(connection)
        .await
        .map_err(|error| Failure::Parameter(error, number))?;
    Ok(row.try_get(0)?)
}

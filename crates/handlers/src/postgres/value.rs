//! Values: every column is turned into text by the server, in which no type can surprise us,
//! and into JSON here, as the gateway before this one did.

use serde_json::{Map, Number, Value, json};
use sqlx::{
    TypeInfo as _,
    postgres::{PgTypeInfo, PgTypeKind, types::Oid},
};

/// The text that stands for the end of a value that was cut.
const CUT: &str = "… [truncated]";

/// What becomes of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Unique in its answer.
    pub(super) name: String,
    pub(super) oid: u32,
    form: Form,
}

/// What the server's text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `true` or `false`.
    Bool,
    /// A number that JSON can hold without loss; or `NaN` and the infinities, as text.
    Number,
    /// JSON of the agent's own.
    Json,
    /// Text as it is: also of what JavaScript has no number for (`int8`, `numeric`, `money`).
    Text,
    /// Text of a type whose cast to text differs from how it is written.
    Written,
    /// A point in time, in UTC.
    Instant,
    /// A point in time or a day, in no time zone.
    Local,
    Bytes,
    /// Nested JSON arrays whose elements are as JSON has them.
    Array,
    /// As [`Form::Array`], with elements as text.
    TextArray,
    InstantArray,
    BytesArray,
}

impl Column {
    /// Columns with names that are unique: a second `id` is `id_2`.
    pub(super) fn all<'a>(
        described: impl IntoIterator<Item = (&'a str, &'a PgTypeInfo)>,
    ) -> Vec<Self> {
        let mut columns: Vec<Self> = Vec::new();
        for (name, kind) in described {
            let taken = |name: &str| columns.iter().any(|column| column.name == name);
            let mut unique = name.to_owned();
            let mut number = 2;
            while taken(&unique) {
                unique = format!("{name}_{number}");
                number += 1;
            }
            let oid = kind.oid().map_or(0, |Oid(oid)| oid);
            columns.push(Self {
                name: unique,
                oid,
                form: form(oid, kind.kind()),
            });
        }
        columns
    }

    /// `{"name": …, "dataType": …}`.
    pub(super) fn field(&self) -> Value {
        json!({"name": self.name, "dataType": self.oid})
    }

    /// SQL that turns the column, called `name` there, into text.
    pub(super) fn expression(&self, name: &str) -> String {
        match self.form {
            Form::Bool | Form::Number | Form::Json | Form::Text => {
                format!("{name}::pg_catalog.text")
            }
            Form::Written => {
                format!("CASE WHEN {name} IS NOT NULL THEN pg_catalog.format('%s', {name}) END")
            }
            // Without the quotes.
            Form::Instant | Form::Local => format!("pg_catalog.to_json({name}) #>> '{{}}'"),
            Form::Bytes => format!("pg_catalog.encode({name}, 'hex')"),
            Form::Array | Form::InstantArray | Form::BytesArray => {
                format!("pg_catalog.to_json({name})::pg_catalog.text")
            }
            Form::TextArray => {
                format!("pg_catalog.to_json({name}::pg_catalog.text[])::pg_catalog.text")
            }
        }
    }

    /// The value of a text; `cut` if it is only the beginning of it.
    pub(super) fn value(&self, text: Option<String>, cut: bool) -> Value {
        let Some(text) = text else {
            return Value::Null;
        };
        if cut {
            return Value::String(format!("{text}{CUT}"));
        }
        match self.form {
            Form::Bool => Value::Bool(text == "true"),
            Form::Number => number(text),
            Form::Text | Form::Written | Form::Local => Value::String(text),
            Form::Instant => Value::String(instant(&text)),
            Form::Bytes => match hex::decode(&text) {
                Ok(bytes) => buffer(&bytes),
                Err(_) => Value::String(text),
            },
            // JSON may be deeper than anybody should read: then it stays text.
            Form::Json | Form::Array | Form::TextArray => {
                serde_json::from_str(&text).unwrap_or(Value::String(text))
            }
            Form::InstantArray => elements(&text, &|text| Value::String(instant(text))),
            Form::BytesArray => elements(&text, &|text| {
                let digits = text.strip_prefix("\\x").unwrap_or(text);
                hex::decode(digits).map_or_else(|_| Value::from(text), |bytes| buffer(&bytes))
            }),
        }
    }
}

fn form(oid: u32, kind: &PgTypeKind) -> Form {
    match oid {
        16 => Form::Bool,
        // int2, int4, float4, float8, oid
        21 | 23 | 26 | 700 | 701 => Form::Number,
        114 | 3802 => Form::Json,
        // bpchar loses its blanks, inet gets a netmask.
        1042 | 869 => Form::Written,
        1184 => Form::Instant,
        1114 | 1082 => Form::Local,
        17 => Form::Bytes,
        // int8[], numeric[], money[]
        1016 | 1231 | 791 => Form::TextArray,
        1185 => Form::InstantArray,
        1001 => Form::BytesArray,
        // int2vector and oidvector are written `1 2`.
        22 | 30 => Form::Text,
        _ => match kind {
            PgTypeKind::Array(element) if !matches!(element.name(), "INT8" | "NUMERIC") => {
                Form::Array
            }
            PgTypeKind::Array(_) => Form::TextArray,
            _ => Form::Text,
        },
    }
}

fn number(text: String) -> Value {
    if let Ok(whole) = text.parse::<i64>() {
        return Value::from(whole);
    }
    let fraction = text.parse::<f64>().ok().and_then(Number::from_f64);
    fraction.map_or(Value::String(text), Value::Number)
}

/// As JavaScript writes UTC.
fn instant(text: &str) -> String {
    match text.strip_suffix("+00:00") {
        Some(utc) => format!("{utc}Z"),
        None => text.to_owned(),
    }
}

/// As Node.js writes bytes in JSON.
fn buffer(bytes: &[u8]) -> Value {
    json!({"type": "Buffer", "data": bytes})
}

/// Nested arrays, with `change` applied to every text in them.
fn elements(text: &str, change: &dyn Fn(&str) -> Value) -> Value {
    fn changed(value: Value, change: &dyn Fn(&str) -> Value) -> Value {
        match value {
            Value::Array(items) => items
                .into_iter()
                .map(|item| changed(item, change))
                .collect(),
            Value::String(text) => change(&text),
            other => other,
        }
    }
    match serde_json::from_str(text) {
        Ok(value) => changed(value, change),
        Err(_) => Value::String(text.to_owned()),
    }
}

/// One row, by the names of its columns.
pub(super) fn row(columns: &[Column], texts: Vec<Option<String>>, cut: &[Option<bool>]) -> Value {
    let cut = |index: usize| cut.get(index).copied().flatten().unwrap_or(false);
    let fields = columns.iter().zip(texts).enumerate();
    let fields: Map<String, Value> = fields
        .map(|(index, (column, text))| (column.name.clone(), column.value(text, cut(index))))
        .collect();
    Value::Object(fields)
}

//! How types that are written as text describe themselves in the API's document.

use utoipa::openapi::{Object, RefOr, Schema, SchemaFormat, schema::Type};

/// A text of the form `pattern`, a regular expression of ECMA 262.
pub(crate) fn text(description: &str, pattern: &str) -> RefOr<Schema> {
    Object::builder()
        .schema_type(Type::String)
        .description(Some(description))
        .pattern(Some(pattern))
        .into()
}

/// A text in a format that JSON Schema knows.
pub(crate) fn formatted(description: &str, format: &str) -> RefOr<Schema> {
    Object::builder()
        .schema_type(Type::String)
        .description(Some(description))
        .format(Some(SchemaFormat::Custom(format.to_owned())))
        .into()
}

/// Implements `ToSchema` for types by functions of this module.
macro_rules! described {
    ($($name:ty => $schema:expr;)+) => {$(
        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
                $schema
            }
        }

        impl utoipa::ToSchema for $name {}
    )+};
}

pub(crate) use described;

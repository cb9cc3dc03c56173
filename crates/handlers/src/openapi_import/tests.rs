use serde_json::json;

use super::*;

fn document(paths: Value) -> Value {
    json!({
        "openapi": "3.1.0", "info": {"title": "Pet Store", "version": "2"},
        "servers": [{"url": "https://pets.example.com/v1"}],
        "paths": paths,
    })
}

fn imported(document: &Value) -> Imported {
    import(&document.to_string(), &Options::default()).unwrap()
}

fn refused(text: &str) -> String {
    import(text, &Options::default()).unwrap_err().to_string()
}

fn table(imported: &Imported) -> Value {
    let table: toml::Table = toml::from_str(&imported.text).unwrap();
    serde_json::to_value(table).unwrap()
}

/// The one command of a document with one operation.
fn command(method: &str, path: &str, operation: Value) -> Value {
    let imported = imported(&document(json!({path: {method: operation}})));
    table(&imported)["commands"][0].clone()
}

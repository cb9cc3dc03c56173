//! Preview: what a command would send, with every secret masked.

use serde::Serialize;
use serde_json::Value;

/// What a command would send, as people may see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Preview {
    /// Of kind `http`.
    Request(HttpRequest),
    /// Of kind `s3`.
    Object(ObjectRequest),
    /// Of kind `postgres`.
    Statements(Statements),
}

/// A request of HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HttpRequest {
    /// `GET`.
    pub method: String,
    /// Where it goes, with the query.
    pub url: String,
    /// In the order in which they are set; those with credentials are masked.
    pub headers: Vec<(String, String)>,
    /// As it would be sent, but for secret arguments.
    pub body: Option<String>,
}

/// A request about an object, or about what begins with a key. Its signature is left out: it
/// is made as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ObjectRequest {
    /// `GET`.
    pub method: String,
    /// The bucket, as the server calls it.
    pub bucket: String,
    /// The key as the server has it, below the bucket's prefix for agents.
    pub key: String,
    /// Where it goes, with the query.
    pub url: String,
    /// Those that say what is asked for.
    pub headers: Vec<(String, String)>,
}

/// Statements for a database, in one transaction.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Statements {
    /// The database, by the description's name.
    pub database: String,
    /// `role@host:port/name`; none when it is not configured.
    pub address: Option<String>,
    /// `READ ONLY`, which is always rolled back, or `READ WRITE`.
    pub transaction: &'static str,
    /// In the order in which they are carried out.
    pub statements: Vec<String>,
    /// `$1`, `$2` and so on.
    pub parameters: Vec<Value>,
    /// How many rows an answer has at most.
    pub max_rows: u64,
}

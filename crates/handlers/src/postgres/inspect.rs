//! What a database tells of itself. Statements of ours alone; what an agent names is a
//! parameter of theirs.

use serde_json::{Map, Value, json};
use sqlx::{PgConnection, Row as _};

use super::failure::Failure;

const TABLES: &str = "
SELECT pg_catalog.json_build_object(
    'schema', schemaname, 'name', tablename, 'fullName', schemaname || '.' || tablename,
    'owner', tableowner,
    'features', pg_catalog.json_build_object('indexes', hasindexes, 'rules', hasrules, 'triggers', hastriggers))
FROM pg_catalog.pg_tables
WHERE schemaname NOT IN ('pg_catalog', 'information_schema') AND schemaname NOT LIKE 'pg\\_t%'
ORDER BY schemaname, tablename
LIMIT $1";

/// The tables of all schemas but the server's own.
pub(super) async fn list_tables(
    connection: &mut PgConnection,
    database: &str,
    limit: usize,
) -> Result<Map<String, Value>, Failure> {
    let more = i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1);
    let rows = sqlx::query(TABLES)
        .bind(more)
        .persistent(false)
        .fetch_all(connection)
        .await?;
    let mut tables = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<Vec<Value>, _>>()?;
    let truncated = tables.len() > limit;
    tables.truncate(limit);
    let mut data = object(json!({
        "database": database, "tableCount": tables.len(), "tables": tables,
    }));
    if truncated {
        data.insert("truncated".to_owned(), Value::Bool(true));
    }
    Ok(data)
}

/// By its exact name (one that the search path finds, or `schema.table`), or as SQL reads it.
const TABLE: &str = "
SELECT c.oid, pg_catalog.json_build_object(
    'schema', n.nspname, 'name', c.relname, 'fullName', n.nspname || '.' || c.relname)
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND (
    (c.relname = $1 AND (pg_catalog.pg_table_is_visible(c.oid) OR n.nspname = 'public'))
    OR n.nspname || '.' || c.relname = $1)
ORDER BY pg_catalog.pg_table_is_visible(c.oid) DESC, n.nspname
LIMIT 1";

const COLUMNS: &str = "
SELECT pg_catalog.json_build_object(
    'name', a.attname, 'type', pg_catalog.format_type(a.atttypid, a.atttypmod),
    'nullable', NOT a.attnotnull, 'default', pg_catalog.pg_get_expr(d.adbin, d.adrelid),
    'position', a.attnum,
    'constraints', ARRAY(
        SELECT CASE k.contype WHEN 'p' THEN 'PRIMARY KEY' WHEN 'u' THEN 'UNIQUE' WHEN 'f' THEN 'FOREIGN KEY'
               WHEN 'c' THEN 'CHECK' WHEN 'x' THEN 'EXCLUDE' ELSE 'NOT NULL' END
        FROM pg_catalog.pg_constraint AS k
        WHERE k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey)
        ORDER BY k.contype, k.conname),
    'references', ARRAY(
        SELECT pg_catalog.pg_get_constraintdef(k.oid)
        FROM pg_catalog.pg_constraint AS k
        WHERE k.conrelid = a.attrelid AND a.attnum = ANY (k.conkey) AND k.contype = 'f'
        ORDER BY k.conname))
FROM pg_catalog.pg_attribute AS a
LEFT JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum";

const INDEXES: &str = "
SELECT pg_catalog.json_build_object(
    'name', c.relname, 'definition', pg_catalog.pg_get_indexdef(i.indexrelid),
    'unique', i.indisunique, 'primary', i.indisprimary)
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
WHERE i.indrelid = $1
ORDER BY c.relname";

/// Bytes and rows are `int8`, and so texts; the number of rows is the server's estimate.
const SIZES: &str = "
SELECT pg_catalog.json_build_object(
    'row_count', GREATEST(c.reltuples, 0)::pg_catalog.int8::pg_catalog.text,
    'total_size', pg_catalog.pg_total_relation_size(c.oid)::pg_catalog.text,
    'table_size', pg_catalog.pg_relation_size(c.oid)::pg_catalog.text,
    'indexes_size', pg_catalog.pg_indexes_size(c.oid)::pg_catalog.text)
FROM pg_catalog.pg_class AS c
WHERE c.oid = $1";

/// One table or view: its columns, indexes and size.
pub(super) async fn describe_table(
    connection: &mut PgConnection,
    named: &str,
) -> Result<Map<String, Value>, Failure> {
    if named.contains('\0') {
        return Err(Failure::Refused("a name holds no NUL".to_owned()));
    }
    let found = sqlx::query(TABLE)
        .bind(named)
        .persistent(false)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(found) = found else {
        let shown: String = named
            .chars()
            .take(128)
            .flat_map(char::escape_default)
            .collect();
        return Err(Failure::NotFound(format!("there is no table `{shown}`")));
    };
    let (oid, table): (sqlx::postgres::types::Oid, Value) = (found.try_get(0)?, found.try_get(1)?);
    let mut lists = Vec::new();
    for statement in [COLUMNS, INDEXES, SIZES] {
        let rows = sqlx::query(statement)
            .bind(oid)
            .persistent(false)
            .fetch_all(&mut *connection)
            .await?;
        let rows = rows.iter().map(|row| row.try_get(0));
        lists.push(rows.collect::<Result<Vec<Value>, _>>()?);
    }
    let mut lists = lists.into_iter();
    let mut next = || lists.next().unwrap_or_default();
    let (columns, indexes, sizes) = (next(), next(), next());
    Ok(object(json!({
        "table": table, "columns": columns, "indexes": indexes,
        "statistics": sizes.into_iter().next(),
    })))
}

const DATABASE: &str = "
SELECT pg_catalog.json_build_object(
    'name', d.datname, 'size_bytes', pg_catalog.pg_database_size(d.oid)::pg_catalog.text,
    'size_pretty', pg_catalog.pg_size_pretty(pg_catalog.pg_database_size(d.oid)),
    'version', pg_catalog.version())
FROM pg_catalog.pg_database AS d
WHERE d.datname = pg_catalog.current_database()";

const SCHEMAS: &str = "
SELECT pg_catalog.json_build_object(
           'schema_name', n.nspname, 'schema_owner', pg_catalog.pg_get_userbyid(n.nspowner),
           'table_count', tables::pg_catalog.text, 'view_count', views::pg_catalog.text),
       tables, views
FROM pg_catalog.pg_namespace AS n, LATERAL (
    SELECT pg_catalog.count(*) FILTER (WHERE c.relkind IN ('r', 'p')) AS tables,
           pg_catalog.count(*) FILTER (WHERE c.relkind IN ('v', 'm')) AS views
    FROM pg_catalog.pg_class AS c WHERE c.relnamespace = n.oid) AS counted
WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_t%'
ORDER BY n.nspname";

/// The database and its schemas.
pub(super) async fn schema_info(
    connection: &mut PgConnection,
) -> Result<Map<String, Value>, Failure> {
    let database: Value = sqlx::query(DATABASE)
        .persistent(false)
        .fetch_one(&mut *connection)
        .await?
        .try_get(0)?;
    let rows = sqlx::query(SCHEMAS)
        .persistent(false)
        .fetch_all(connection)
        .await?;
    let (mut schemas, mut all_tables, mut all_views) = (Vec::<Value>::new(), 0_i64, 0_i64);
    for row in &rows {
        schemas.push(row.try_get(0)?);
        all_tables += row.try_get::<i64, _>(1)?;
        all_views += row.try_get::<i64, _>(2)?;
    }
    Ok(object(json!({
        "database": database,
        "summary": {
            "totalSchemas": schemas.len(), "totalTables": all_tables, "totalViews": all_views,
        },
        "schemas": schemas,
    })))
}

/// What a role may not see of others' sessions is `null`.
const CONNECTIONS: &str = "
SELECT pg_catalog.json_build_object(
    'pid', pid, 'usename', usename, 'application_name', application_name,
    'client_addr', pg_catalog.host(client_addr), 'state', state,
    'query_start', query_start, 'state_change', state_change)
FROM pg_catalog.pg_stat_activity
WHERE datname = pg_catalog.current_database()
ORDER BY pid
LIMIT 1000";

/// Everybody's connections to the database. `pool` is the gateway's own part.
pub(super) async fn connection_stats(
    connection: &mut PgConnection,
    database: &str,
    pool: Value,
) -> Result<Map<String, Value>, Failure> {
    let rows = sqlx::query(CONNECTIONS)
        .persistent(false)
        .fetch_all(connection)
        .await?;
    let active = rows
        .iter()
        .map(|row| row.try_get(0))
        .collect::<Result<Vec<Value>, _>>()?;
    Ok(object(json!({
        "database": database, "pool": pool, "activeConnections": active,
    })))
}

const TEST: &str = "SELECT pg_catalog.to_json(pg_catalog.clock_timestamp()), pg_catalog.version()";

/// The statements of one command.
pub(super) fn statements(command: &str) -> &'static [&'static str] {
    match command {
        "list-tables" => &[TABLES],
        "describe-table" => &[TABLE, COLUMNS, INDEXES, SIZES],
        "schema-info" => &[DATABASE, SCHEMAS],
        "connection-stats" => &[CONNECTIONS],
        "test" => &[TEST],
        _ => &[],
    }
}

/// Whether it answers, and what it is.
pub(super) async fn test(
    connection: &mut PgConnection,
    database: &str,
    began: tokio::time::Instant,
) -> Result<Map<String, Value>, Failure> {
    let row = sqlx::query(TEST)
        .persistent(false)
        .fetch_one(connection)
        .await?;
    let (time, version): (Value, String) = (row.try_get(0)?, row.try_get(1)?);
    Ok(object(json!({
        "status": "connected", "database": database,
        "latency": format!("{}ms", began.elapsed().as_millis()),
        "serverTime": time, "version": version,
    })))
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

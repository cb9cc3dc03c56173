//! Roles: what the role of a connection may do. One that could get round the READ ONLY
//! transaction is not used at all.

use sqlx::{PgConnection, Row as _};

use super::{address::Role, failure::Failure};

/// What the role is, and what it may become, and what it may call.
///
/// In every name the schema is said, as the role's search path may begin with any.
const RIGHTS: &str = "
WITH reach AS (
    SELECT r.* FROM pg_catalog.pg_roles AS r
    WHERE pg_catalog.pg_has_role(CURRENT_USER, r.oid, 'MEMBER')
), callable AS (
    SELECT p.oid, p.proname, n.nspname, p.prosecdef, p.provolatile, p.proowner, l.lanpltrusted, l.lanname
    FROM pg_catalog.pg_proc AS p
    JOIN pg_catalog.pg_namespace AS n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_language AS l ON l.oid = p.prolang
    WHERE (p.proname LIKE 'dblink%' OR n.nspname NOT IN ('pg_catalog', 'information_schema')
           OR p.proname IN (
               'lo_import', 'lo_export', 'pg_read_file', 'pg_read_binary_file', 'pg_ls_dir',
               'pg_stat_file', 'pg_file_write', 'pg_file_sync', 'pg_file_rename', 'pg_file_unlink',
               'pg_reload_conf', 'pg_rotate_logfile', 'pg_switch_wal', 'pg_create_restore_point',
               'pg_promote', 'pg_terminate_backend', 'pg_cancel_backend'))
      AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
      AND pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
)
SELECT
    ARRAY(
        SELECT CASE WHEN rolname = CURRENT_USER THEN what ELSE what || ' as `' || rolname || '`' END
        FROM reach, LATERAL (VALUES
            (rolsuper, 'it is a superuser'),
            (rolcreaterole AND NOT rolsuper, 'it may create roles'),
            (rolreplication AND NOT rolsuper, 'it may replicate'),
            (rolname IN ('pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program',
                         'pg_signal_backend', 'pg_create_subscription'), 'it belongs to a role of the server''s')
        ) AS dangers(present, what)
        WHERE present
        ORDER BY rolsuper DESC, 1 LIMIT 4
    )::pg_catalog.text[],
    ARRAY(
        SELECT DISTINCT 'it may call `' || nspname || '.' || proname || '`' FROM callable
        WHERE proname NOT IN ('pg_terminate_backend', 'pg_cancel_backend')
          AND (nspname = 'pg_catalog' OR proname LIKE 'dblink%' OR proname LIKE 'pg_file_%')
        ORDER BY 1 LIMIT 4
    )::pg_catalog.text[],
    ARRAY(
        SELECT DISTINCT what FROM (
            SELECT 'it may end other agents'' commands (pg_terminate_backend, pg_cancel_backend)'
            FROM callable WHERE nspname = 'pg_catalog' AND proname IN ('pg_terminate_backend', 'pg_cancel_backend')
            UNION ALL
            SELECT '`' || nspname || '.' || proname || '` acts as its owner, who may do more'
            FROM callable JOIN pg_catalog.pg_roles AS o ON o.oid = proowner
            WHERE prosecdef AND provolatile = 'v' AND nspname <> 'pg_catalog'
              AND NOT pg_catalog.pg_has_role(CURRENT_USER, o.oid, 'MEMBER')
            UNION ALL
            SELECT '`' || nspname || '.' || proname || '` is in the untrusted language ' || lanname
            FROM callable
            WHERE NOT lanpltrusted AND lanname NOT IN ('internal', 'c')
            UNION ALL
            SELECT 'it sees rows whatever row security says' FROM reach WHERE rolbypassrls AND NOT rolsuper
        ) AS warnings(what)
        ORDER BY 1 LIMIT 8
    )::pg_catalog.text[],
    ARRAY(
        SELECT DISTINCT what FROM (
            SELECT 'only the READ ONLY transaction keeps it from writing to `' || n.nspname || '.' || c.relname || '`'
            FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
            WHERE c.relkind IN ('r', 'p', 'f', 'v') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
              AND n.nspname NOT LIKE 'pg\\_%'
              AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
              AND (pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                   OR pg_catalog.has_any_column_privilege(c.oid, 'INSERT, UPDATE'))
            UNION ALL
            SELECT 'it may create tables in schema `' || nspname || '`' FROM pg_catalog.pg_namespace
            WHERE nspname NOT LIKE 'pg\\_%' AND pg_catalog.has_schema_privilege(oid, 'CREATE')
            UNION ALL
            SELECT 'it belongs to `' || rolname || '`' FROM reach WHERE rolname = 'pg_write_all_data'
        ) AS writes(what)
        ORDER BY 1 LIMIT 8
    )::pg_catalog.text[]";

/// What is worth telling of a role that may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Remarks(pub(super) Vec<String>);

/// Looks at what the role of a connection may do.
///
/// # Errors
///
/// [`Failure::Role`] when it may do so much that reading alone is not certain.
pub(super) async fn check(connection: &mut PgConnection, role: Role) -> Result<Remarks, Failure> {
    let row = sqlx::query(RIGHTS)
        .persistent(false)
        .fetch_one(connection)
        .await?;
    let list = |index: usize| row.try_get::<Vec<String>, _>(index);
    let (is, calls, remarks, writes) = (list(0)?, list(1)?, list(2)?, list(3)?);
    let mut dangers: Vec<String> = is.into_iter().chain(calls).collect();
    if dangers
        .first()
        .is_some_and(|danger| danger.contains("superuser"))
    {
        // Which says it all.
        dangers.truncate(1);
    }
    if !dangers.is_empty() {
        return Err(Failure::Role(format!(
            "its role may do too much: {}; docs/postgres.md has the SQL for one that may not",
            dangers.join(", ")
        )));
    }
    Ok(Remarks(match role {
        Role::Reader => remarks.into_iter().chain(writes).collect(),
        Role::Writer => remarks,
    }))
}

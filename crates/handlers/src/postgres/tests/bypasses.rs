//! Ways round the guard of the gateway before this one, and every other that we know. The role
//! may write here, so that nothing but what we do stands before the data.

use super::*;

/// What must be the same before and after.
const STATE: &str = "
    SELECT concat_ws('|',
        (SELECT string_agg(u::text, ',' ORDER BY id) FROM users u),
        (SELECT string_agg(o::text, ',' ORDER BY id) FROM orders o),
        (SELECT string_agg(c.oid || c.relname, ',' ORDER BY c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
         WHERE n.nspname IN ('public', 'hidden')),
        (SELECT string_agg(nspname, ',' ORDER BY nspname) FROM pg_namespace WHERE nspname NOT LIKE 'pg_t%'),
        (SELECT count(*) FROM pg_largeobject_metadata),
        (SELECT count(*) FROM pg_proc), (SELECT count(*) FROM pg_description WHERE classoid = 'pg_class'::regclass AND objoid = 'users'::regclass),
        (SELECT relacl FROM pg_class WHERE oid = 'users'::regclass),
        (SELECT last_value || ' ' || is_called FROM ticket),
        (SELECT count(*) FROM pg_prepared_xacts), (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid = pg_backend_pid()),
        (SELECT string_agg(rolname || rolsuper || rolcanlogin, ',' ORDER BY rolname) FROM pg_roles WHERE rolname LIKE '%' || current_database()))";

/// No one of them is a single SELECT.
const NOT_A_SELECT: &[&str] = &[
    // What the guard before let through.
    "SELECT * INTO copied FROM users; SELECT 1",
    "GRANT ALL ON users TO PUBLIC",
    "COPY users TO PROGRAM 'touch /tmp/cedargate-was-here'",
    "CALL committed()",
    "DO $$ BEGIN EXECUTE 'DEL' || 'ETE FROM users'; END $$",
    "SET default_transaction_read_only = off",
    // Several statements.
    "SELECT 1; DROP TABLE users",
    "COMMIT; DROP TABLE users",
    "ROLLBACK; DELETE FROM users",
    "SELECT 1;; DELETE FROM users;",
    "SET TRANSACTION READ WRITE; DELETE FROM users",
    "BEGIN; DELETE FROM users; COMMIT",
    "SELECT 1\n;\nDELETE FROM users",
    "SELECT 1 /* ; */ ; DELETE FROM users",
    "SELECT 1) AS q(c1) LIMIT 1) AS r OFFSET 0) AS s; DELETE FROM users; --",
    "SELECT 1) AS q(c1); DROP TABLE users; SELECT (1",
    "SELECT 1) UNION (SELECT 2",
    "SELECT 1) --",
    "1), (DELETE FROM users RETURNING 1",
    // Transactions.
    "COMMIT",
    "ROLLBACK",
    "END",
    "ABORT",
    "BEGIN",
    "START TRANSACTION READ WRITE",
    "SAVEPOINT a",
    "SET TRANSACTION READ WRITE",
    "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
    "PREPARE TRANSACTION 'a'",
    "COMMIT PREPARED 'a'",
    "COMMIT AND CHAIN",
    // Changes.
    "INSERT INTO users (name) VALUES ('x')",
    "INSERT INTO users (name) VALUES ('x') RETURNING *",
    "UPDATE users SET name = 'x' RETURNING *",
    "DELETE FROM users RETURNING *",
    "TRUNCATE users",
    "MERGE INTO users USING orders ON false WHEN NOT MATCHED THEN INSERT (name) VALUES ('x')",
    "SELECT * INTO copied FROM users",
    "SELECT * INTO TEMP copied FROM users",
    "CREATE TABLE copied AS SELECT * FROM users",
    "CREATE TEMP TABLE t (a int)",
    "CREATE VIEW v AS SELECT 1",
    "DROP TABLE users",
    "ALTER TABLE users ADD x int",
    "COMMENT ON TABLE users IS 'x'",
    "CREATE SCHEMA s",
    "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "CREATE EXTENSION dblink",
    "REINDEX TABLE users",
    "VACUUM users",
    "ANALYZE users",
    "CLUSTER",
    "REFRESH MATERIALIZED VIEW rich",
    "SECURITY LABEL ON TABLE users IS 'x'",
    "IMPORT FOREIGN SCHEMA s FROM SERVER x INTO public",
    "CREATE PUBLICATION p",
    "CHECKPOINT",
    "CREATE RULE r AS ON SELECT TO users DO INSTEAD SELECT 1",
    "LOCK TABLE users",
    // In a SELECT, but where changes may not stand.
    "WITH gone AS (DELETE FROM users RETURNING *) SELECT * FROM gone",
    "WITH a AS (INSERT INTO users (name) VALUES ('x') RETURNING id) SELECT * FROM a",
    "SELECT * FROM (DELETE FROM users RETURNING *) x",
    "SELECT (UPDATE users SET name = 'x' RETURNING 1)",
    // EXPLAIN carries out what it analyzes.
    "EXPLAIN ANALYZE INSERT INTO users (name) VALUES ('x')",
    "EXPLAIN (ANALYZE) DELETE FROM users",
    "EXPLAIN SELECT 1",
    // Files and programs.
    "COPY users TO STDOUT",
    "COPY users FROM STDIN",
    "COPY users FROM PROGRAM 'echo 1'",
    "COPY users FROM '/etc/passwd'",
    "COPY (SELECT 1) TO '/tmp/x'",
    "LOAD 'auto_explain'",
    // Sessions.
    "SET ROLE postgres",
    "SET SESSION AUTHORIZATION postgres",
    "RESET ALL",
    "RESET ROLE",
    "DISCARD ALL",
    "SHOW ALL",
    "SET statement_timeout = 0",
    "SET LOCAL statement_timeout = 0",
    "LISTEN a",
    "NOTIFY a, 'x'",
    "UNLISTEN *",
    "PREPARE p AS DELETE FROM users",
    "EXECUTE p",
    "DEALLOCATE ALL",
    "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
    "FETCH ALL FROM c",
    "MOVE c",
    "CLOSE ALL",
    "DO LANGUAGE plpgsql 'BEGIN PERFORM 1; END'",
    // Not quite empty.
    "",
    ";",
    "--",
    "/* */",
];

/// SELECTs whose functions want more than reading.
const REFUSED: &[(&str, &str)] = &[
    ("SELECT sneak()", "read-only transaction"),
    ("SELECT lift()", "read-write mode must be set"),
    (
        "SELECT lift() FROM set_config('transaction_read_only', 'off', true)",
        "transaction",
    ),
    ("SELECT turned()", "transaction"),
    (
        "SELECT set_config('transaction_read_only', 'off', false)",
        "read-write mode",
    ),
    (
        "SELECT set_config('transaction_read_only', 'off', true), sneak()",
        "read-write mode",
    ),
    (
        "SELECT sneak() FROM (SELECT set_config('default_transaction_read_only', 'off', false) OFFSET 0) a",
        "read-only transaction",
    ),
    ("SELECT nextval('ticket')", "read-only transaction"),
    ("SELECT setval('ticket', 9)", "read-only transaction"),
    ("SELECT * FROM users FOR UPDATE", "read-only transaction"),
    ("SELECT * FROM users FOR SHARE", "read-only transaction"),
    ("SELECT pg_read_file('/etc/passwd')", "permission denied"),
    (
        "SELECT pg_read_binary_file('/etc/passwd')",
        "permission denied",
    ),
    ("SELECT pg_ls_dir('/')", "permission denied"),
    ("SELECT pg_stat_file('/etc/passwd')", "permission denied"),
    ("SELECT lo_import('/etc/passwd')", "permission denied"),
    ("SELECT lo_export(1, '/tmp/x')", "permission denied"),
    ("SELECT pg_terminate_backend(1)", "permission denied"),
    ("SELECT pg_cancel_backend(1)", "permission denied"),
    ("SELECT pg_reload_conf()", "permission denied"),
    ("SELECT pg_rotate_logfile()", "permission denied"),
    ("SELECT pg_switch_wal()", "permission denied"),
    ("SELECT pg_create_restore_point('x')", "permission denied"),
    ("SELECT pg_stat_reset()", "permission denied"),
    (
        "SELECT dblink_exec('dbname=x', 'DELETE FROM users')",
        "does not exist",
    ),
    (
        "SELECT dblink('dbname=x', 'DELETE FROM users')",
        "does not exist",
    ),
    (
        "SELECT set_config('role', 'postgres', false)",
        "permission denied",
    ),
    (
        "SELECT set_config('session_authorization', 'postgres', false)",
        "permission denied",
    ),
    (
        "SELECT set_config('log_statement', 'all', false)",
        "permission denied",
    ),
    (
        "SELECT set_config('session_preload_libraries', 'x', false)",
        "permission denied",
    ),
    (
        "SELECT query_to_xml('DELETE FROM users', true, true, '')",
        "DELETE is not allowed",
    ),
    (
        "SELECT query_to_xml('COPY users TO PROGRAM ''true''', true, true, '')",
        "COPY",
    ),
    ("SELECT * FROM hidden.secrets", "permission denied"),
    ("SELECT * FROM pg_authid", "permission denied"),
    ("SELECT passwd FROM pg_shadow", "permission denied"),
];

/// What is carried out and must leave nothing.
const WITHOUT_TRACE: &[&str] = &[
    "SELECT set_config('default_transaction_read_only', 'off', false)",
    "SELECT set_config('statement_timeout', '0', false), set_config('idle_in_transaction_session_timeout', '0', false)",
    "SELECT set_config('search_path', 'hidden', false), set_config('application_name', 'somebody else', false)",
    "SELECT set_config('my.secret', 'left behind', false), set_config('TimeZone', 'Asia/Tokyo', false)",
    "SELECT set_config('bytea_output', 'escape', false), set_config('DateStyle', 'SQL, DMY', false)",
    "SELECT pg_advisory_lock(42), pg_advisory_lock_shared(43), pg_advisory_xact_lock(44)",
    "SELECT pg_notify('channel', 'x')",
    "SELECT lo_create(0), lo_from_bytea(0, '\\x01')",
    "SELECT txid_current(), pg_export_snapshot()",
    "SELECT pg_logical_emit_message(true, 'a', 'b')",
];

#[tokio::test]
async fn no_way_round_reading_is_left() {
    let mut world = World::new().await;
    let before = world.see(STATE).await;
    for sql in NOT_A_SELECT {
        let error = world.query(sql, json!([])).await.expect_err(sql);
        let (status, message) = rejected(&error);
        assert_eq!(status, 400, "{sql}: {message}");
        // `explain` takes more, and carries nothing out either.
        let arguments = json!({"database": "shop", "sql": sql});
        if let Ok(Parsed::Command(command)) =
            world.catalog.command("postgres", "explain", arguments)
        {
            let _ = world.catalog.carry_out(&command).await;
        }
        assert_eq!(world.see(STATE).await, before, "{sql}");
    }
    for (sql, expected) in REFUSED {
        let error = world.query(sql, json!([])).await.expect_err(sql);
        assert!(rejected(&error).1.contains(expected), "{sql}: {error}");
        assert_eq!(world.see(STATE).await, before, "{sql}");
    }
    assert!(!std::path::Path::new("/tmp/cedargate-was-here").exists());
    world.end().await;
}

#[tokio::test]
async fn the_next_caller_finds_nothing_of_the_last() {
    let mut world = World::new().await;
    world.run("CREATE TABLE heard (a int)").await;
    let before = world.see(STATE).await;
    let settings = "SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings WHERE source <> 'override'";
    let fresh = world.value(settings).await;
    let pid = world.value("SELECT pg_backend_pid()").await;
    for sql in WITHOUT_TRACE {
        // Whether or not this version of the server allows it.
        let _ = world.query(sql, json!([])).await;
        assert_eq!(world.value(settings).await, fresh, "{sql}");
        // The name of a setting stays known, its value does not.
        let secret = "SELECT COALESCE(current_setting('my.secret', true), '')";
        assert_eq!(world.value(secret).await, json!(""));
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        assert_eq!(world.see(locks).await, "0", "{sql}");
        let left = world.value("SELECT (SELECT count(*) FROM pg_prepared_statements) + (SELECT count(*) FROM pg_cursors WHERE name <> '') + (SELECT count(*) FROM pg_listening_channels())").await;
        // The statement that looks is prepared itself.
        assert!(left == json!("0") || left == json!("1"), "{sql}: {left}");
        assert_eq!(world.see(STATE).await, before, "{sql}");
    }
    assert_eq!(
        world.value("SELECT pg_backend_pid()").await,
        pid,
        "the same connection all along"
    );
    let limits = world.value(
        "SELECT concat_ws(' ', current_setting('transaction_read_only'), current_setting('default_transaction_read_only'), current_setting('statement_timeout'),
         current_setting('lock_timeout'), current_setting('client_connection_check_interval'), current_setting('TimeZone'))",
    ).await;
    assert_eq!(limits, json!("on on 4s 300ms 500ms UTC"));
    world.end().await;
}

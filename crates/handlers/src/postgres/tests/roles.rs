//! Roles that may do too much are not used.

use super::*;
use crate::catalog::State;

#[tokio::test]
async fn a_role_that_may_do_too_much_is_refused() {
    let mut world = World::bare().await;
    let name = world.role("reader");
    world.run(&format!("CREATE ROLE {name} LOGIN")).await;
    let cases = [
        (
            format!("ALTER ROLE {name} SUPERUSER"),
            format!("ALTER ROLE {name} NOSUPERUSER"),
            "it is a superuser",
        ),
        (
            format!("ALTER ROLE {name} CREATEROLE"),
            format!("ALTER ROLE {name} NOCREATEROLE"),
            "it may create roles",
        ),
        (
            format!("ALTER ROLE {name} REPLICATION"),
            format!("ALTER ROLE {name} NOREPLICATION"),
            "it may replicate",
        ),
        (
            format!("GRANT postgres TO {name}"),
            format!("REVOKE postgres FROM {name}"),
            "it is a superuser as `postgres`",
        ),
        (
            format!("GRANT pg_execute_server_program TO {name}"),
            format!("REVOKE pg_execute_server_program FROM {name}"),
            "`pg_execute_server_program`",
        ),
        (
            format!("GRANT pg_read_server_files TO {name}"),
            format!("REVOKE pg_read_server_files FROM {name}"),
            "`pg_read_server_files`",
        ),
        (
            format!("GRANT pg_write_server_files TO {name}"),
            format!("REVOKE pg_write_server_files FROM {name}"),
            "`pg_write_server_files`",
        ),
        (
            format!("GRANT EXECUTE ON FUNCTION pg_read_file(text) TO {name}"),
            format!("REVOKE EXECUTE ON FUNCTION pg_read_file(text) FROM {name}"),
            "`pg_catalog.pg_read_file`",
        ),
        (
            format!("GRANT EXECUTE ON FUNCTION lo_export(oid, text) TO {name}"),
            format!("REVOKE EXECUTE ON FUNCTION lo_export(oid, text) FROM {name}"),
            "`pg_catalog.lo_export`",
        ),
        (
            "CREATE FUNCTION dblink_exec(text) RETURNS text LANGUAGE sql AS 'SELECT $1'".to_owned(),
            "DROP FUNCTION dblink_exec".to_owned(),
            "`public.dblink_exec`",
        ),
    ];
    world.catalog = world.catalog_as(&name, None);
    for (give, take, expected) in cases {
        world.run(&give).await;
        let error = world.ask("/mcp-postgres test").await.expect_err(&give);
        let HandlerError::NotConfigured { reason, .. } = &error else {
            panic!("{give}: {error:?}")
        };
        assert!(
            reason.contains(expected) && reason.contains("docs/postgres.md"),
            "{give}: {reason}"
        );
        let service = world.catalog.service("postgres").unwrap();
        assert_eq!(service.status, "error");
        assert!(service.error_message.as_ref().unwrap().contains(expected));
        let condition = condition(&world.catalog);
        assert_eq!(condition.state, State::Unconfigured);
        assert!(condition.reason.unwrap().contains(expected));
        world.run(&take).await;
        world
            .ask("/mcp-postgres test")
            .await
            .unwrap_or_else(|error| panic!("{take}: {error}"));
        assert_eq!(world.catalog.service("postgres").unwrap().status, "active");
        // So that the next is looked at anew.
        world.catalog = world.catalog_as(&name, None);
    }
    world.end().await;
}

#[tokio::test]
async fn the_documented_role_needs_no_remark() {
    let mut world = World::bare().await;
    let (reader, writer) = (world.role("reader"), world.role("writer"));
    let documented = documented_sql()
        .replace("cedargate_reader", &reader)
        .replace("cedargate_writer", &writer)
        .replace("shop_owner", "CURRENT_USER")
        .replace("DATABASE shop", &format!("DATABASE {}", world.database));
    world.run(&documented).await;
    let mut connection = PgConnection::connect(&world.url(&reader, PASSWORD))
        .await
        .unwrap();
    let role = super::super::address::Role::Reader;
    let remarks = super::super::role::check(&mut connection, role)
        .await
        .unwrap();
    assert_eq!(remarks.0, Vec::<String>::new());
    world
        .run(&format!(
            "GRANT INSERT ON users TO {reader}; GRANT CREATE ON SCHEMA public TO {reader}; ALTER ROLE {reader} BYPASSRLS;
             GRANT EXECUTE ON FUNCTION pg_cancel_backend(int) TO {reader};
             CREATE FUNCTION mighty() RETURNS int LANGUAGE sql VOLATILE SECURITY DEFINER AS 'SELECT 1'"
        ))
        .await;
    let remarks = super::super::role::check(&mut connection, role)
        .await
        .unwrap()
        .0
        .join("\n");
    for expected in [
        "`public.users`",
        "schema `public`",
        "row security",
        "pg_cancel_backend",
        "`public.mighty` acts as its owner",
    ] {
        assert!(remarks.contains(expected), "{expected}: {remarks}");
    }
    drop(connection);
    world.end().await;
}

//! Values there and back.

use proptest::{prelude::*, test_runner::TestRunner};

use super::*;

#[tokio::test]
async fn values_are_json_as_they_always_were() {
    let mut world = World::new().await;
    world
        .run(
            "CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, b text);
              CREATE DOMAIN positive AS int CHECK (VALUE > 0)",
        )
        .await;
    let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
    let cases = [
        ("NULL", Value::Null),
        ("true", json!(true)),
        ("7::int2", json!(7)),
        ("-7", json!(-7)),
        ("9007199254740993::int8", json!("9007199254740993")),
        ("count(*)", json!("1")),
        ("1.5::numeric", json!("1.5")),
        ("'NaN'::numeric", json!("NaN")),
        ("0.1::float8", json!(0.1)),
        ("1e300::float8", json!(1e300)),
        ("'NaN'::float8", json!("NaN")),
        ("'-Infinity'::float4", json!("-Infinity")),
        ("'12.34'::money", json!("$12.34")),
        ("4294967295::oid", json!(4_294_967_295_u32)),
        ("'ü\"\\ x'::text", json!("ü\"\\ x")),
        ("'ab'::char(4)", json!("ab  ")),
        ("'x'::\"char\"", json!("x")),
        ("'name'::name", json!("name")),
        (
            "'2025-11-06 10:30:00.123456+02'::timestamptz",
            json!("2025-11-06T08:30:00.123456Z"),
        ),
        ("'infinity'::timestamptz", json!("infinity")),
        (
            "'2025-11-06 10:30:00'::timestamp",
            json!("2025-11-06T10:30:00"),
        ),
        ("'0044-03-15 BC'::date", json!("0044-03-15 BC")),
        ("'10:30:00+02'::timetz", json!("10:30:00+02")),
        ("'1 day 02:03:04'::interval", json!("1 day 02:03:04")),
        (
            "'{\"a\": [1, null, \"x\"]}'::json",
            json!({"a": [1, null, "x"]}),
        ),
        ("'{\"b\": 2.5}'::jsonb", json!({"b": 2.5})),
        ("'null'::jsonb", Value::Null),
        (
            "'\\x00ff'::bytea",
            json!({"type": "Buffer", "data": [0, 255]}),
        ),
        ("ARRAY[1, NULL, 3]", json!([1, null, 3])),
        ("ARRAY[[1, 2], [3, 4]]", json!([[1, 2], [3, 4]])),
        ("'{}'::int[]", json!([])),
        ("ARRAY[1, 2]::int8[]", json!(["1", "2"])),
        ("ARRAY[1.50, NULL]", json!(["1.50", null])),
        ("ARRAY['a,b', '\"', NULL]", json!(["a,b", "\"", null])),
        ("ARRAY[true]", json!([true])),
        (
            "ARRAY['\\x01'::bytea]",
            json!([{"type": "Buffer", "data": [1]}]),
        ),
        (
            "ARRAY['2025-11-06 10:30:00Z'::timestamptz]",
            json!(["2025-11-06T10:30:00Z"]),
        ),
        ("ARRAY['{\"a\": 1}'::jsonb]", json!([{"a": 1}])),
        ("int4range(1, 5)", json!("[1,5)")),
        ("'192.168.1.5'::inet", json!("192.168.1.5")),
        ("'10.0.0.0/8'::cidr", json!("10.0.0.0/8")),
        ("'08:00:2b:01:02:03'::macaddr", json!("08:00:2b:01:02:03")),
        (
            "'6b2a3c4e-1111-4222-8333-444455556666'::uuid",
            json!("6b2a3c4e-1111-4222-8333-444455556666"),
        ),
        ("B'101'", json!("101")),
        ("'(1,2)'::point", json!("(1,2)")),
        ("'a b'::tsvector", json!("'a' 'b'")),
        ("'<a/>'::xml", json!("<a/>")),
        ("'ok'::mood", json!("ok")),
        ("ARRAY['sad'::mood]", json!(["sad"])),
        ("ROW(1, 'x')::pair", json!("(1,x)")),
        ("ARRAY[ROW(1, 'x')::pair]", json!([{"a": 1, "b": "x"}])),
        ("ROW(1, NULL)", json!("(1,)")),
        ("ROW(NULL, NULL)::pair", json!("(,)")),
        ("3::positive", json!(3)),
        ("'pg_class'::regclass", json!("pg_class")),
        ("acldefault('r', 10)", json!(["postgres=arwdDxt/postgres"])),
        ("'1 2'::int2vector", json!("1 2")),
        ("pg_sleep(0)", json!("")),
        (&format!("'{deep}'::json"), Value::String(deep.clone())),
        ("'1/2'::pg_lsn", json!("1/2")),
    ];
    for (expression, expected) in cases {
        assert_eq!(
            world.value(&format!("SELECT {expression}")).await,
            expected,
            "{expression}"
        );
    }
    let wide = world
        .query(
            "SELECT 1 AS id, 2 AS id, 3 AS \"?column?\", 4, 5",
            json!([]),
        )
        .await
        .unwrap();
    let row = json!({"id": 1, "id_2": 2, "?column?": 3, "?column?_2": 4, "?column?_3": 5});
    assert_eq!(wide["rows"][0], row);
    let none = world.query("SELECT FROM users", json!([])).await.unwrap();
    assert_eq!(
        (&none["rows"], &none["fields"]),
        (&json!([{}, {}]), &json!([]))
    );
    for sql in [
        "VALUES (1, 'a')",
        "TABLE users",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH a AS (SELECT 1) SELECT * FROM a;",
        "SELECT 1 -- a comment",
        "SELECT 1 /* ; */ ; ;",
        "SELECT ';' ;",
        "SELECT $$;$$",
        "SELECT 1 -- one;",
    ] {
        assert!(world.query(sql, json!([])).await.is_ok(), "{sql}");
    }
    // Of multiranges the driver has never heard, wherever they stand; as text they come.
    for (kind, text) in [
        ("int4multirange", "{[1,3),[5,8)}"),
        (
            "int8multirange",
            "{[1,3),[9007199254740993,9007199254740999)}",
        ),
        ("nummultirange", "{[1.5,2.5]}"),
        ("datemultirange", "{[2025-11-06,2025-11-08)}"),
        (
            "tsmultirange",
            "{[\"2025-11-06 10:30:00\",\"2025-11-06 11:30:00\")}",
        ),
        ("int4multirange", "{}"),
    ] {
        for sql in [
            format!("SELECT '{text}'::{kind}"),
            format!("SELECT ARRAY['{text}'::{kind}]"),
            format!("SELECT 1 AS one, m FROM (SELECT '{text}'::{kind}) AS t(m)"),
        ] {
            let error = world.query(&sql, json!([])).await.unwrap_err();
            assert!(
                rejected(&error).1.contains("cast it to text"),
                "{sql}: {error}"
            );
        }
        let sql = format!("SELECT 1 WHERE $1::{kind} IS NULL");
        let error = world.query(&sql, json!([text])).await.unwrap_err();
        assert!(
            rejected(&error).1.contains("cast it to text"),
            "{kind}: {error}"
        );
        let cast = world.value(&format!("SELECT '{text}'::{kind}::text")).await;
        assert_eq!(cast, json!(text));
        let through = format!("SELECT $1::text::{kind}::text");
        let answer = world.query(&through, json!([text])).await.unwrap();
        assert_eq!(answer["rows"][0]["text"], json!(text), "{answer}");
    }
    // Ranges are text of themselves.
    let lists = world
        .value("SELECT unnest('{[1,3),[5,8)}'::int4multirange) LIMIT 1")
        .await;
    assert_eq!(lists, json!("[1,3)"));
    let ordered = world
        .query(
            "SELECT g FROM generate_series(1, 50) g ORDER BY g % 7, g DESC",
            json!([]),
        )
        .await
        .unwrap();
    let expected = world.see("SELECT array_agg(g) FROM (SELECT g FROM generate_series(1, 50) g ORDER BY g % 7, g DESC) s").await;
    let numbers: Vec<String> = ordered["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["g"].to_string())
        .collect();
    assert_eq!(format!("{{{}}}", numbers.join(",")), expected);
    world.end().await;
}

#[tokio::test]
async fn parameters_are_what_the_statement_wants() {
    let world = World::new().await;
    let fine = [
        (
            "SELECT name FROM users WHERE id = $1",
            json!([1]),
            json!("Ada"),
        ),
        (
            "SELECT name FROM users WHERE id = $1",
            json!(["1"]),
            json!("Ada"),
        ),
        (
            "SELECT id FROM users WHERE name = $1",
            json!(["Bob"]),
            json!("2"),
        ),
        ("SELECT $1", json!([5]), json!("5")),
        ("SELECT $1", json!([{"a": 1}]), Value::Null),
        ("SELECT $1::text IS NULL", json!([null]), json!(true)),
        (
            "SELECT name FROM users WHERE id = ANY($1)",
            json!([[2, 9]]),
            json!("Bob"),
        ),
        (
            "SELECT $1::numeric + 1",
            json!(["9007199254740993.5"]),
            json!("9007199254740994.5"),
        ),
        (
            "SELECT $1::timestamptz",
            json!(["2025-11-06T10:30:00Z"]),
            json!("2025-11-06T10:30:00Z"),
        ),
        (
            "SELECT $1::date + 1",
            json!(["2025-12-31"]),
            json!("2026-01-01"),
        ),
        ("SELECT $1::jsonb -> 'a'", json!([{"a": [1]}]), json!([1])),
        ("SELECT $1::jsonb", json!(["plain"]), json!("plain")),
        ("SELECT $1::jsonb", json!(["{\"a\": 1}"]), json!({"a": 1})),
        (
            "SELECT $1::bytea",
            json!([{"type": "Buffer", "data": [1, 255]}]),
            json!({"type": "Buffer", "data": [1, 255]}),
        ),
        (
            "SELECT $1::bytea",
            json!(["\\x01"]),
            json!({"type": "Buffer", "data": [1]}),
        ),
        (
            "SELECT $1::text[]",
            json!([["a\"b", "c\\d", null, "", "NULL", "{x}"]]),
            json!(["a\"b", "c\\d", null, "", "NULL", "{x}"]),
        ),
        (
            "SELECT $1::int[]",
            json!([[[1, 2], [3, 4]]]),
            json!([[1, 2], [3, 4]]),
        ),
        ("SELECT $1::inet", json!(["10.0.0.1"]), json!("10.0.0.1")),
        ("SELECT $1::int4range", json!(["[1,4]"]), json!("[1,5)")),
        ("SELECT $1::bool", json!(["yes"]), json!(true)),
        ("SELECT $1::float4", json!([0.5]), json!(0.5)),
        (
            "SELECT $1 LIKE '%; DROP TABLE users; --'",
            json!(["x'; DROP TABLE users; --"]),
            json!(true),
        ),
    ];
    for (sql, params, expected) in fine {
        let data = world.query(sql, params.clone()).await;
        if expected.is_null() {
            assert!(
                rejected(&data.unwrap_err())
                    .1
                    .contains("parameter 1: an object")
            );
            continue;
        }
        let data = data.unwrap_or_else(|error| panic!("{sql} {params}: {error}"));
        let row = data["rows"][0]
            .as_object()
            .unwrap_or_else(|| panic!("{sql}: no row"));
        assert_eq!(row.values().next().unwrap(), &expected, "{sql} {params}");
    }
    let wrong = [
        (
            "SELECT $1::int",
            json!(["abc"]),
            "parameter 1: invalid input syntax for type integer: \"abc\"",
        ),
        (
            "SELECT $2::date, $1::int",
            json!([1, "soon"]),
            "parameter 2: invalid input syntax for type date",
        ),
        (
            "SELECT $1::int2",
            json!([70_000]),
            "parameter 1: value \"70000\" is out of range",
        ),
        ("SELECT $1::int", json!([1.5]), "parameter 1: "),
        ("SELECT $1::int", json!([[1]]), "parameter 1: an array"),
        (
            "SELECT $1::int, $2::int",
            json!([1]),
            "2 parameters and 1 values",
        ),
        ("SELECT 1", json!([1]), "0 parameters and 1 values"),
        (
            "SELECT $1::text",
            json!(["a\u{0}b"]),
            "invalid byte sequence",
        ),
    ];
    for (sql, params, expected) in wrong {
        let error = world.query(sql, params).await.expect_err(sql);
        assert!(rejected(&error).1.contains(expected), "{sql}: {error}");
    }
    world.end().await;
}

/// A type, and JSON values that it gives back as they were.
fn typed() -> impl Strategy<Value = (&'static str, Value)> {
    // PostgreSQL has no NUL in texts.
    let text = "[^\u{0}]{0,40}";
    prop_oneof![
        any::<i16>().prop_map(|n| ("int2", json!(n))),
        any::<i32>().prop_map(|n| ("int4", json!(n))),
        any::<i64>().prop_map(|n| ("int8", json!(n.to_string()))),
        (any::<i64>(), 0..10_u32).prop_map(|(n, m)| ("numeric", json!(format!("{n}.{m}1")))),
        any::<f64>()
            .prop_filter("JSON has no other", |n| n.is_finite())
            .prop_map(|n| ("float8", json!(n))),
        any::<f32>()
            .prop_filter("JSON has no other", |n| n.is_finite())
            .prop_map(|n| ("float4", serde_json::from_str(&n.to_string()).unwrap())),
        any::<bool>().prop_map(|yes| ("bool", json!(yes))),
        text.prop_map(|text| ("text", json!(text))),
        text.prop_map(|text| ("varchar", json!(text))),
        proptest::collection::vec(proptest::option::of(text), 0..5)
            .prop_map(|items| ("text[]", json!(items))),
        proptest::collection::vec(any::<i32>(), 0..5).prop_map(|items| ("int4[]", json!(items))),
        proptest::collection::vec(any::<i64>().prop_map(|n| n.to_string()), 0..5)
            .prop_map(|items| ("int8[]", json!(items))),
        proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|data| ("bytea", json!({"type": "Buffer", "data": data}))),
        any::<u128>().prop_map(|n| {
            let hex = format!("{n:032x}");
            (
                "uuid",
                json!(format!(
                    "{}-{}-{}-{}-{}",
                    &hex[..8],
                    &hex[8..12],
                    &hex[12..16],
                    &hex[16..20],
                    &hex[20..]
                )),
            )
        }),
        (0..4_000_000_000_i64).prop_map(|second| {
            (
                "timestamptz",
                json!(jiff::Timestamp::from_second(second).unwrap().to_string()),
            )
        }),
        (any::<bool>(), text, any::<i32>())
            .prop_map(|(yes, text, n)| ("jsonb", json!({"a": [yes, null, text], "b": {"c": n}}))),
        Just(("text", Value::Null)),
    ]
}

#[test]
fn what_goes_in_as_a_parameter_comes_out() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let world = runtime.block_on(World::new());
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    });
    runner
        .run(&typed(), |(kind, value)| {
            let sql = format!("SELECT $1::{kind} AS v");
            let data = runtime.block_on(world.query(&sql, json!([value])));
            let data = data.map_err(|error| TestCaseError::fail(error.to_string()))?;
            let back = &data["rows"][0]["v"];
            // `1` and `1.0` are one number.
            let bits = |value: &Value| value.as_f64().map(|number| (number + 0.0).to_bits());
            let same = back == &value || (kind.starts_with("float") && bits(back) == bits(&value));
            prop_assert!(same, "{kind}: {value} came back as {back}");
            Ok(())
        })
        .unwrap();
    runtime.block_on(world.end());
}

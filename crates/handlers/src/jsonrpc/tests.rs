use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

fn call(params: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}"#)
}

#[test]
fn a_call_is_read_with_its_exact_parts() {
    let text = call(
        r#"{"name":"ad\u0064","arguments": {"a": 1.10, "b":[ 1 ]} ,"_meta":{"progressToken":"p","io.modelcontextprotocol/protocolVersion":"2026-07-28"},"requestState":"gw1.x"}"#,
    );
    let message = scan(text.as_bytes()).unwrap();
    assert_eq!(message.method(), Some("tools/call"));
    assert_eq!(message.id, Some("7"));
    assert_eq!(message.params.text("name").unwrap().unwrap(), "add");
    assert_eq!(
        message.params.raw("arguments"),
        Some(r#"{"a": 1.10, "b":[ 1 ]}"#)
    );
    assert_eq!(message.version().unwrap().unwrap(), "2026-07-28");
    assert_eq!(message.progress_token(), Some(r#""p""#));
    let state = message.params.get("requestState").unwrap();
    assert_eq!(&text[state.start..state.end], r#""requestState":"gw1.x""#);
}

#[test]
fn messages_are_told_apart() {
    let kind = |text: &'static str| scan(text.as_bytes()).unwrap().kind;
    assert!(matches!(
        kind(r#"{"jsonrpc":"2.0","id":"a","method":"ping"}"#),
        Kind::Request { id: Id::Text(id), .. } if id == "a"
    ));
    assert!(matches!(
        kind(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#),
        Kind::Notification { .. }
    ));
    assert!(matches!(
        kind(r#"{"jsonrpc":"2.0","id":-1,"result":{}}"#),
        Kind::Response {
            id: Id::Number(-1),
            result: Some("{}")
        }
    ));
    assert!(matches!(
        kind(r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}"#),
        Kind::Response { result: None, .. }
    ));
}

#[test]
#[expect(clippy::too_many_lines, reason = "a line or two for each message")]
fn what_parsers_read_differently_is_refused() {
    let deep = call(&format!(
        r#"{{"arguments":{}1{}}}"#,
        "[".repeat(63),
        "]".repeat(63)
    ));
    let many = |last: &str| {
        let names: Vec<String> = (0..40).map(|n| format!("\"k{n}\":{n}")).collect();
        call(&format!(
            r#"{{"arguments":{{{},"{last}":1}}}}"#,
            names.join(",")
        ))
    };
    let cases: Vec<(&str, String)> = vec![
        ("batches", "[]".to_owned()),
        ("batches", format!(" [{}]", call("{}"))),
        (
            "meaning of its own",
            call(r#"{"arguments":{"a":[{"$serde_json::private::RawValue":"1"}]}}"#),
        ),
        (
            "meaning of its own",
            call(r#"{"arguments":{"\u0024serde_json::private::Number":"1"}}"#),
        ),
        ("more after", format!("{} {{}}", call("{}"))),
        ("more after", format!("{}\0", call("{}"))),
        ("is an object", "1".to_owned()),
        ("no value", "\u{feff}{}".to_owned()),
        ("`jsonrpc`", r#"{"id":1,"method":"a"}"#.to_owned()),
        (
            "`jsonrpc`",
            r#"{"jsonrpc":2.0,"id":1,"method":"a"}"#.to_owned(),
        ),
        (
            "`id` must",
            r#"{"jsonrpc":"2.0","id":null,"method":"a"}"#.to_owned(),
        ),
        (
            "`id` must",
            r#"{"jsonrpc":"2.0","id":1.0,"method":"a"}"#.to_owned(),
        ),
        (
            "`id` must",
            r#"{"jsonrpc":"2.0","id":9007199254740993,"method":"a"}"#.to_owned(),
        ),
        (
            "`id` must",
            format!(
                r#"{{"jsonrpc":"2.0","id":"{}","method":"a"}}"#,
                "x".repeat(600)
            ),
        ),
        (
            "`method`",
            r#"{"jsonrpc":"2.0","id":1,"method":["tools/call"]}"#.to_owned(),
        ),
        (
            "has `method`",
            r#"{"jsonrpc":"2.0","id":1,"method":"a","result":{}}"#.to_owned(),
        ),
        (
            "`result` or `error`",
            r#"{"jsonrpc":"2.0","id":1,"result":{},"error":{}}"#.to_owned(),
        ),
        (
            "`result` or `error`",
            r#"{"jsonrpc":"2.0","id":1}"#.to_owned(),
        ),
        ("needs `method`", r#"{"jsonrpc":"2.0"}"#.to_owned()),
        ("`params`", call("[1]")),
        ("`params`", call("null")),
        ("`_meta`", call(r#"{"_meta":1}"#)),
        (
            "occurs twice",
            r#"{"jsonrpc":"2.0","id":1,"method":"a","method":"b"}"#.to_owned(),
        ),
        ("occurs twice", call(r#"{"name":"a","name":"b"}"#)),
        ("occurs twice", call(r#"{"name":"a","n\u0061me":"b"}"#)),
        (
            "occurs twice",
            call(r#"{"arguments":{"a":1,"b":2,"a":40}}"#),
        ),
        ("occurs twice", call(r#"{"arguments":{"path":1,"Path":2}}"#)),
        (
            "occurs twice",
            call(r#"{"arguments":{"x":[{"k":1,"\u212a":2}]}}"#),
        ),
        ("occurs twice", many("k7")),
        ("occurs twice", many("K39")),
        (
            "another spelling",
            r#"{"jsonrpc":"2.0","id":1,"Method":"tools/call"}"#.to_owned(),
        ),
        (
            "another spelling",
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"a\",\"param\u{17f}\":{}}".to_owned(),
        ),
        ("another spelling", call(r#"{"NAME":"a"}"#)),
        ("another spelling", call(r#"{"_meta":{"ProgressToken":1}}"#)),
        ("nested deeper", deep),
        ("half a surrogate", call(r#"{"name":"\ud800"}"#)),
        ("half a surrogate", call(r#"{"name":"\udc00\ud800"}"#)),
        ("control character", call("{\"name\":\"a\nb\"}")),
        ("no such escape", call(r#"{"name":"\x"}"#)),
        ("out of range", call(r#"{"a":1e999}"#)),
        ("is expected", call(r#"{"a":01}"#)),
        ("digit", call(r#"{"a":-}"#)),
        ("key is expected", call(r#"{"a":1,}"#)),
        ("no value begins", call(r#"{"a":[1,]}"#)),
        ("does not end", r#"{"jsonrpc":"2.0"#.to_owned()),
        ("nothing", "  ".to_owned()),
    ];
    for (expected, text) in cases {
        let error = scan(text.as_bytes()).expect_err(&text).to_string();
        assert!(
            error.contains(expected),
            "{text}: {error} does not say {expected}"
        );
    }
    assert_eq!(
        scan(b"{\"\xff\":1}"),
        Err(ScanError::Utf8 { valid_up_to: 2 })
    );
}

#[test]
fn sixty_four_levels_and_many_members_are_read() {
    let deep = call(&format!(
        r#"{{"arguments":{}1{}}}"#,
        "[".repeat(62),
        "]".repeat(62)
    ));
    assert!(scan(deep.as_bytes()).is_ok());
    let names: Vec<String> = (0..5_000).map(|n| format!("\"k{n}\":{n}")).collect();
    let wide = call(&format!(r#"{{"arguments":{{{}}}}}"#, names.join(",")));
    assert!(scan(wide.as_bytes()).is_ok());
}

#[test]
fn a_member_is_taken_out_with_its_comma() {
    for (params, left) in [
        (r#"{"requestState":"gw1"}"#, "{}"),
        (r#"{"requestState":"gw1", "name":"a"}"#, r#"{"name":"a"}"#),
        (
            r#"{"name":"a" , "requestState":"gw1" }"#,
            r#"{"name":"a"  }"#,
        ),
        (r#"{"a":1,"requestState":"gw1","b":2}"#, r#"{"a":1,"b":2}"#),
    ] {
        let text = call(params);
        let message = scan(text.as_bytes()).unwrap();
        let state = message.params.get("requestState").unwrap();
        assert_eq!(without(&text, state), call(left));
    }
}

#[test]
fn answers_are_taken_apart_and_not_judged_within() {
    let text = r#"{"result":{"tools":[{"name":"a","inputSchema":{"P":1,"p":2}}, 1 ],"ttlMs":5}}"#;
    let result = members(text).unwrap().raw("result").unwrap();
    let tools = members(result).unwrap().raw("tools").unwrap();
    assert_eq!(
        elements(tools).unwrap(),
        [r#"{"name":"a","inputSchema":{"P":1,"p":2}}"#, "1"]
    );
    assert!(members(r#"{"tools":[],"tools":[]}"#).is_err());
    assert!(elements("{}").is_err());
    assert!(members("[]").is_err());
}

fn json() -> impl Strategy<Value = Value> {
    let name = prop_oneof!["[a-zA-Z\u{17f}\u{212a}\"\\\\/é]{0,6}", any::<String>()];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(name.clone(), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// What `serde_json` reads must be what the scan says.
fn agrees(text: &str) {
    let Ok(message) = scan(text.as_bytes()) else {
        return;
    };
    let theirs: Value = serde_json::from_str(text).unwrap();
    assert_eq!(message.method(), theirs["method"].as_str());
    for (place, members) in [
        (&theirs["params"], &message.params),
        (&theirs["params"]["_meta"], &message.meta),
    ] {
        let empty = Map::new();
        let there = place.as_object().unwrap_or(&empty);
        assert_eq!(there.len(), members.iter().count(), "{text}");
        for member in members {
            let value: Value = serde_json::from_str(member.value).unwrap();
            assert_eq!(there.get(&*member.name), Some(&value), "{text}");
            assert_eq!(string(member.value).as_deref(), value.as_str());
        }
    }
}

/// Whether an object in it has two names that differ in case alone.
fn collides(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(collides),
        Value::Object(members) => {
            let fold = |name: &String| -> String {
                name.chars()
                    .flat_map(char::to_uppercase)
                    .flat_map(char::to_lowercase)
                    .collect()
            };
            let names: std::collections::BTreeSet<String> = members.keys().map(fold).collect();
            names.len() < members.len() || members.values().any(collides)
        }
        _ => false,
    }
}

proptest! {
    #[test]
    fn it_sees_the_message_that_serde_json_sees(
        params in json(), meta in json(), name in any::<String>(), pretty in any::<bool>()
    ) {
        let params = json!({"name": name, "arguments": params, "_meta": {"x": meta}});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": name, "params": params});
        let text = if pretty { serde_json::to_string_pretty(&message) } else { serde_json::to_string(&message) }.unwrap();
        agrees(&text);
    }

    #[test]
    fn it_accepts_no_more_than_serde_json(
        params in "[\\[\\]{}\",:0-9a-c\\\\ .eE+u-]{0,24}"
    ) {
        for text in [params.clone(), call(&params), call(&format!("{{\"arguments\":{params}}}"))] {
            agrees(&text);
        }
    }

    #[test]
    fn what_is_without_duplicates_is_accepted(params in json()) {
        let text = call(&json!({"arguments": [params.clone()]}).to_string());
        prop_assert_eq!(scan(text.as_bytes()).is_err(), collides(&params), "{}", text);
    }

    #[test]
    fn strings_are_what_serde_json_reads(text in any::<String>(), raw in "\"[\\\\\"a-fu0-9nrt/\u{e9}]{0,12}\"") {
        let written = serde_json::to_string(&text).unwrap();
        let read = string(&written);
        prop_assert_eq!(read.as_deref(), Some(text.as_str()));
        if let Some(ours) = string(&raw) {
            prop_assert_eq!(serde_json::from_str::<String>(&raw).unwrap(), ours);
        }
    }
}

//! Any bytes as a message: what the scan accepts, `serde_json` reads alike.
#![no_main]

#[allow(dead_code, reason = "a target needs only a part of it")]
#[path = "../../src/jsonrpc.rs"]
mod jsonrpc;

use jsonrpc::{Id, Kind, Members};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    message(data);
    answer(data);
});

fn message(data: &[u8]) {
    let Ok(message) = jsonrpc::scan(data) else {
        return;
    };
    let text = std::str::from_utf8(data).unwrap();
    let theirs: Value = serde_json::from_str(text).expect("it accepts no more than serde_json");
    assert_eq!(message.method(), theirs["method"].as_str());
    let id = match &message.kind {
        Kind::Request { id, .. } | Kind::Response { id, .. } => Some(id),
        Kind::Notification { .. } => None,
    };
    match id {
        Some(Id::Number(number)) => assert_eq!(theirs["id"].as_i64(), Some(*number)),
        Some(Id::Text(id)) => assert_eq!(theirs["id"].as_str(), Some(&**id)),
        None => assert!(theirs.get("id").is_none()),
    }
    same(&message.params, &theirs["params"]);
    same(&message.meta, &theirs["params"]["_meta"]);
    for member in &message.params {
        let left = jsonrpc::without(text, member);
        let again: Value = serde_json::from_str(&left).expect("what is left is JSON");
        let mut expected = theirs.clone();
        expected["params"].as_object_mut().unwrap().shift_remove(&*member.name);
        assert_eq!(again, expected);
    }
}

fn same(members: &Members<'_>, theirs: &Value) {
    assert_eq!(
        members.iter().count(),
        theirs.as_object().map_or(0, serde_json::Map::len)
    );
    for member in members {
        let value: Value = serde_json::from_str(member.value).unwrap();
        assert_eq!(theirs.get(&*member.name), Some(&value));
        assert_eq!(jsonrpc::string(member.value).as_deref(), value.as_str());
    }
}

fn answer(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(members) = jsonrpc::members(text) {
        let theirs: Value = serde_json::from_str(text).expect("it accepts no more than serde_json");
        same(&members, &theirs);
    }
    if let Ok(elements) = jsonrpc::elements(text) {
        let theirs: Vec<Value> = serde_json::from_str(text).expect("no more than serde_json");
        let ours: Vec<Value> = elements
            .iter()
            .map(|element| serde_json::from_str(element).unwrap())
            .collect();
        assert_eq!(ours, theirs);
    }
}

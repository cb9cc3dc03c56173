//! Fields: paths that lead into lists.

use serde_json::Value;

/// What `labels[].name` and `nodes[type=hook].path` lead to: a list, or nothing when the
/// first step is not there.
pub(super) fn all(value: &Value, path: &str) -> Option<Value> {
    let (before, rest) = path.split_once('[')?;
    let (filter, after) = rest.split_once(']')?;
    let list = before
        .split('.')
        .filter(|key| !key.is_empty())
        .try_fold(value, |value, key| value.get(key))?
        .as_array()?;
    let after = after.strip_prefix('.').unwrap_or(after);
    let found = list
        .iter()
        .filter(|item| match filter.split_once('=') {
            Some((key, wanted)) => item.get(key).and_then(Value::as_str) == Some(wanted),
            None => true,
        })
        .filter_map(|item| {
            if after.is_empty() {
                Some(item.clone())
            } else if after.contains('[') {
                all(item, after)
            } else {
                after
                    .split('.')
                    .try_fold(item, |value, key| value.get(key))
                    .cloned()
            }
        });
    Some(Value::Array(found.collect()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_lead_into_lists() {
        let value = json!({
            "labels": [{"name": "bug"}, {"name": "urgent"}, {"id": 3}],
            "flow": {"nodes": [{"type": "a.hook", "p": {"path": "x"}}, {"type": "other", "p": {"path": "y"}}]},
        });
        let cases = [
            ("labels[].name", Some(json!(["bug", "urgent"]))),
            ("flow.nodes[type=a.hook].p.path", Some(json!(["x"]))),
            ("flow.nodes[type=none].p.path", Some(json!([]))),
            ("missing[].name", None),
            ("flow[].name", None),
        ];
        for (path, expected) in cases {
            assert_eq!(all(&value, path), expected, "{path}");
        }
    }
}

//! Size: an agent gets no more than its context can hold, and is told what is missing.

use serde_json::{Map, Value};

/// What is left of a text that was cut ends with this.
const CUT: &str = "… [truncated]";

/// Texts are not cut shorter, in bytes: names and addresses stay whole.
const SHORTEST: usize = 512;

/// Cuts `data` to about `limit` bytes of JSON: items of the list `list` from its end, else
/// the longest texts. What was cut says so: `truncated`, and the list's count (`count`) is
/// that of what is there.
pub(crate) fn fit(data: &mut Map<String, Value>, list: Option<(&str, &str)>, limit: usize) -> bool {
    let mut size = length(data.iter());
    if size <= limit {
        return false;
    }
    if let Some((list, count)) = list
        && let Some(Value::Array(items)) = data.get_mut(list)
    {
        let whole = items.len();
        while size > limit
            && items.len() > 1
            && let Some(item) = items.pop()
        {
            size = size.saturating_sub(item_length(&item) + 1);
        }
        let (left, cut) = (items.len(), whole > items.len());
        if cut {
            data.insert(count.to_owned(), Value::from(left));
        }
    }
    // One long item, or no list at all.
    let mut longest = limit / 2;
    while length(data.iter()) > limit && longest >= SHORTEST {
        data.values_mut()
            .for_each(|value| cut_texts(value, longest));
        longest /= 2;
    }
    data.insert("truncated".to_owned(), Value::Bool(true));
    true
}

fn length<'a>(fields: impl Iterator<Item = (&'a String, &'a Value)>) -> usize {
    fields
        .map(|(name, value)| name.len() + 4 + item_length(value))
        .sum()
}

fn item_length(value: &Value) -> usize {
    match value {
        Value::Null => 4,
        Value::Bool(_) => 5,
        Value::Number(number) => number.to_string().len(),
        Value::String(text) => text.len() + 2,
        Value::Array(items) => {
            items
                .iter()
                .map(|item| item_length(item) + 1)
                .sum::<usize>()
                + 2
        }
        Value::Object(fields) => length(fields.iter()) + 2,
    }
}

fn cut_texts(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) if text.len() > longest => {
            let end = (0..=longest.saturating_sub(CUT.len()))
                .rev()
                .find(|&at| text.is_char_boundary(at))
                .unwrap_or(0);
            text.truncate(end);
            text.push_str(CUT);
        }
        Value::Array(items) => items.iter_mut().for_each(|item| cut_texts(item, longest)),
        Value::Object(fields) => fields
            .values_mut()
            .for_each(|value| cut_texts(value, longest)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fitted(data: &Value, limit: usize) -> Map<String, Value> {
        let mut data = data.as_object().unwrap().clone();
        fit(&mut data, Some(("items", "count")), limit);
        data
    }

    #[test]
    fn what_is_cut_says_so() {
        let item = json!({"name": "x".repeat(90)});
        let data = json!({"operation": "o", "count": 100, "items": vec![item; 100]});
        assert_eq!(fitted(&data, 100_000), *data.as_object().unwrap());
        let cut = fitted(&data, 2_000);
        let items = cut["items"].as_array().unwrap().len();
        assert!(items < 20 && items > 10, "{items}");
        assert_eq!(cut["count"], json!(items));
        assert_eq!(cut["truncated"], json!(true));

        let text = json!({"operation": "o", "name": "whole", "logs": "ü".repeat(50_000)});
        let cut = fitted(&text, 10_000);
        assert!(serde_json::to_string(&cut).unwrap().len() < 12_000);
        assert!(cut["logs"].as_str().unwrap().ends_with(CUT));
        assert_eq!(
            (&cut["name"], &cut["truncated"]),
            (&json!("whole"), &json!(true))
        );

        let one = json!({"items": [{"body": "b".repeat(50_000), "id": 7}], "count": 1});
        let cut = fitted(&one, 10_000);
        assert_eq!(
            (&cut["items"][0]["id"], &cut["count"]),
            (&json!(7), &json!(1))
        );
        assert!(serde_json::to_string(&cut).unwrap().len() < 12_000);
    }
}

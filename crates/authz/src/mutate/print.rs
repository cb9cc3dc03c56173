//! Expressions as people write them: Cedar's own printer turns `a >= b` into `!(a < b)`.

use serde_json::Value;

use super::probe;

/// The longest that is shown, in characters.
const LONGEST: usize = 200;

/// An expression on one line, and not too long.
pub(crate) fn text(expression: &Value) -> String {
    let text = print(expression, 0).unwrap_or_else(|| by_cedar(expression));
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text,
    }
}

/// Whole, so that it can be parsed again.
pub(crate) fn whole(expression: &Value) -> String {
    print(expression, 0).unwrap_or_else(|| by_cedar(expression))
}

fn by_cedar(expression: &Value) -> String {
    let written = probe(expression).and_then(|policy| policy.to_cedar());
    let body = written.as_deref().and_then(|text| {
        let (_, rest) = text.split_once('{')?;
        rest.rsplit_once('}').map(|(body, _)| body)
    });
    let body = body.unwrap_or_default();
    body.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How tight an operator binds.
fn binding(operator: &str) -> Option<u8> {
    Some(match operator {
        "||" => 1,
        "&&" => 2,
        "==" | "!=" | "<" | "<=" | ">" | ">=" | "in" => 3,
        "+" | "-" => 4,
        "*" => 5,
        _ => return None,
    })
}

/// None for what is seldom: that, Cedar prints.
fn print(expression: &Value, outer: u8) -> Option<String> {
    let (operator, operand) = expression
        .as_object()
        .filter(|members| members.len() == 1)?
        .iter()
        .next()?;
    let of = |name: &str, outer| print(operand.get(name)?, outer);
    if let Some(inner) = binding(operator) {
        let text = format!(
            "{} {operator} {}",
            of("left", inner)?,
            of("right", inner + 1)?
        );
        return Some(if inner < outer {
            format!("({text})")
        } else {
            text
        });
    }
    let name = |member: &str| {
        operand
            .get(member)
            .and_then(Value::as_str)
            .filter(|name| is_word(name))
    };
    Some(match operator.as_str() {
        "Var" => operand.as_str()?.to_owned(),
        "Value" => value(operand)?,
        "!" => format!("!{}", of("arg", 7)?),
        "neg" => format!("-{}", of("arg", 7)?),
        "." => format!("{}.{}", of("left", 8)?, name("attr")?),
        "has" => bracketed(
            &format!("{} has {}", of("left", 4)?, name("attr")?),
            3,
            outer,
        ),
        "is" if operand.get("in").is_none() => {
            let kind = operand.get("entity_type")?.as_str()?;
            bracketed(&format!("{} is {kind}", of("left", 4)?), 3, outer)
        }
        "contains" | "containsAll" | "containsAny" | "hasTag" | "getTag" => {
            format!("{}.{operator}({})", of("left", 8)?, of("right", 0)?)
        }
        "isEmpty" => format!("{}.isEmpty()", of("arg", 8)?),
        "Set" => format!("[{}]", list(operand.as_array()?)?),
        "ip" | "decimal" | "datetime" | "duration" => {
            format!("{operator}({})", list(operand.as_array()?)?)
        }
        method if is_word(method) && operand.is_array() => {
            let (receiver, arguments) = operand.as_array()?.split_first()?;
            format!("{}.{method}({})", print(receiver, 8)?, list(arguments)?)
        }
        _ => return None,
    })
}

fn bracketed(text: &str, inner: u8, outer: u8) -> String {
    if inner < outer {
        format!("({text})")
    } else {
        text.to_owned()
    }
}

fn list(items: &[Value]) -> Option<String> {
    let items: Option<Vec<String>> = items.iter().map(|item| print(item, 0)).collect();
    Some(items?.join(", "))
}

fn value(value: &Value) -> Option<String> {
    if let Some(entity) = value.get("__entity") {
        let id = entity.get("id")?.as_str()?;
        return Some(format!(
            "{}::{}",
            entity.get("type")?.as_str()?,
            quoted(id)?
        ));
    }
    match value {
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::String(text) => quoted(text),
        _ => None,
    }
}

/// None where Cedar's escapes would differ from ours.
fn quoted(text: &str) -> Option<String> {
    let plain = !text
        .chars()
        .any(|letter| letter.is_control() || matches!(letter, '"' | '\\'));
    plain.then(|| format!("\"{text}\""))
}

fn is_word(name: &str) -> bool {
    name.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;
    use cedar_policy::Policy;

    #[test]
    fn expressions_are_printed_as_they_were_written() {
        for text in [
            "principal.trust >= 1 && !(resource.pinned || principal.suspended)",
            "principal.hasTag(context.callKey) && context.now < principal.getTag(context.callKey).expires",
            "principal.getTag(resource.key).expires.durationSince(context.now) <= duration(\"24h\")",
            "context.ip.isInRange(ip(\"10.0.0.0/8\")) || [1, 2].contains(resource.risk - 1)",
            "resource has owner && resource.owner == principal",
            "resource.reach == Reach::\"service\" && principal is Agent",
            "context.args.text.getTag(\"repo\") like \"acme/*\"",
            "(if principal.suspended then 1 else 2) == 1",
        ] {
            let source = format!("permit (principal, action, resource) when {{ {text} }};");
            let policy = Policy::parse(None, &source).unwrap();
            let json = policy.to_json().unwrap();
            let body = json.pointer("/conditions/0/body").unwrap();
            let again = format!(
                "permit (principal, action, resource) when {{ {} }};",
                whole(body)
            );
            let again = Policy::parse(None, again).unwrap();
            assert_eq!(again.to_json().unwrap(), json, "{text}");
            if !text.contains("like") && !text.contains("if ") {
                assert_eq!(whole(body), text);
            }
        }
    }
}

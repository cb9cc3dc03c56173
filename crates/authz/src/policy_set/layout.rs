//! Layout: policies written in one way, comments kept.

use std::str::FromStr;

use cedar_policy::{
    PolicySet,
    ffi::{self, DetailedError, FormattingAnswer, FormattingCall},
};
use serde_json::json;

use super::{
    Finding, on_large_stack,
    text::{self, Language},
};

/// How wide a line may be, where it can be broken: as wide as `cedar format` has it.
const WIDTH: usize = 80;

/// Lays policies out in one way, keeping comments.
///
/// Each policy is laid out by itself. What stands between policies stays, with one blank
/// line at most, so that the comment at the head of a file remains that of the file.
///
/// # Errors
///
/// What is wrong with the text: it must parse, and need not be valid.
pub fn format(file: &str, policies: &str) -> Result<String, Vec<Finding>> {
    on_large_stack(|| {
        let scanned =
            text::scan(file, policies, Language::Policies).map_err(|found| vec![*found])?;
        let text = scanned.text;
        let from_cedar = |error: &DetailedError| Finding::from_cedar(error, file, text);
        let before = parse(text).map_err(|found| from_cedar(&found))?;
        let mut laid_out = String::new();
        let mut done = 0;
        for &start in &scanned.statements {
            between(text.get(done..start).unwrap_or_default(), &mut laid_out);
            done = start + end(text.get(start..).unwrap_or_default());
            let policy = one(text.get(start..done).unwrap_or_default());
            laid_out.push_str(policy.map_err(|found| from_cedar(&found))?.trim());
        }
        between(text.get(done..).unwrap_or_default(), &mut laid_out);
        let laid_out = format!("{}\n", laid_out.trim());
        // Whatever the printer does: it must not change what the policies say.
        let same = parse(&laid_out).is_ok_and(|after| after == before);
        if same {
            Ok(laid_out)
        } else {
            let message = "the layout would change what the policies say; the file stays as it is";
            Err(vec![Finding::error(file, message)])
        }
    })
}

/// Lays one policy out.
fn one(policy: &str) -> Result<String, Box<DetailedError>> {
    let call = json!({"policyText": policy, "lineWidth": WIDTH});
    let failed = |message: String| {
        Box::new(DetailedError::from_str(&message).unwrap_or_else(|never| match never {}))
    };
    let call: FormattingCall =
        serde_json::from_value(call).map_err(|error| failed(error.to_string()))?;
    match ffi::format(call) {
        FormattingAnswer::Success { formatted_policy } => Ok(formatted_policy),
        FormattingAnswer::Failure { mut errors } => {
            let last = errors.pop();
            Err(last.map_or_else(
                || failed("the policy cannot be laid out".to_owned()),
                Box::new,
            ))
        }
    }
}

/// Adds what stands between two policies: comments, and one blank line at most.
fn between(text: &str, laid_out: &mut String) {
    let mut lines = text.lines();
    if !laid_out.is_empty() {
        // A comment behind a policy stays behind it.
        let behind = lines.next().unwrap_or_default().trim();
        if !behind.is_empty() {
            laid_out.push(' ');
            laid_out.push_str(behind);
        }
        laid_out.push_str("\n\n");
    }
    for line in lines.map(str::trim) {
        if !line.is_empty() {
            laid_out.push_str(line);
            laid_out.push('\n');
        } else if !laid_out.is_empty() && !laid_out.ends_with("\n\n") {
            laid_out.push('\n');
        }
    }
}

/// The place after the `;` that ends the policy.
fn end(policy: &str) -> usize {
    let mut bytes = policy.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b';' => return at + 1,
            b'"' => {
                while let Some((_, inner)) = bytes.next() {
                    match inner {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'/' if policy.as_bytes().get(at + 1) == Some(&b'/') => {
                // The iterator goes on behind the line.
                bytes.by_ref().find(|(_, byte)| *byte == b'\n');
            }
            _ => {}
        }
    }
    policy.len()
}

fn parse(text: &str) -> Result<serde_json::Value, Box<DetailedError>> {
    let set = PolicySet::from_str(text).map_err(|error| Box::new(DetailedError::from(&error)))?;
    set.to_json()
        .map_err(|error| Box::new(DetailedError::from(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_stay_and_nothing_else_changes() {
        let text = "// first\n@id(\"a\") permit(principal,action,resource) // scope\nwhen{ /* no */ true };";
        assert!(
            format("a.cedar", text).is_err(),
            "block comments are not Cedar"
        );
        let text = "// file\n\n\n// first; \"\n@id(\"a;\") permit(principal,action,resource) // scope;\nwhen{ true }; // behind\n@id(\"b\")forbid(principal,action,resource);\n// last\n";
        let laid_out = format("a.cedar", text).unwrap();
        for comment in [
            "// file\n\n// first",
            "// scope",
            "}; // behind\n\n@id",
            "// last",
        ] {
            assert_eq!(laid_out.matches(comment).count(), 1, "{laid_out}");
        }
        assert_eq!(
            format("a.cedar", &laid_out).unwrap(),
            laid_out,
            "a second time changes nothing"
        );
    }

    #[test]
    fn hostile_and_broken_texts_are_findings() {
        let deep = format!(
            "permit(principal,action,resource) when {{ {}true{} }};",
            "(".repeat(10_000),
            ")".repeat(10_000)
        );
        for text in ["permit", "{{{", deep.as_str()] {
            assert!(!format("a.cedar", text).unwrap_err().is_empty());
        }
    }
}

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

/// How wide a line may be, where it can be broken.
const WIDTH: usize = 90;

/// Lays policies out in one way, keeping comments.
///
/// # Errors
///
/// What is wrong with the text: it must parse, and need not be valid.
pub fn format(file: &str, policies: &str) -> Result<String, Vec<Finding>> {
    on_large_stack(|| {
        let scanned =
            text::scan(file, policies, Language::Policies).map_err(|finding| vec![*finding])?;
        let error = |error: &DetailedError| Finding::from_cedar(error, file, scanned.text);
        let before = parse(scanned.text).map_err(|found| error(&found))?;
        let wrong = |message: &str| vec![Finding::error(file, message)];
        let call = json!({"policyText": scanned.text, "lineWidth": WIDTH});
        let call: FormattingCall =
            serde_json::from_value(call).map_err(|error| wrong(&error.to_string()))?;
        let laid_out = match ffi::format(call) {
            FormattingAnswer::Success { formatted_policy } => formatted_policy,
            FormattingAnswer::Failure { errors } => {
                return Err(errors.iter().flat_map(error).collect());
            }
        };
        // Whatever the printer does: it must not change what the policies say.
        let same = parse(&laid_out).is_ok_and(|after| after == before);
        if same {
            Ok(laid_out)
        } else {
            Err(wrong(
                "the layout would change what the policies say; the file stays as it is",
            ))
        }
    })
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
        let text = "// first\n@id(\"a\") permit(principal,action,resource) // scope\nwhen{ true };\n// last\n";
        let laid_out = format("a.cedar", text).unwrap();
        for comment in ["// first", "// scope", "// last"] {
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

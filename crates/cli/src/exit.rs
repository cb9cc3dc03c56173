//! Exit codes: what scripts may rely on.

use crate::config::ConfigError;

/// It worked.
pub const OK: u8 = 0;
/// It did not work; the message says why.
pub const FAILED: u8 = 1;
/// The command line or the configuration is wrong; nothing was tried.
pub const USAGE: u8 = 2;
/// The orchestrator refused: the token is unknown, or this person may not.
pub const REFUSED: u8 = 3;
/// What the command names does not exist.
pub const NOT_FOUND: u8 = 4;
/// `policy prove` found no solver, or one that does not answer.
pub const NO_SOLVER: u8 = 5;
/// Something was neither proved nor refuted.
pub const NOT_PROVED: u8 = 6;

/// The code for an error, by what is at its bottom.
#[must_use]
pub fn code_of(error: &anyhow::Error) -> u8 {
    for cause in error.chain() {
        if cause.is::<ConfigError>() || cause.is::<Usage>() {
            return USAGE;
        }
        if let Some(error) = cause.downcast_ref::<contract::Error>() {
            return match error.status().map(|status| status.as_u16()) {
                Some(401 | 403) => REFUSED,
                Some(404) => NOT_FOUND,
                _ => FAILED,
            };
        }
        if cause.is::<NotFound>() {
            return NOT_FOUND;
        }
        if cause.is::<NoSolver>() {
            return NO_SOLVER;
        }
    }
    FAILED
}

/// The error for scripts: what went wrong, the exit code, and the orchestrator's status if it
/// answered.
#[must_use]
pub fn as_json(error: &anyhow::Error) -> serde_json::Value {
    let status = error
        .chain()
        .find_map(|cause| cause.downcast_ref::<contract::Error>()?.status());
    let mut json = serde_json::json!({
        "error": format!("{error:#}"),
        "exit_code": code_of(error),
    });
    if let (Some(status), serde_json::Value::Object(json)) = (status, &mut json) {
        json.insert("status".to_owned(), status.as_u16().into());
    }
    json
}

/// Something that the user must say differently.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Usage(pub String);

/// Something that is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotFound(pub String);

/// There is no solver to prove anything with.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NoSolver(pub String);

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn scripts_read_errors_as_json() {
        let refused = contract::Error::Refused {
            status: http::StatusCode::CONFLICT,
            detail: "it is \u{1b}[31mdecided".to_owned(),
        };
        let json = as_json(&anyhow::Error::from(refused).context("while doing"));
        assert_eq!(
            (&json["status"], &json["exit_code"]),
            (&409.into(), &FAILED.into())
        );
        let line = crate::output::json_line(&json).unwrap();
        assert!(
            line.contains("while doing: it is") && !line.contains('\u{1b}') && !line.contains('\n')
        );
        let json = as_json(&Usage("say it".to_owned()).into());
        assert_eq!(
            (json["exit_code"].as_u64(), json.get("status")),
            (Some(2), None)
        );
    }

    #[test]
    fn each_kind_of_error_has_its_code_below_any_context() {
        let refused = |status: u16| contract::Error::Refused {
            status: http::StatusCode::from_u16(status).unwrap(),
            detail: String::new(),
        };
        for (error, expected) in [
            (anyhow::Error::from(refused(401)), REFUSED),
            (refused(403).into(), REFUSED),
            (refused(404).into(), NOT_FOUND),
            (refused(409).into(), FAILED),
            (refused(500).into(), FAILED),
            (Usage(String::new()).into(), USAGE),
            (NotFound(String::new()).into(), NOT_FOUND),
            (NoSolver(String::new()).into(), NO_SOLVER),
            (anyhow::anyhow!("anything"), FAILED),
        ] {
            let error = Err::<(), _>(error).context("while doing").unwrap_err();
            assert_eq!(code_of(&error), expected, "{error:#}");
        }
    }
}

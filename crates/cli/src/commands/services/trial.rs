//! `cedargate services try`: what a command would send, and what comes of sending it.

use std::{
    fmt::Write as _,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use anyhow::anyhow;
use authz::{
    AgentId, Circumstances, Command, Decision, Facts, Permit, PolicySet, PolicySources, Principal,
    Risk, Slice, Source, Timestamp, decide, slice::Action,
};
use handlers::{
    Parsed,
    catalog::{Catalog, HttpRequest, ObjectRequest, Preview, Statements},
};
use serde_json::{Value, json};

use crate::{
    exit::Usage,
    output::{Output, json as shown_json, printable, printable_lines, write_line},
};

/// What is asked for.
pub(super) struct Trial<'a> {
    /// The command, as agents type it.
    pub(super) line: &'a str,
    /// It is sent, not only shown.
    pub(super) send: bool,
    /// Also if it changes something.
    pub(super) yes: bool,
}

/// Shows what a command would send; sends it, if that is wanted.
pub(super) async fn run(
    output: Output,
    catalog: &Catalog,
    trial: &Trial<'_>,
) -> anyhow::Result<()> {
    let wrong = |message: String| anyhow::Error::from(Usage(message));
    let command = match catalog.parse_slash(trial.line) {
        Ok(Parsed::Command(command)) => command,
        Ok(Parsed::Help { service }) => {
            let message = format!("which command? `cedargate services show {service}` has them");
            return Err(wrong(message));
        }
        Err(error) => return Err(wrong(error.to_string())),
    };
    let preview = catalog.preview(&command).map_err(wrong)?;
    let Some(preview) = preview else {
        let message = format!("`{}` sends no request of its own", command.target.key);
        return Err(wrong(message));
    };
    let mut shown = json!({
        "command": command.target.key, "risk": command.target.risk,
        "arguments": catalog.redacted(&command), "request": preview,
    });
    if !trial.send {
        return output.print(&shown, |_| request(&preview));
    }
    may_be_sent(catalog, &command, trial.yes)?;
    if !output.json {
        // First, so that it is seen also if the answer never comes.
        write_line(&format!("{}\n", request(&preview)))?;
    }
    let permit = permit(command)?;
    match catalog.handle(permit).await {
        Ok(answer) => {
            if !output.json {
                return write_line(&shown_json(&answer.data)?);
            }
            if let Value::Object(shown) = &mut shown {
                shown.insert("answer".to_owned(), answer.data);
                shown.insert("untrusted".to_owned(), json!(answer.untrusted));
            }
            output.print(&shown, |_| String::new())
        }
        // With what its source says: people who try a service are its operators.
        Err(error) => Err(anyhow!(printable(&error.to_string()))),
    }
}

/// Refuses what cannot be sent, and what should not be by mistake.
fn may_be_sent(catalog: &Catalog, command: &Command, yes: bool) -> anyhow::Result<()> {
    let target = &command.target;
    let service = catalog.service(target.key.service.as_str());
    let problem = service.and_then(|service| service.error_message.clone());
    if let Some(problem) = problem {
        return Err(Usage(format!(
            "nothing is sent: `{}` is not configured: {problem}",
            target.key.service
        ))
        .into());
    }
    let harm = match target.risk {
        Risk::Read => return Ok(()),
        Risk::Write => "changes something",
        Risk::Destroy => "deletes, stops or spends something",
    };
    if yes {
        return Ok(());
    }
    Err(Usage(format!(
        "nothing is sent: `{}` {harm}; `--yes` sends it all the same",
        target.key
    ))
    .into())
}

fn request(preview: &Preview) -> String {
    let text = match preview {
        Preview::Request(request) => http(request),
        Preview::Object(request) => object(request),
        Preview::Statements(statements) => transaction(statements),
    };
    text.trim_end().to_owned()
}

fn http(request: &HttpRequest) -> String {
    let mut text = format!("{} {}\n", request.method, printable(&request.url));
    headers(&mut text, &request.headers);
    if let Some(body) = &request.body {
        text.push('\n');
        text.push_str(&printable(body));
    }
    text
}

fn headers(text: &mut String, headers: &[(String, String)]) {
    for (name, value) in headers {
        let _ = writeln!(text, "{}: {}", printable(name), printable(value));
    }
}

fn object(request: &ObjectRequest) -> String {
    let mut text = format!("{} {}\n", request.method, printable(&request.url));
    headers(&mut text, &request.headers);
    let _ = write!(
        text,
        "\nbucket: {}\nkey: {}",
        printable(&request.bucket),
        printable(&request.key)
    );
    text
}

fn transaction(asked: &Statements) -> String {
    let place = match &asked.address {
        Some(address) => printable(address),
        None => "not configured".to_owned(),
    };
    let mut text = format!(
        "database {} ({place}), {}, at most {} rows\n",
        printable(&asked.database),
        asked.transaction,
        asked.max_rows
    );
    for statement in &asked.statements {
        let _ = write!(text, "\n{};\n", printable_lines(statement));
    }
    for (index, value) in asked.parameters.iter().enumerate() {
        let _ = write!(text, "\n${} = {}", index + 1, printable(&value.to_string()));
    }
    text
}

/// Handlers take nothing but what was permitted. Here the operator has said so: who may run
/// this has the credentials already.
fn permit(command: Command) -> anyhow::Result<Permit> {
    const POLICY: &str = r#"@id("operator.try") permit (principal is Agent, action in Action::"invoke", resource is Command) when { principal.trust >= 0 };"#;
    let sources = PolicySources {
        schema: crate::data_folder::shipped_sources().schema,
        policies: vec![Source {
            name: "try.cedar".to_owned(),
            text: POLICY.to_owned(),
        }],
    };
    let findings = |findings: Vec<authz::Finding>| {
        let findings: Vec<String> = findings.iter().map(ToString::to_string).collect();
        anyhow!("the shipped schema cannot be used: {}", findings.join("; "))
    };
    let (policies, _) = PolicySet::load(&sources).map_err(findings)?;
    let slice = Slice::new(&Arc::new(policies), &command.target, Action::Invoke);
    let agent = json!({"id": AgentId::LOCAL.to_string(), "name": "local"});
    let agent = Principal::new(Facts {
        agent: serde_json::from_value(agent)?,
        grants: Vec::new(),
        version: 0,
    });
    // Nothing here depends on the time.
    let now = Timestamp::from_millis(0);
    let at = Circumstances::new(now, IpAddr::V4(Ipv4Addr::LOCALHOST));
    match decide(&slice, &agent, command, at) {
        Decision::Permit(permit) => Ok(permit),
        Decision::Refuse(_) => Err(anyhow!("the command cannot be permitted")),
    }
}

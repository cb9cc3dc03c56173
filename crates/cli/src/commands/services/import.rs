//! `cedargate services import`: an OpenAPI document becomes a description.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write as _},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use handlers::openapi_import::{self, Group, MAX_DOCUMENT_BYTES, Options, Report};
use reqwest::{Url, header};
use serde_json::json;

use crate::{
    arguments::{Global, Import},
    exit::Usage,
    output::{Output, printable},
};

/// How long the document may take to come, all of it.
const DEADLINE: Duration = Duration::from_mins(1);

/// How many operations a message names.
const NAMED: usize = 5;

pub(super) async fn run(global: &Global, import: &Import) -> anyhow::Result<()> {
    let output = Output::new(global.json);
    let (text, origin) = if is_address(&import.document) {
        let url = Url::parse(&import.document)
            .map_err(|error| Usage(format!("`{}` is no address: {error}", import.document)))?;
        (fetched(&url).await?, Some(url))
    } else {
        (read(&import.document)?, None)
    };
    let options = Options {
        name: import.name.clone(),
        replaces: import.replaces,
        origin,
        include: import.include.clone(),
        tags: import.tags.clone(),
        operations: import.operations.clone(),
        deprecated: import.deprecated,
        security: import.security.clone(),
    };
    let imported = openapi_import::import(&text, &options).map_err(|error| {
        let message = printable(&error.to_string());
        Usage(format!("`{}`: {message}", import.document))
    })?;
    let written = import
        .output
        .as_deref()
        .map(|path| write(path, &imported.text, import.force).map(|()| path))
        .transpose()?;
    let name = imported.name.as_str();
    if output.json {
        let value = json!({
            "name": name, "file": written, "report": imported.report,
            "description": written.is_none().then_some(&imported.text),
        });
        return output.print(&value, |_| String::new());
    }
    // What is piped on is the description alone.
    let _ = std::io::stderr().write_all(told(name, &imported.report, written).as_bytes());
    match written {
        Some(_) => Ok(()),
        None => crate::output::write_line(imported.text.trim_end()),
    }
}

fn is_address(document: &str) -> bool {
    let scheme = document.split_once("://").map(|(scheme, _)| scheme);
    scheme.is_some_and(|scheme| {
        scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
    })
}

/// A file, or standard input.
fn read(document: &str) -> anyhow::Result<String> {
    let unreadable = |error| Usage(format!("`{document}` cannot be read: {error}"));
    let limit = MAX_DOCUMENT_BYTES as u64 + 1;
    let mut bytes = Vec::new();
    if document == "-" {
        let stdin = std::io::stdin().lock();
        stdin.take(limit).read_to_end(&mut bytes)
    } else {
        File::open(document).and_then(|file| file.take(limit).read_to_end(&mut bytes))
    }
    .map_err(unreadable)?;
    text(document, bytes)
}

fn text(document: &str, bytes: Vec<u8>) -> anyhow::Result<String> {
    if bytes.len() > MAX_DOCUMENT_BYTES {
        return Err(Usage(too_long(document)).into());
    }
    String::from_utf8(bytes).map_err(|_| Usage(format!("`{document}` is not UTF-8")).into())
}

fn too_long(document: &str) -> String {
    format!(
        "`{document}` is longer than {} MiB",
        MAX_DOCUMENT_BYTES >> 20
    )
}

/// What is at an address. Redirects are not followed: where they lead is for the operator
/// to judge.
async fn fetched(url: &Url) -> anyhow::Result<String> {
    let wrong = |what: String| anyhow::Error::from(Usage(format!("`{url}` {what}")));
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Usage("the address holds a user or a password".to_owned()).into());
    }
    let client = reqwest::Client::builder()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(10))
        .timeout(DEADLINE)
        .user_agent(concat!("cedargate/", env!("CARGO_PKG_VERSION")))
        .build()
        .context("the HTTP client cannot be made")?;
    let failed = |error: reqwest::Error| {
        let error = error.without_url();
        if error.is_timeout() {
            wrong(format!("does not answer within {} s", DEADLINE.as_secs()))
        } else {
            let mut cause: &dyn std::error::Error = &error;
            while let Some(deeper) = cause.source() {
                cause = deeper;
            }
            wrong(format!(
                "cannot be fetched: {}",
                printable(&cause.to_string())
            ))
        }
    };
    let mut response = client
        .get(url.clone())
        .header(
            header::ACCEPT,
            "application/json, application/yaml, text/yaml, text/plain;q=0.5, */*;q=0.1",
        )
        .send()
        .await
        .map_err(failed)?;
    let status = response.status();
    if status.is_redirection() {
        let target = response
            .headers()
            .get(header::LOCATION)
            .and_then(|target| target.to_str().ok())
            .and_then(|target| url.join(target).ok())
            .map_or_else(|| "nowhere".to_owned(), |target| format!("`{target}`"));
        return Err(wrong(format!(
            "redirects to {}: name that address if it is the right one",
            printable(&target)
        )));
    }
    if !status.is_success() {
        return Err(wrong(format!("answers {status}")));
    }
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > MAX_DOCUMENT_BYTES {
            return Err(Usage(too_long(url.as_str())).into());
        }
    }
    text(url.as_str(), bytes)
}

fn write(path: &Path, text: &str, force: bool) -> anyhow::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true);
    } else {
        options.create_new(true);
    }
    let opened = options.open(path).map_err(|error| {
        let hint = match error.kind() {
            std::io::ErrorKind::AlreadyExists => "; `--force` overwrites it",
            _ => "",
        };
        Usage(format!(
            "`{}` cannot be written: {error}{hint}",
            path.display()
        ))
    });
    opened?
        .write_all(text.as_bytes())
        .with_context(|| format!("`{}` cannot be written", path.display()))
}

/// What became of the document, for people.
fn told(name: &str, report: &Report, written: Option<&Path>) -> String {
    let mut text = String::new();
    let mut line = |line: &str| {
        text.push_str(&printable(line));
        text.push('\n');
    };
    let into = written.map_or_else(String::new, |path| format!(", in `{}`", path.display()));
    line(&format!(
        "service `{name}`: {}{into}",
        count(report.commands, "command")
    ));
    for remark in &report.remarks {
        line(&format!("  {remark}"));
    }
    let groups = [
        ("left out", &report.left_out),
        ("simplified", &report.simplified),
    ];
    for (what, groups) in groups {
        let all: usize = groups.iter().map(|group| group.operations.len()).sum();
        if all > 0 {
            line(&format!("{what}: {}", count(all, "operation")));
        }
        for Group { why, operations } in groups {
            line(&format!("  {:>4}  {why}", operations.len()));
            for operation in operations.iter().take(NAMED) {
                line(&format!("          {operation}"));
            }
            if operations.len() > NAMED {
                let others = operations.len() - NAMED;
                line(&format!("          and {others} more; --json names all"));
            }
        }
    }
    if report.not_asked_for > 0 {
        line(&format!(
            "not asked for: {}",
            count(report.not_asked_for, "operation")
        ));
    }
    text
}

fn count(count: usize, what: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {what}{ending}")
}

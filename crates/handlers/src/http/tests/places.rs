//! Whatever an agent writes into an argument stays in that argument's place: every argument
//! of every command of every service that comes with the binary.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;
use serde_json::json;

use super::*;
use crate::{
    catalog::BUILT_IN,
    description::{ArgumentType, Piece, Place},
    preview::{HttpRequest, Preview},
};

/// What is tried in each of them, alone and after a value that would be right.
const TRICKS: [&str; 22] = [
    "..",
    ".",
    "../x",
    "x/../../y",
    "/etc/passwd",
    "//elsewhere.example/x",
    "https://elsewhere.example/x",
    "..\\x",
    "%2e%2e",
    "%2e%2e%2f",
    "%252e%252e",
    "%c0%ae%c0%ae/",
    "..;/x",
    "x?y=z",
    "x&y=z",
    "x#y",
    "x y=z",
    "x\r\nX-Injected: y",
    "x\n\nGET / HTTP/1.1",
    "\u{0}",
    "{agent.id}",
    "\u{ff0e}\u{ff0e}\u{2215}x",
];

/// One thing of a request, and where it is.
type Leaf = (String, String);

/// A request, taken apart as its receiver does.
fn leaves(preview: &HttpRequest, several: Option<(usize, usize)>) -> Vec<Leaf> {
    let url = reqwest::Url::parse(&preview.url).unwrap();
    let mut leaves = vec![
        ("method".to_owned(), preview.method.clone()),
        ("origin".to_owned(), url.origin().ascii_serialization()),
        ("user".to_owned(), url.username().to_owned()),
        (
            "fragment".to_owned(),
            url.fragment().unwrap_or_default().to_owned(),
        ),
    ];
    let mut segments: Vec<String> = url
        .path_segments()
        .unwrap()
        .map(|segment| {
            assert!(
                segment.bytes().all(|byte| byte.is_ascii_graphic()),
                "{segment:?}"
            );
            let decoded = percent_decode_str(segment).decode_utf8().unwrap();
            assert!(!matches!(&*decoded, "" | "." | ".."), "{}", preview.url);
            decoded.into_owned()
        })
        .collect();
    // An argument that is several segments is one thing.
    if let Some((before, after)) = several {
        let joined = segments
            .splice(before..segments.len() - after, [])
            .collect::<Vec<_>>()
            .join("/");
        segments.insert(before, joined);
    }
    for (at, segment) in segments.into_iter().enumerate() {
        leaves.push((format!("segment {at}"), segment));
    }
    for (at, (name, value)) in url.query_pairs().enumerate() {
        leaves.push((format!("query {at} {name}"), value.into_owned()));
    }
    for (name, value) in &preview.headers {
        assert!(!value.contains(['\r', '\n', '\0']), "{name}: {value:?}");
        leaves.push((format!("header {name}"), value.clone()));
    }
    match preview.body.as_deref().map(serde_json::from_str::<Value>) {
        None => {}
        Some(Ok(body)) => in_json("body".to_owned(), &body, &mut leaves),
        Some(Err(_)) => {
            let form = format!("http://form/?{}", preview.body.as_deref().unwrap());
            let form = reqwest::Url::parse(&form).unwrap();
            assert_eq!(form.fragment(), None);
            for (at, (name, value)) in form.query_pairs().enumerate() {
                leaves.push((format!("form {at} {name}"), value.into_owned()));
            }
        }
    }
    leaves
}

fn in_json(at: String, value: &Value, leaves: &mut Vec<Leaf>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                in_json(format!("{at}.{name}"), value, leaves);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                in_json(format!("{at}[{index}]"), value, leaves);
            }
        }
        Value::String(text) => leaves.push((at, text.clone())),
        other => leaves.push((at, other.to_string())),
    }
}

/// How many segments stand before and after the argument `name`, which is several, in the
/// path of `url`, where its value is `value`.
fn around(line: &RequestLine, name: &str, url: &str, value: &str) -> Option<(usize, usize)> {
    let pieces = line.path.iter().rev();
    let after = pieces
        .filter(|piece| !matches!(piece, Piece::Text(text) if text == "/"))
        .position(|piece| matches!(piece, Piece::Segments(found) if found == name))?;
    let all = reqwest::Url::parse(url).unwrap().path_segments()?.count();
    Some((all - after - value.split('/').count(), after))
}

/// What became of all tricks.
#[derive(Debug, Default)]
struct Tally {
    arguments: usize,
    refused: usize,
    kept: usize,
}

impl Tally {
    /// Tries every trick in one argument of a command.
    fn argument(
        &mut self,
        catalog: &Catalog,
        service: &str,
        command: &description::Command,
        argument: &Argument,
    ) {
        let example: Map<String, Value> = command
            .example
            .iter()
            .map(|(name, value)| (name.clone(), to_json(value).unwrap()))
            .collect();
        let listed = argument.kind == ArgumentType::Array;
        let preview = |text: &str| {
            let mut arguments = example.clone();
            let value = if listed { json!([text]) } else { json!(text) };
            arguments.insert(argument.name.clone(), value);
            let name = command.name.get_ref().as_str();
            match catalog.command(service, name, Value::Object(arguments)) {
                Ok(Parsed::Command(command)) => catalog.preview(&command).map(|preview| {
                    let Some(Preview::Request(request)) = preview else {
                        panic!("{preview:?}")
                    };
                    request
                }),
                Ok(other) => panic!("{other:?}"),
                Err(error) => Err(error.to_string()),
            }
        };
        let shown = example.get(&argument.name);
        let shown = if listed {
            shown.and_then(|list| list.get(0))
        } else {
            shown
        };
        let harmless = shown
            .and_then(Value::as_str)
            .unwrap_or("harmless")
            .to_owned();
        let at = format!("{service}/{} `{}`", command.name.get_ref(), argument.name);
        // One whose form we cannot guess, and no example shows.
        let Ok(usual) = preview(&harmless) else {
            assert!(
                argument.pattern.is_some()
                    || argument.schema.is_some()
                    || !argument.options.is_empty(),
                "{at}"
            );
            for trick in TRICKS {
                assert!(preview(trick).is_err(), "{at}: {trick:?}");
            }
            return;
        };
        self.arguments += 1;
        let several = around(&command.request, &argument.name, &usual.url, &harmless);
        let usual_leaves = leaves(&usual, several);
        let cases = TRICKS
            .iter()
            .flat_map(|trick| [(*trick).to_owned(), format!("{harmless}{trick}")]);
        for trick in cases {
            let Ok(tried) = preview(&trick) else {
                self.refused += 1;
                continue;
            };
            self.kept += 1;
            let tried = leaves(&tried, several);
            assert_eq!(
                tried.len(),
                usual_leaves.len(),
                "{at}: {trick:?}: {tried:#?}"
            );
            let mut changed = 0;
            for ((place, value), (usual_place, usual)) in tried.iter().zip(&usual_leaves) {
                assert_eq!(place, usual_place, "{at}: {trick:?}");
                if value == usual {
                    continue;
                }
                changed += 1;
                // A slash at the beginning of several segments is that of the path.
                let expected = [trick.as_str(), trick.strip_prefix('/').unwrap_or(&trick)];
                assert!(
                    expected
                        .map(|text| usual.replace(&harmless, text))
                        .contains(value),
                    "{at}: {trick:?} became {value:?} in {place}, where {usual:?} was"
                );
            }
            let shown = !argument.secret && argument.place != Some(Place::Answer);
            assert!(
                changed > 0 || !shown || argument.place == Some(Place::Pages),
                "{at}: {trick:?} is nowhere"
            );
        }
    }
}

#[test]
fn no_argument_of_any_command_leaves_its_place() {
    let catalog = Catalog::load(&|name| match name {
        "HTTP_TIMEOUT_MS" => None,
        _ if name.ends_with("_API_URL") => Some("http://vendor.example/base".to_owned()),
        _ if name.ends_with("_API_KEY")
            || name.ends_with("_API_TOKEN")
            || name.ends_with("_SECRET_KEY")
            || name == "GITHUB_PAT" =>
        {
            Some("secret-of-ours".to_owned())
        }
        _ => None,
    })
    .unwrap();
    let mut tally = BTreeMap::new();
    for (file, text) in BUILT_IN {
        let description = Description::read(file, text).unwrap();
        if description.kind != description::Kind::Http {
            continue;
        }
        let service = description.name().to_string();
        let own: &mut Tally = tally.entry(service.clone()).or_default();
        for command in &description.commands {
            let text = command.arguments.iter().filter(|argument| {
                argument.kind == ArgumentType::String
                    || argument.kind == ArgumentType::Array
                        && argument.items == Some(ArgumentType::String)
            });
            for argument in text {
                own.argument(&catalog, &service, command, argument);
            }
        }
    }
    // Nothing of this was tried in vain.
    assert_eq!(tally.len(), 9, "{tally:?}");
    for (service, own) in &tally {
        assert!(
            own.arguments > 0 && own.kept + own.refused > 20,
            "{service}: {own:?}"
        );
    }
    let kept: usize = tally.values().map(|own| own.kept).sum();
    let refused: usize = tally.values().map(|own| own.refused).sum();
    assert!(kept > 1_000 && refused > 1_000, "{kept} {refused}");
}

/// Where no pattern helps: in headers, which have no way of writing everything.
#[tokio::test]
async fn nothing_is_injected_into_headers() {
    let answers = (0..3).map(|_| answer("200 OK", "content-type: application/json", "{}"));
    let raw = Raw::start(answers.collect()).await;
    let catalog = sample(
        raw.address,
        "request = \"GET /x\"\nanswer = { merge = true }\narguments = [{ name = \"trace\", as = \"X-Trace\", in = \"header\", description = \"It\" }]",
    );
    for trick in [
        "x\r\nX-Injected: y",
        "x\nX-Injected: y",
        "x\rX-Injected: y",
        "x\r\n\r\nGET /admin HTTP/1.1\r\nHost: y",
        "x\u{0}y",
        "x\u{7f}y",
    ] {
        let command = catalog.command("sample", "do-it", json!({"trace": trick}));
        let Ok(Parsed::Command(command)) = command else {
            panic!("{trick:?}")
        };
        let error = catalog.carry_out(&command).await.unwrap_err();
        assert!(
            matches!(&error, HandlerError::Rejected { status: 400, message, .. }
                if message.contains("a character that no header may") && !message.contains("Injected")),
            "{trick:?}: {error:?}"
        );
    }
    assert!(raw.lines().is_empty(), "{:?}", raw.lines());
    // What headers can hold arrives as one, and as nothing else.
    for (value, sent) in [
        ("a: b, c; d=\"e\"", "x-trace: a: b, c; d=\"e\""),
        ("x\ty", "x-trace: x\ty"),
        (
            "authorization: bearer x",
            "x-trace: authorization: bearer x",
        ),
    ] {
        let Ok(Parsed::Command(command)) =
            catalog.command("sample", "do-it", json!({"trace": value}))
        else {
            panic!("{value}")
        };
        catalog.carry_out(&command).await.unwrap();
        let seen = raw.last();
        assert!(
            seen.headers.contains(&sent.to_owned()),
            "{:?}",
            seen.headers
        );
        assert!(
            !seen
                .headers
                .iter()
                .any(|line| line.starts_with("authorization"))
        );
    }
}

#[tokio::test]
async fn what_is_told_about_pages_stays_there_too() {
    let body = json!([{"id": 1}]).to_string();
    let next = "content-type: application/json\r\nlink: <http://127.0.0.1:9/trap>; rel=\"next\"";
    let raw = Raw::start(vec![
        answer("200 OK", next, &body),
        answer("200 OK", next, &body),
    ])
    .await;
    let catalog = sample(
        raw.address,
        "request = \"GET /x\"\npages = { by = \"page\", parameter = \"page\", size = \"per_page\", size_max = 1, default = 2, link = true }\nanswer = { list = \"things\" }",
    );
    // The service may say where the next page is; it is asked for at the service all the same.
    let data = send(&catalog, "/mcp-sample do-it --page 18446744073709551615")
        .await
        .unwrap();
    assert_eq!(
        raw.lines(),
        [
            "GET /x?per_page=1&page=18446744073709551615 HTTP/1.1",
            "GET /x?per_page=1&page=18446744073709551615 HTTP/1.1"
        ]
    );
    assert_eq!(data["truncated"], json!(true));
    // A cursor is whatever the service says it is, and still one parameter.
    let cursor = "x&admin=1#\r\nHost: y/../..";
    let first = json!({"items": [1], "next": cursor}).to_string();
    let last = json!({"items": [2]}).to_string();
    let json = "content-type: application/json";
    let raw = Raw::start(vec![
        answer("200 OK", json, &first),
        answer("200 OK", json, &last),
    ])
    .await;
    let catalog = sample(
        raw.address,
        "request = \"GET /x\"\npages = { by = \"cursor\", parameter = \"after\", next = \"next\", size_max = 1, default = 2 }\nanswer = { list = \"things\", at = \"items\" }",
    );
    send(&catalog, "/mcp-sample do-it").await.unwrap();
    assert_eq!(
        raw.last().line,
        "GET /x?after=x%26admin%3D1%23%0D%0AHost%3A%20y%2F..%2F.. HTTP/1.1"
    );
}

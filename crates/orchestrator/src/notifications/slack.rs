//! Messages as Slack, and what understands the same, shows them.
//!
//! What agents wrote is only ever `plain_text`, in which nothing is a link or a mention.

use authz::{ApprovalRequestId, MessageId, Risk, approval::is_service_access};
use contract::{
    approvals::ApprovalStatus,
    notifications::{AgentData, Data, Event, PolicyData, RequestData},
};
use serde_json::{Value, json};

use super::snapshot::{headline, line};
use crate::approvals::visible;

/// More requests in one message would be more than its 50 blocks.
const MAX_REQUESTS: usize = 8;

/// A text block is at most 3,000 characters.
const MAX_TEXT_CHARS: usize = 1_500;

/// What a button's value and a callback say: which request, of which message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pressed {
    pub(super) message: MessageId,
    pub(super) approval: ApprovalRequestId,
}

impl Pressed {
    fn value(self) -> String {
        format!("{} {}", self.message, self.approval)
    }

    pub(super) fn parse(value: &str) -> Option<Self> {
        let (message, approval) = value.split_once(' ')?;
        Some(Self {
            message: message.parse().ok()?,
            approval: approval.parse().ok()?,
        })
    }
}

/// The body of a message; with buttons only if callbacks can be verified.
pub(super) fn body(id: MessageId, events: &[Event], buttons: bool) -> Value {
    let text = escaped(&headline(events));
    let mut blocks = Vec::new();
    if events.len() > 1 {
        blocks.push(json!({
            "type": "section",
            "text": { "type": "mrkdwn", "text": format!("*{text}*") },
        }));
    }
    for event in events.iter().take(MAX_REQUESTS) {
        match &event.data {
            Data::Request(request) => blocks.extend(self::request(id, event, request, buttons)),
            Data::Agent(agent) => blocks.push(self::agent(event, agent)),
            Data::Policy(policy) => blocks.extend(self::policy(event, policy)),
            Data::Digest(_) | Data::Test(_) => {
                blocks.push(said(&format!("*{}*", escaped(&line(event)))));
            }
        }
    }
    if let Some(more) = events
        .len()
        .checked_sub(MAX_REQUESTS)
        .filter(|&more| more > 0)
    {
        blocks.push(said(&format!("and {more} more")));
    }
    json!({ "text": text, "blocks": blocks })
}

fn request(id: MessageId, event: &Event, request: &RequestData, buttons: bool) -> Vec<Value> {
    let link = format!("<{}|{}>", request.url, request.request_id);
    let mut blocks = vec![said(&format!("*{}*", escaped(&line(event))))];
    if !request.reason.is_empty() {
        blocks.push(plain(&format!("Why: {}", request.reason)));
    }
    if !request.arguments.is_empty() {
        let arguments = serde_json::to_string(&request.arguments).unwrap_or_default();
        blocks.push(plain(&format!("With: {arguments}")));
    }
    let mut facts = vec![link];
    if request.status == ApprovalStatus::Pending {
        facts.push(format!(
            "{} of {} approvals",
            request.approvals_given, request.approvals_needed
        ));
        let expires = request.expires;
        facts.push(format!(
            "expires <!date^{}^{{date_short_pretty}} {{time}}|{expires}>",
            expires.as_millis() / 1_000
        ));
    } else {
        let by: Vec<String> = request
            .decided_by
            .iter()
            .map(|user| escaped(user.as_str()))
            .collect();
        let by = if by.is_empty() {
            String::new()
        } else {
            format!(" by {}", by.join(" and "))
        };
        facts.push(format!("*{}*{by}", request.status.as_str()));
    }
    blocks.push(json!({
        "type": "context",
        "elements": [{ "type": "mrkdwn", "text": facts.join(" · ") }],
    }));
    if request.status != ApprovalStatus::Pending && !request.note.is_empty() {
        blocks.push(plain(&format!("They said: {}", request.note)));
    }
    if buttons && request.status == ApprovalStatus::Pending {
        blocks.push(self::buttons(id, request));
    }
    blocks
}

fn buttons(id: MessageId, request: &RequestData) -> Value {
    let value = Pressed {
        message: id,
        approval: request.request_id,
    }
    .value();
    let what = if is_service_access(&request.command) {
        "Approve the service, 1 h"
    } else {
        "Approve this call, 1 h"
    };
    let text = |text: &str| json!({ "type": "plain_text", "text": text });
    let mut approve = json!({
        "type": "button",
        "action_id": "approve",
        "style": "primary",
        "text": text(what),
        "value": value,
    });
    if let (Risk::Destroy, Value::Object(approve)) = (request.risk, &mut approve) {
        approve.insert(
            "confirm".to_owned(),
            json!({
                "title": text("This destroys something"),
                "text": text(&format!("{} may then run {} once it asks again.", request.agent_name, request.command)),
                "confirm": text("Approve"),
                "deny": text("Not now"),
                "style": "danger",
            }),
        );
    }
    json!({
        "type": "actions",
        "block_id": request.request_id,
        "elements": [
            approve,
            {
                "type": "button",
                "action_id": "reject",
                "style": "danger",
                "text": text("Reject"),
                "value": value,
            },
            { "type": "button", "action_id": "open", "text": text("More…"), "url": request.url },
        ],
    })
}

fn agent(event: &Event, agent: &AgentData) -> Value {
    let owner = agent
        .owner
        .as_ref()
        .map(|owner| format!(" · {} answers for it", escaped(owner.as_str())))
        .unwrap_or_default();
    said(&format!("*{}*{owner}", escaped(&line(event))))
}

fn policy(event: &Event, policy: &PolicyData) -> Vec<Value> {
    let by = if policy.by.is_empty() {
        String::new()
    } else {
        format!(" · by {}", escaped(&policy.by))
    };
    let mut blocks = vec![said(&format!("*{}*{by}", escaped(&line(event))))];
    if !policy.note.is_empty() {
        blocks.push(plain(&policy.note));
    }
    blocks
}

/// Our own words.
fn said(text: &str) -> Value {
    json!({ "type": "section", "text": { "type": "mrkdwn", "text": text } })
}

/// Someone else's words.
fn plain(text: &str) -> Value {
    let shown = visible(text);
    let mut short: String = shown.chars().take(MAX_TEXT_CHARS).collect();
    if short.len() < shown.len() {
        short.push_str("… (the rest is on the page)");
    }
    json!({ "type": "section", "text": { "type": "plain_text", "text": short, "emoji": false } })
}

/// What only the person who pressed sees.
pub(super) fn ephemeral(text: &str) -> Value {
    json!({
        "response_type": "ephemeral",
        "replace_original": false,
        "text": escaped(&visible(text)),
    })
}

/// The message, as it is after someone decided.
pub(super) fn update(id: MessageId, events: &[Event]) -> Value {
    let mut body = body(id, events, true);
    if let Value::Object(body) = &mut body {
        body.insert("replace_original".to_owned(), true.into());
    }
    body
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use authz::Timestamp;
    use contract::notifications::EventKind;

    use super::{super::snapshot::tests::request as asked, *};

    fn id() -> MessageId {
        MessageId::generate(Timestamp::from_millis(0))
    }

    /// Every text that Slack would read links and mentions in.
    fn marked_up(body: &Value, found: &mut Vec<String>) {
        match body {
            Value::Object(object) => {
                if object.get("type") == Some(&json!("mrkdwn")) {
                    found.push(object["text"].as_str().unwrap().to_owned());
                }
                object.values().for_each(|value| marked_up(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| marked_up(item, found)),
            _ => {}
        }
    }

    #[test]
    fn an_agents_words_are_never_markup() {
        let body = body(id(), &[asked(EventKind::RequestOpened)], true);
        let mut found = vec![body["text"].as_str().unwrap().to_owned()];
        marked_up(&body, &mut found);
        for text in &found {
            assert!(
                !text.contains("evil") && !text.contains("channel") && !text.contains("here"),
                "{text}"
            );
        }
        let text = body.to_string();
        assert!(
            text.contains("<!channel>") && text.contains("evil"),
            "but they are shown: {text}"
        );
        assert_eq!(escaped("<!channel> &"), "&lt;!channel&gt; &amp;");
    }

    #[test]
    fn buttons_are_there_while_someone_can_decide() {
        let event = asked(EventKind::RequestOpened);
        let actions = |event: &Event, buttons| {
            body(id(), std::slice::from_ref(event), buttons)["blocks"]
                .as_array()
                .unwrap()
                .iter()
                .find(|block| block["type"] == "actions")
                .cloned()
        };
        let found = actions(&event, true).unwrap();
        let value = found["elements"][0]["value"].as_str().unwrap();
        let Data::Request(request) = &event.data else {
            panic!()
        };
        assert_eq!(Pressed::parse(value).unwrap().approval, request.request_id);
        assert!(found["elements"][0].get("confirm").is_none());
        assert_eq!(
            actions(&event, false),
            None,
            "nothing could verify what they send"
        );

        let mut decided = event.clone();
        let Data::Request(request) = &mut decided.data else {
            panic!()
        };
        request.status = ApprovalStatus::Approved;
        request.decided_by = vec!["amy".parse().unwrap()];
        assert_eq!(actions(&decided, true), None);
        assert!(
            body(id(), &[decided], true)
                .to_string()
                .contains("*approved* by amy")
        );

        let mut destroys = event;
        let Data::Request(request) = &mut destroys.data else {
            panic!()
        };
        request.risk = Risk::Destroy;
        assert!(
            actions(&destroys, true).unwrap()["elements"][0]
                .get("confirm")
                .is_some()
        );
    }

    #[test]
    fn a_message_stays_within_slacks_limits() {
        let mut event = asked(EventKind::RequestOpened);
        let Data::Request(request) = &mut event.data else {
            panic!()
        };
        request.reason = "ä".repeat(2_000);
        request
            .arguments
            .insert("long".to_owned(), "x\u{202e}".repeat(4_000).into());
        let body = body(id(), &vec![event; 30], true);
        let blocks = body["blocks"].as_array().unwrap();
        assert!(blocks.len() <= 50, "{}", blocks.len());
        for block in blocks {
            if let Some(text) = block["text"]["text"].as_str() {
                assert!(text.chars().count() <= 3_000);
            }
        }
        assert!(body.to_string().contains("and 22 more"));
        assert!(!body.to_string().contains('\u{202e}'));
    }
}

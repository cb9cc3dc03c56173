use serde_json::json;

use super::*;
use crate::{Action, Risk, fixtures::*};

#[test]
fn it_says_what_the_set_would_decide() {
    let shipped = shipped();
    let walled = shipped_with(
        r#"@id("test.wall") @advice("Not today.")
           forbid (principal is Agent, action in Action::"invoke", resource == Command::"coolify/list-servers");"#,
    );
    let failing = shipped_with(
        r#"@id("test.overflow")
           forbid (principal is Agent, action in Action::"invoke", resource is Command)
           when { principal.trust + 9223372036854775807 > 0 };"#,
    );
    let list = command(target("coolify/list-servers", Risk::Read), json!({}));
    let stranger = principal(agent(), Vec::new());
    let mut friend = agent();
    friend.allowed_mcps = ["coolify".parse().unwrap()].into();
    let friend = principal(friend, Vec::new());

    let cases = [
        (
            "standing access",
            &shipped,
            &friend,
            Fate::Permit,
            "standing.allowed-services",
        ),
        ("nothing permits", &shipped, &stranger, Fate::Escalate, ""),
        ("a wall", &walled, &friend, Fate::Refuse, "test.wall"),
        (
            "a wall for all",
            &walled,
            &stranger,
            Fate::Refuse,
            "test.wall",
        ),
        (
            "a forbid that fails",
            &failing,
            &friend,
            Fate::Refuse,
            "test.overflow",
        ),
    ];
    for (name, policies, who, fate, policy) in cases {
        let preview = preview(
            &slice(policies, &list, Action::Invoke),
            &slice(policies, &list, Action::Escalate),
            who,
            &list,
            at(NOON),
        );
        assert_eq!(
            (preview.fate, preview.policies.join(" ").as_str()),
            (fate, policy),
            "{name}"
        );
    }
}

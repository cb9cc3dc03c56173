use authz::{Source, policy_set::Severity};

use super::*;
use crate::testing::{ODD_TEXTS, actor, after, at, on_both_engines, version};

fn sources(text: &str) -> PolicySources {
    let source = |name: &str| Source {
        name: name.to_owned(),
        text: text.to_owned(),
    };
    PolicySources {
        schema: source("schema.cedarschema"),
        policies: vec![source("base.cedar"), source("a/b.cedar")],
    }
}

fn warning() -> Finding {
    Finding {
        severity: Severity::Warning,
        file: "base.cedar".to_owned(),
        line: Some(3),
        column: None,
        policy: Some("base.read".to_owned()),
        message: "nothing matches".to_owned(),
        help: None,
        excerpt: None,
    }
}

on_both_engines! {
    async fn one_set_is_in_force(fixture) {
        let store = &fixture.store;
        assert!(store.active_policy_set().await.unwrap().is_none());
        let (a, b) = (version("a"), version("b"));
        assert!(store.activate_policy_set(&a, &sources("a"), &[warning()], &actor()).await.unwrap());
        assert!(!store.activate_policy_set(&a, &sources("a"), &[], &at(after(1))).await.unwrap());
        assert_eq!(store.feed_head().await.unwrap(), 1, "already in force: no event");
        let active = store.active_policy_set().await.unwrap().unwrap();
        assert_eq!((&active.version, &active.sources, active.findings.len()), (&a, &sources("a"), 1));
        assert_eq!((active.activated, active.activated_by.as_str()), (actor().at, "api"));

        let person = Actor { user: Some("dan".parse().unwrap()), via: "ui", at: after(2) };
        assert!(store.activate_policy_set(&b, &sources("b"), &[], &person).await.unwrap());
        let active = store.active_policy_set().await.unwrap().unwrap();
        assert_eq!((active.version, active.activated_by.as_str()), (b.clone(), "dan"));

        // Rolled back: the older one again, since now.
        assert!(store.activate_policy_set(&a, &sources("a"), &[], &at(after(3))).await.unwrap());
        let active = store.active_policy_set().await.unwrap().unwrap();
        assert_eq!((active.version, active.activated), (a.clone(), after(3)));
        assert_eq!(store.policy_set(&b).await.unwrap().sources, sources("b"));
        let changes: Vec<_> = store.feed_after(0, 10).await.unwrap().into_iter().map(|event| event.change).collect();
        let expected = [&a, &b, &a].map(|version| Change::PolicySetActivated { version: version.clone() });
        assert_eq!(changes, expected);

        for unknown in [version("c"), serde_json::from_value(json!("a\0b")).unwrap()] {
            let error = store.policy_set(&unknown).await.unwrap_err();
            assert!(matches!(error, StoreError::NotFound(_)), "{error:?}");
        }
    }

    async fn the_same_set_is_activated_once_at_once(fixture) {
        let activations: Vec<_> = (0..8)
            .map(|_| {
                let store = fixture.store.clone();
                tokio::spawn(async move {
                    store.activate_policy_set(&version("a"), &sources("a"), &[], &actor()).await
                })
            })
            .collect();
        let mut changed = 0;
        for activation in activations {
            changed += u8::from(activation.await.unwrap().unwrap());
        }
        assert_eq!((changed, fixture.store.feed_head().await.unwrap()), (1, 1));
    }

    async fn sources_are_kept_as_written(fixture) {
        for (number, text) in ODD_TEXTS.iter().chain(&["nul \0 here"]).enumerate() {
            let version = version(&number.to_string());
            fixture.store.activate_policy_set(&version, &sources(text), &[], &actor()).await.unwrap();
            assert_eq!(fixture.store.policy_set(&version).await.unwrap().sources, sources(text));
        }
    }
}

use authz::User;

use super::*;
use crate::{
    agents::Token,
    testing::{Fixture, NOON, actor, after, at, on_both_engines, token, user},
};

const IDLE: Duration = Duration::from_hours(1);

fn session(digest: &str, method: Method) -> Session {
    Session {
        id: SessionId::generate(NOON),
        digest: format!("{digest:0>64}"),
        method,
        address: Some("192.0.2.7".to_owned()),
        browser: "Firefox\u{1b}[31m <b>".to_owned(),
        created: NOON,
        expires: NOON.plus(Duration::from_hours(3)),
        idle: IDLE,
        last_used: NOON,
        confirmed: None,
    }
}

async fn opens(fixture: &Fixture, session: &Session, now: Timestamp) -> bool {
    match fixture
        .store
        .user_by_session(&session.digest, now, true)
        .await
    {
        Ok((_, found)) => found.id == session.id,
        Err(StoreError::NotFound(_)) => false,
        Err(error) => panic!("{error}"),
    }
}

async fn kinds(fixture: &Fixture) -> Vec<String> {
    let trail = fixture.store.audit(0, 100, None).await.unwrap();
    trail.into_iter().map(|row| row.kind).collect()
}

on_both_engines! {
    async fn a_session_ends_by_rest_and_by_age(fixture) {
        let dan = fixture.user("dan").await;
        let made = session("aa", Method::Oidc);
        fixture.store.begin_session(&dan, &made, None, &actor()).await.unwrap();
        let (holder, read) = fixture.store.user_by_session(&made.digest, after(30), true).await.unwrap();
        assert_eq!((holder.user.id, read.id, read.browser), (dan.clone(), made.id, made.browser.clone()));
        assert_eq!(read.last_used, NOON, "a use within the minute is not noted");

        assert!(opens(fixture, &made, after(59 * 60)).await);
        assert!(opens(fixture, &made, after(118 * 60)).await, "rest counts from the last use");
        assert!(!opens(fixture, &made, after(178 * 60)).await, "an hour of rest ends it");
        assert!(opens(fixture, &made, after(177 * 60)).await);
        assert!(!opens(fixture, &made, after(180 * 60)).await, "its age ends it, however busy it was");

        let idle = session("bb", Method::Oidc);
        fixture.store.begin_session(&dan, &idle, None, &actor()).await.unwrap();
        for _ in 0..2 {
            let looked = fixture.store.user_by_session(&idle.digest, after(50 * 60), false).await;
            assert!(looked.is_ok());
        }
        assert!(!opens(fixture, &idle, after(60 * 60)).await, "looking is not using");
        for digest in ["", "aa", "a\0a", "' OR 1=1 --"] {
            assert!(fixture.store.user_by_session(digest, NOON, true).await.is_err(), "{digest:?}");
        }
        assert!(fixture.store.user_by_token(&made.digest, NOON).await.is_err(), "a session is no credential");
    }

    async fn a_session_ends_with_the_credential_that_opened_it(fixture) {
        let dan = fixture.user("dan").await;
        let opener = Token { expires: Some(after(600)), ..token("cc") };
        fixture.store.create_user_token(&dan, &opener, &actor()).await.unwrap();
        let first = session("aa", Method::Token(opener.id));
        fixture.store.begin_session(&dan, &first, None, &actor()).await.unwrap();
        assert!(opens(fixture, &first, after(599)).await);
        assert!(!opens(fixture, &first, after(600)).await);
        assert!(fixture.store.user_by_session(&opener.digest, NOON, true).await.is_err(), "a credential is no session");

        fixture.store.revoke_user_token(&dan, opener.id, &at(after(10))).await.unwrap();
        assert!(!opens(fixture, &first, after(11)).await);
        assert_eq!(fixture.store.sessions(&dan, after(11)).await.unwrap().len(), 0);
    }

    async fn a_login_takes_the_place_of_the_one_before(fixture) {
        let dan = fixture.user("dan").await;
        let eve = fixture.user("eve").await;
        let [first, second, of_eve] = ["aa", "bb", "cc"].map(|digest| session(digest, Method::Oidc));
        fixture.store.begin_session(&dan, &first, None, &actor()).await.unwrap();
        fixture.store.begin_session(&eve, &of_eve, Some(first.id), &actor()).await.unwrap();
        assert!(opens(fixture, &first, after(1)).await, "another person's session is not theirs to end");
        fixture.store.begin_session(&dan, &second, Some(first.id), &at(after(1))).await.unwrap();
        assert!(!opens(fixture, &first, after(2)).await);
        assert!(opens(fixture, &second, after(2)).await);

        // A month later what ended is forgotten.
        let later = at(after(40 * 24 * 3600));
        let third = Session { expires: after(41 * 24 * 3600), ..session("dd", Method::Bootstrap) };
        fixture.store.begin_session(&dan, &third, None, &later).await.unwrap();
        fixture.store.begin_session(&dan, &Session { id: second.id, ..session("ee", Method::Oidc) }, None, &later).await.unwrap();
    }

    async fn people_end_their_own_sessions_and_all_of_them(fixture) {
        let dan = fixture.user("dan").await;
        let eve = fixture.user("eve").await;
        let made = ["aa", "bb", "cc"].map(|digest| session(digest, Method::Oidc));
        for session in &made {
            fixture.store.begin_session(&dan, session, None, &actor()).await.unwrap();
        }
        assert_eq!(fixture.store.sessions(&dan, after(1)).await.unwrap().len(), 3);
        let error = fixture.store.end_session(&eve, made[0].id, "logout", &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)), "another person's");

        let head = fixture.store.feed_head().await.unwrap();
        fixture.store.end_session(&dan, made[0].id, "logout", &actor()).await.unwrap();
        let events = fixture.store.feed_after(head, 10).await.unwrap();
        assert_eq!(events[0].change, Change::UserChanged { user: dan.clone() }, "open sockets look again");
        assert!(fixture.store.end_session(&dan, made[0].id, "logout", &actor()).await.is_err(), "once");

        assert_eq!(fixture.store.end_sessions(&dan, Some(made[1].id), &actor()).await.unwrap(), 1);
        assert!(opens(fixture, &made[1], after(1)).await && !opens(fixture, &made[2], after(1)).await);
        assert_eq!(fixture.store.end_sessions(&dan, None, &actor()).await.unwrap(), 1);
        assert_eq!(fixture.store.end_sessions(&dan, None, &actor()).await.unwrap(), 0);
        let kinds = kinds(fixture).await;
        for (kind, times) in [("login", 3), ("logout", 1), ("sessions_ended", 2)] {
            assert_eq!(kinds.iter().filter(|one| *one == kind).count(), times, "{kind}");
        }
    }

    async fn deactivation_ends_everything_and_activation_brings_nothing_back(fixture) {
        let dan = fixture.user("dan").await;
        fixture.store.create_user_token(&dan, &token("dd"), &actor()).await.unwrap();
        let made = session("aa", Method::Oidc);
        fixture.store.begin_session(&dan, &made, None, &actor()).await.unwrap();
        let anyone = |_: &User| true;
        fixture.user("eve").await;
        let changed = fixture.store.change_user(&dan, &actor(), |user| user.active = false, anyone).await.unwrap();
        assert!(!changed.user.active);
        assert!(!opens(fixture, &made, after(1)).await);
        assert!(fixture.store.user_by_token(&token("dd").digest, after(1)).await.is_err());
        let error = fixture.store.begin_session(&dan, &session("bb", Method::Oidc), None, &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)));

        fixture.store.change_user(&dan, &actor(), |user| user.active = true, anyone).await.unwrap();
        assert!(!opens(fixture, &made, after(1)).await);
        assert!(fixture.store.user_by_token(&token("dd").digest, after(1)).await.is_err());
        let kinds = kinds(fixture).await;
        assert!(kinds.contains(&"user_deactivated".to_owned()) && kinds.contains(&"user_activated".to_owned()));
    }

    async fn what_happens_at_the_door_is_recorded(fixture) {
        let head = fixture.store.feed_head().await.unwrap();
        let details = json!({"address": "192.0.2.7", "why": "<script>'; DROP TABLE audit; --"});
        fixture.store.note("login_refused", details.clone(), &actor()).await.unwrap();
        let trail = fixture.store.audit(0, 10, None).await.unwrap();
        assert_eq!(trail[0].kind, "login_refused");
        assert_eq!(trail[0].entry["why"], details["why"]);
        assert_eq!(fixture.store.feed_head().await.unwrap(), head, "nothing changed");
        let nobody = user("nobody").id;
        assert!(fixture.store.sessions(&nobody, NOON).await.is_err());
        assert!(fixture.store.end_sessions(&nobody, None, &actor()).await.is_err());
    }
}

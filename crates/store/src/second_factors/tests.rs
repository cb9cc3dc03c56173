use authz::SessionId;

use super::*;
use crate::{
    sessions::{Method, Session},
    testing::{Fixture, NOON, actor, after, at, on_both_engines, token},
};

type Check = fn(&str, i64) -> Option<i64>;

/// A device whose code is good for the step that it names.
fn code(step: i64) -> Proof<impl FnOnce(&str, i64) -> Option<i64> + Send> {
    Proof::Code(move |secret: &str, _: i64| (secret == "SECRET").then_some(step))
}

fn wrong() -> Proof<Check> {
    Proof::Code(|_, _| None)
}

fn recovery(digest: &str) -> Proof<Check> {
    Proof::Recovery(digest.to_owned())
}

/// A user with a credential and an enrolled device.
async fn enrolled(fixture: &Fixture) -> (UserId, Place) {
    let dan = fixture.user("dan").await;
    let token = token("aa");
    fixture
        .store
        .create_user_token(&dan, &token, &actor())
        .await
        .unwrap();
    let place = Place {
        credential: Credential::Token(token.id),
        origin: "laptop".to_owned(),
        rotated: None,
    };
    fixture
        .store
        .begin_second_factor(&dan, "SECRET", &actor())
        .await
        .unwrap();
    let codes = ["r1".to_owned(), "r2".to_owned()];
    let done = fixture
        .store
        .enrol_second_factor(&dan, NOON, &codes, &place, &actor(), |secret| {
            (secret == "SECRET").then_some(100)
        })
        .await
        .unwrap();
    assert!(done);
    (dan, place)
}

on_both_engines! {
    async fn a_device_is_enrolled_by_its_first_code(fixture) {
        let dan = fixture.user("dan").await;
        let made = token("aa");
        fixture.store.create_user_token(&dan, &made, &actor()).await.unwrap();
        let place = Place { credential: Credential::Token(made.id), origin: "x".to_owned(), rotated: None };
        let enrol = async |since, right: bool| {
            fixture.store.enrol_second_factor(&dan, since, &[], &place, &actor(), |_| right.then_some(7)).await
        };
        assert!(matches!(enrol(NOON, true).await.unwrap_err(), StoreError::Conflict(_)), "not begun");
        fixture.store.begin_second_factor(&dan, "SECRET", &actor()).await.unwrap();
        assert!(!enrol(NOON, false).await.unwrap());
        assert!(matches!(enrol(after(1), true).await.unwrap_err(), StoreError::Conflict(_)), "begun too long ago");
        assert!(!fixture.store.user(&dan).await.unwrap().second_factor);
        assert!(enrol(NOON, true).await.unwrap());
        assert!(fixture.store.user(&dan).await.unwrap().second_factor);
        let factor = fixture.store.second_factor(&dan).await.unwrap().unwrap();
        assert_eq!((factor.secret.as_deref(), factor.enrolled, factor.step, factor.pending.as_deref()), (Some("SECRET"), Some(NOON), 7, None));
        assert!(!format!("{factor:?}").contains("SECRET"));
        let (holder, _) = fixture.store.user_by_token(&made.digest, NOON).await.unwrap();
        assert_eq!(holder.confirmed, Some(NOON));
        assert!(matches!(enrol(NOON, true).await.unwrap_err(), StoreError::Conflict(_)), "once");

        // Another device takes its place only with its first code.
        fixture.store.begin_second_factor(&dan, "OTHER", &actor()).await.unwrap();
        let factor = fixture.store.second_factor(&dan).await.unwrap().unwrap();
        assert_eq!((factor.secret.as_deref(), factor.pending.as_deref()), (Some("SECRET"), Some("OTHER")));
        fixture.store.remove_second_factor(&dan, &actor()).await.unwrap();
        assert!(fixture.store.second_factor(&dan).await.unwrap().is_none());
        assert!(matches!(fixture.store.remove_second_factor(&dan, &actor()).await.unwrap_err(), StoreError::NotFound(_)));
    }

    async fn no_code_is_good_twice(fixture) {
        let (dan, place) = enrolled(fixture).await;
        let prove = async |step| {
            fixture.store.prove_second_factor(&dan, code(step), &place, &actor()).await.unwrap()
        };
        assert!(matches!(prove(100).await, Proved::No(_)), "used to enrol");
        assert!(matches!(prove(99).await, Proved::No(_)), "older than that");
        assert_eq!(prove(101).await, Proved::Yes);
        assert!(matches!(prove(101).await, Proved::No(_)));
        assert_eq!(prove(102).await, Proved::Yes);
        let trail = fixture.store.audit(0, 100, None).await.unwrap();
        assert_eq!(trail.iter().filter(|row| row.kind == "step_up_refused").count(), 3);
        assert_eq!(trail.iter().filter(|row| row.kind == "step_up").count(), 2);
        assert!(trail.iter().all(|row| !row.entry.to_string().contains("SECRET")));
    }

    async fn of_the_same_code_at_once_one_is_good(fixture) {
        let (dan, place) = enrolled(fixture).await;
        let tries: Vec<_> = (0..8)
            .map(|_| {
                let (store, dan, place) = (fixture.store.clone(), dan.clone(), place.clone());
                tokio::spawn(async move { store.prove_second_factor(&dan, code(200), &place, &actor()).await })
            })
            .collect();
        let mut good = 0;
        for one in tries {
            good += u8::from(one.await.unwrap().unwrap() == Proved::Yes);
        }
        assert_eq!(good, 1);
    }

    async fn wrong_codes_are_looked_at_ever_more_seldom(fixture) {
        let (dan, place) = enrolled(fixture).await;
        let prove = async |proof, place: &Place, now| {
            fixture.store.prove_second_factor(&dan, proof, place, &at(now)).await.unwrap()
        };
        for _ in 0..3 {
            assert_eq!(prove(wrong(), &place, NOON).await, Proved::No(NOON));
        }
        assert_eq!(prove(wrong(), &place, NOON).await, Proved::No(after(5)));
        let right = async |step, place: &Place, now| {
            fixture.store.prove_second_factor(&dan, code(step), place, &at(now)).await.unwrap()
        };
        assert_eq!(right(300, &place, after(4)).await, Proved::NotYet(after(5)), "not even a right one");
        assert_eq!(prove(wrong(), &place, after(5)).await, Proved::No(after(15)));

        // The same person, elsewhere, is not kept out.
        let elsewhere = Place { origin: "phone".to_owned(), ..place.clone() };
        assert_eq!(right(301, &elsewhere, after(6)).await, Proved::Yes);
        // Nor here, with a recovery code, which is good once.
        assert_eq!(prove(recovery("r1"), &place, after(7)).await, Proved::Yes);
        assert!(matches!(prove(recovery("r1"), &elsewhere, after(7)).await, Proved::No(_)));
        assert!(matches!(prove(recovery("r\0"), &elsewhere, after(7)).await, Proved::No(_)));
        assert_eq!(right(302, &place, after(8)).await, Proved::Yes, "forgiven");
        assert_eq!(fixture.store.second_factor(&dan).await.unwrap().unwrap().recovery_codes, 1);

        let mut now = NOON.plus(Duration::from_hours(1));
        for _ in 0..40 {
            match prove(wrong(), &place, now).await {
                Proved::No(next) => {
                    assert!(next.since(now) <= LONGEST_WAIT);
                    now = next;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    async fn a_proved_session_gets_another_cookie(fixture) {
        let (dan, _) = enrolled(fixture).await;
        let session = Session {
            id: SessionId::generate(NOON),
            digest: "before".to_owned(),
            method: Method::Oidc,
            address: None,
            browser: String::new(),
            created: NOON,
            expires: after(3600),
            idle: Duration::from_hours(1),
            last_used: NOON,
            confirmed: None,
        };
        fixture.store.begin_session(&dan, &session, None, &actor()).await.unwrap();
        let place = Place { credential: Credential::Session(session.id), origin: "oidc".to_owned(), rotated: Some("after".to_owned()) };
        let prove = async |proof: Proof<Check>, now| fixture.store.prove_second_factor(&dan, proof, &place, &at(now)).await;
        assert_eq!(prove(Proof::Provider("otp".to_owned()), after(1)).await.unwrap(), Proved::Yes);
        assert!(fixture.store.user_by_session("before", after(2), true).await.is_err());
        let (holder, _) = fixture.store.user_by_session("after", after(2), true).await.unwrap();
        assert_eq!(holder.confirmed, Some(after(1)));
        fixture.store.end_sessions(&dan, None, &at(after(3))).await.unwrap();
        let error = prove(Proof::Provider("otp".to_owned()), after(4)).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)), "what has ended is not confirmed");
        let eve = fixture.user("eve").await;
        let error = fixture.store.prove_second_factor(&eve, code(500), &place, &actor()).await.unwrap();
        assert!(matches!(error, Proved::No(_)), "who enrolled nothing proves nothing");
    }
}

#[test]
fn waits_grow_and_end() {
    let waits: Vec<u64> = (1..=14).map(|failures| wait(failures).as_secs()).collect();
    assert_eq!(
        waits,
        [0, 0, 0, 5, 10, 20, 40, 80, 160, 320, 640, 900, 900, 900]
    );
    assert_eq!(wait(i64::MAX), LONGEST_WAIT);
}

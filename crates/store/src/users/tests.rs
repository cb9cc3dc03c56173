use std::time::Duration;

use super::*;
use crate::testing::{NOON, ODD_TEXTS, actor, after, at, on_both_engines, token, user};

on_both_engines! {
    async fn a_user_reads_back(fixture) {
        let made = fixture.store.create_user(&user("dan@example.com"), &actor()).await.unwrap();
        assert_eq!(made.user, user("dan@example.com"));
        let read = fixture.store.user(&made.user.id).await.unwrap();
        assert_eq!((read.user, read.created), (made.user.clone(), NOON));
        fixture.user("adele").await;
        let all: Vec<_> = fixture.store.users().await.unwrap().into_iter().map(|u| u.user.id.to_string()).collect();
        assert_eq!(all, ["adele", "dan@example.com"]);
        let error = fixture.store.create_user(&made.user, &actor()).await.unwrap_err();
        assert_eq!(error.to_string(), "there is a user `dan@example.com` already");
        let error = fixture.store.user(&"nobody".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)));
        let event = &fixture.store.feed_after(0, 10).await.unwrap()[0];
        assert_eq!(event.change, Change::UserChanged { user: made.user.id });
    }

    async fn of_many_first_starts_one_is_the_first(fixture) {
        let starts: Vec<_> = (0..8)
            .map(|number: u8| {
                let store = fixture.store.clone();
                tokio::spawn(async move {
                    store.bootstrap_user(&user("admin"), &token(&number.to_string()), &actor()).await
                })
            })
            .collect();
        let mut first = 0;
        for start in starts {
            first += u8::from(start.await.unwrap().unwrap());
        }
        assert_eq!(first, 1);
        assert_eq!(fixture.store.users().await.unwrap().len(), 1);
        assert_eq!(fixture.store.feed_head().await.unwrap(), 1);
        let mut valid = 0;
        for number in 0..8_u8 {
            let digest = token(&number.to_string()).digest;
            valid += u8::from(fixture.store.user_by_token(&digest, NOON).await.is_ok());
        }
        assert_eq!(valid, 1, "only the first one's credential opens anything");
    }

    async fn a_credential_opens_until_it_expires_or_is_revoked(fixture) {
        let dan = fixture.user("dan").await;
        let eve = fixture.user("eve").await;
        let token = Token { expires: Some(after(600)), ..token("aa") };
        fixture.store.create_user_token(&dan, &token, &actor()).await.unwrap();

        let by_token = async |now| fixture.store.user_by_token(&token.digest, now).await;
        let (stored, seen) = by_token(NOON).await.unwrap();
        assert_eq!((stored.user.id.clone(), seen.id, seen.last_used), (dan.clone(), token.id, Some(NOON)));
        assert!(by_token(after(600).minus(Duration::from_millis(1))).await.is_ok());
        assert!(by_token(after(600)).await.is_err());
        for digest in ["", "aa", "a\0a", "' OR 1=1 --"] {
            let error = fixture.store.user_by_token(digest, NOON).await.unwrap_err();
            assert!(matches!(error, StoreError::NotFound(_)), "{digest:?}: {error:?}");
        }
        let error = fixture.store.agent_by_token(&token.digest, NOON).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)), "a user's credential is no agent's");

        let error = fixture.store.revoke_user_token(&eve, token.id, &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)), "another user's");
        fixture.store.revoke_user_token(&dan, token.id, &at(after(1))).await.unwrap();
        assert!(by_token(after(2)).await.is_err());
        let nobody = "nobody".parse().unwrap();
        let error = fixture.store.create_user_token(&nobody, &token, &actor()).await.unwrap_err();
        assert!(matches!(error, StoreError::NotFound(_)));
    }

    async fn an_inactive_user_has_no_live_credential(fixture) {
        let gone = User { active: false, ..user("gone") };
        fixture.store.create_user(&gone, &actor()).await.unwrap();
        fixture.store.create_user_token(&gone.id, &token("aa"), &actor()).await.unwrap();
        assert!(fixture.store.user_by_token(&token("aa").digest, NOON).await.is_err());
    }

    async fn names_are_kept_as_written(fixture) {
        for (number, name) in ODD_TEXTS.iter().enumerate() {
            let made = User { name: (*name).to_owned(), ..user(&format!("u{number}")) };
            fixture.store.create_user(&made, &actor()).await.unwrap();
            assert_eq!(fixture.store.user(&made.id).await.unwrap().user.name, *name);
        }
        let made = User { name: "nul \0 here".to_owned(), ..user("nul") };
        let stored = fixture.store.create_user(&made, &actor()).await.unwrap();
        assert_eq!(stored.user.name, "nul \u{fffd} here");
        assert_eq!(fixture.store.user(&made.id).await.unwrap().user.name, stored.user.name);
    }

    async fn users_are_changed_and_keep_their_id(fixture) {
        let dan = fixture.user("dan").await;
        fixture.store.create_user_token(&dan, &token("aa"), &actor()).await.unwrap();
        fixture.store.user_by_token(&token("aa").digest, after(60)).await.unwrap();
        let nobody_manages = |_: &User| false;
        let head = fixture.store.feed_head().await.unwrap();
        let change = |user: &mut User| {
            user.id = "eve".parse().unwrap();
            user.name = "Dan \0".to_owned();
            user.roles.clear();
        };
        let changed = fixture.store.change_user(&dan, &actor(), change, nobody_manages).await.unwrap();
        assert_eq!((changed.user.id.as_str(), changed.user.name.as_str()), ("dan", "Dan \u{fffd}"));
        assert_eq!(changed.last_seen, Some(after(60)));
        assert_eq!(fixture.store.user(&dan).await.unwrap().user, changed.user);
        assert_eq!(fixture.store.user_tokens(&dan).await.unwrap()[0].id, token_of(fixture, &dan).await);
        assert!(fixture.store.user_by_token(&token("aa").digest, after(61)).await.is_ok(), "still active");

        let after_that = fixture.store.feed_head().await.unwrap();
        assert_eq!(after_that, head + 1);
        fixture.store.change_user(&dan, &actor(), change, nobody_manages).await.unwrap();
        assert_eq!(fixture.store.feed_head().await.unwrap(), after_that, "nothing is different");
        let nobody = "nobody".parse().unwrap();
        assert!(fixture.store.change_user(&nobody, &actor(), |_| {}, nobody_manages).await.is_err());
        assert!(fixture.store.user_tokens(&nobody).await.is_err());
    }

    async fn somebody_is_always_left_who_may_manage_users(fixture) {
        let [ada, bob] = ["ada", "bob"].map(|id| User { roles: ["admin".parse().unwrap()].into(), ..user(id) });
        for admin in [&ada, &bob] {
            fixture.store.create_user(admin, &actor()).await.unwrap();
        }
        fixture.user("dan").await;
        let manages = |user: &User| user.active && user.roles.contains(&"admin".parse().unwrap());
        // Both at once: each would leave the other.
        let goings: Vec<_> = [&ada, &bob]
            .into_iter()
            .map(|admin| {
                let (store, id) = (fixture.store.clone(), admin.id.clone());
                tokio::spawn(async move { store.change_user(&id, &actor(), |user| user.active = false, manages).await })
            })
            .collect();
        let mut refused = 0;
        for going in goings {
            match going.await.unwrap() {
                Ok(_) => {}
                Err(StoreError::Conflict(why)) => {
                    assert!(why.contains("last active user who may manage users"), "{why}");
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!(refused, 1);
        let left: Vec<_> = fixture.store.users().await.unwrap().into_iter().filter(|user| manages(&user.user)).collect();
        let left = &left[0].user;
        for change in [|user: &mut User| user.active = false, |user: &mut User| user.roles.clear()] {
            let error = fixture.store.change_user(&left.id, &actor(), change, manages).await.unwrap_err();
            assert!(matches!(error, StoreError::Conflict(_)), "{error}");
        }
        fixture.store.change_user(&left.id, &actor(), |user| user.name = "A".to_owned(), manages).await.unwrap();
        fixture.store.change_user(&"dan".parse().unwrap(), &actor(), |user| user.active = false, manages).await.unwrap();
    }

    async fn ids_that_look_alike_are_taken(fixture) {
        fixture.user("dan@example.com").await;
        let error = fixture.store.create_user(&user("Dan@Example.com"), &actor()).await.unwrap_err();
        assert_eq!(error.to_string(), "there is a user `dan@example.com` already");
    }
}

async fn token_of(fixture: &crate::testing::Fixture, user: &UserId) -> TokenId {
    fixture.store.user_tokens(user).await.unwrap()[0].id
}

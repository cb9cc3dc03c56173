use super::*;
use crate::testing::{ODD_TEXTS, actor, on_both_engines, user};

fn identity(subject: &str) -> Identity {
    Identity {
        issuer: "https://login.example".to_owned(),
        subject: subject.to_owned(),
    }
}

on_both_engines! {
    async fn an_identity_is_one_user_and_a_user_one_identity(fixture) {
        let dan = fixture.user("dan").await;
        let eve = fixture.user("eve").await;
        fixture.store.link_identity(&identity("1"), &dan, &actor()).await.unwrap();
        assert_eq!(fixture.store.user_by_identity(&identity("1")).await.unwrap().user.id, dan);
        for (subject, user) in [("1", &eve), ("2", &dan)] {
            let error = fixture.store.link_identity(&identity(subject), user, &actor()).await.unwrap_err();
            assert!(matches!(error, StoreError::Conflict(_)), "{subject} to {user}: {error}");
        }
        let elsewhere = Identity { issuer: "https://other.example".to_owned(), ..identity("1") };
        assert!(fixture.store.user_by_identity(&elsewhere).await.is_err(), "the same subject elsewhere is another person");
        fixture.store.link_identity(&elsewhere, &eve, &actor()).await.unwrap();
        fixture.store.unlink_identities(&dan, &actor()).await.unwrap();
        assert!(fixture.store.user_by_identity(&identity("1")).await.is_err());
        assert!(fixture.store.unlink_identities(&dan, &actor()).await.is_err());
        assert_eq!(fixture.store.user_by_identity(&elsewhere).await.unwrap().user.id, eve);
    }

    async fn a_new_user_takes_nobodys_place(fixture) {
        fixture.user("dan").await;
        for id in ["dan", "Dan", "DAN"] {
            let error = fixture.store.create_user_of(&identity("9"), &user(id), &actor()).await.unwrap_err();
            assert_eq!(error.to_string(), "there is a user `dan` already", "{id}");
        }
        assert!(fixture.store.user_by_identity(&identity("9")).await.is_err());
        let made = fixture.store.create_user_of(&identity("9"), &user("fay"), &actor()).await.unwrap();
        assert_eq!(fixture.store.user_by_identity(&identity("9")).await.unwrap().user, made.user);
        assert!(fixture.store.create_user_of(&identity("9"), &user("gus"), &actor()).await.is_err());
        assert!(fixture.store.user(&user("gus").id).await.is_err(), "all or nothing");
    }

    async fn subjects_are_kept_exactly(fixture) {
        for (number, text) in ODD_TEXTS.iter().enumerate() {
            let id = fixture.user(&format!("u{number}")).await;
            fixture.store.link_identity(&identity(text), &id, &actor()).await.unwrap();
            assert_eq!(fixture.store.user_by_identity(&identity(text)).await.unwrap().user.id, id);
        }
        let id = fixture.user("nul").await;
        assert!(fixture.store.link_identity(&identity("a\0b"), &id, &actor()).await.is_err());
        assert!(fixture.store.user_by_identity(&identity("a\0b")).await.is_err());
    }
}

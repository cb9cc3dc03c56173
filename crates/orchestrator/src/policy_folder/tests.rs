//! Two orchestrators on one database.

use super::*;

fn config(folder: &Path) -> Config {
    Config {
        control_token: None,
        cors_origins: Vec::new(),
        schema: folder.join("schema.cedarschema"),
        policies: folder.join("policies"),
        public_url: "http://127.0.0.1:9403".to_owned(),
        approval_lifetime: Duration::from_hours(24),
        rejection_cool_down: Duration::from_mins(15),
        open_limit: 50,
    }
}

fn policies() -> tempfile::TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("policies")).unwrap();
    let sources = read(&root.join("schema.cedarschema"), &root.join("policies")).unwrap();
    fs::write(
        folder.path().join("schema.cedarschema"),
        sources.schema.text,
    )
    .unwrap();
    for source in sources.policies {
        fs::write(
            folder.path().join("policies").join(source.name),
            source.text,
        )
        .unwrap();
    }
    folder
}

#[tokio::test]
async fn an_orchestrator_takes_over_what_another_put_in_force() {
    let (ours, theirs) = (policies(), policies());
    let database = format!("sqlite://{}", ours.path().join("test.db").display());
    let clock = Clock::new(|| Timestamp::from_millis(1_780_000_000_000));
    let open = async |folder: &tempfile::TempDir| {
        let store = Store::open(&database).await.unwrap();
        Orchestrator::open(config(folder.path()), store, clock.clone())
            .await
            .unwrap()
    };
    let one = open(&ours).await;
    let other = open(&theirs).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let running = tokio::spawn({
        let (other, stop) = (other.clone(), stop.clone());
        async move { other.run(stop).await }
    });

    let nobody_looks =
        "@id(\"test.nobody\")\nforbid (principal is User, action in Action::\"view\", resource);";
    fs::write(ours.path().join("policies/extra.cedar"), nobody_looks).unwrap();
    let version = one.reread_policies().await.unwrap().version;
    let mut in_force = other.inner.in_force.subscribe();
    in_force
        .wait_for(|in_force| in_force.set.version() == &version)
        .await
        .unwrap();
    let status = status(&other);
    assert_eq!(
        (status.version, status.rejected.len()),
        (version.clone(), 0)
    );
    // Its own folder did not change, so it has nothing to say against it.
    assert_eq!(other.reread_policies().await.unwrap().version, version);
    stop.cancel();
    running.await.unwrap();
}

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
        trusted_proxies: Vec::new(),
        people: crate::people::Config::default(),
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
    let status = status(&other).await.unwrap();
    assert_eq!(
        (status.version, status.rejected.len()),
        (version.clone(), 0)
    );
    // Its own folder did not change, so it has nothing to say against it.
    assert_eq!(other.reread_policies().await.unwrap().version, version);
    stop.cancel();
    running.await.unwrap();
}

#[test]
fn hostile_folders_are_reported_and_read_in_bounds() {
    let folder = policies();
    let (schema, path) = (
        folder.path().join("schema.cedarschema"),
        folder.path().join("policies"),
    );
    let broken = |what: &str| {
        let finding = read(&schema, &path).expect_err(what);
        assert_eq!(finding.severity, Severity::Error, "{what}");
        finding
    };

    let extra = path.join("extra.cedar");
    fs::write(&extra, b"// one\n// \xc3\xa9 \xff").unwrap();
    let finding = broken("not UTF-8");
    assert_eq!((finding.line, finding.column), (Some(2), Some(6)));
    assert!(finding.file.ends_with("extra.cedar"));

    // Sparse: only its length is large.
    fs::File::create(&extra)
        .unwrap()
        .set_len(50 * 1024 * 1024)
        .unwrap();
    assert!(broken("50 MB").message.contains("larger"));
    fs::remove_file(&extra).unwrap();
    assert!(read(&schema, &path).is_ok());

    fs::create_dir(path.join("many")).unwrap();
    for number in 0..=MAX_ENTRIES {
        fs::write(path.join("many").join(format!("{number}.txt")), "").unwrap();
    }
    assert!(broken("too many files").message.contains("more than"));
    fs::remove_dir_all(path.join("many")).unwrap();

    let mut deep = path.clone();
    for _ in 0..=MAX_DEPTH {
        deep.push("d");
    }
    fs::create_dir_all(&deep).unwrap();
    assert!(broken("too deep").message.contains("nested"));
    fs::remove_dir_all(path.join("d")).unwrap();
    assert!(
        broken_schema(&path).message.contains("cannot be read"),
        "a missing schema"
    );
}

fn broken_schema(path: &Path) -> Box<Finding> {
    read(&path.join("nowhere.cedarschema"), path).unwrap_err()
}

#[cfg(unix)]
#[test]
fn links_and_pipes_neither_hang_nor_loop() {
    use std::os::unix::{ffi::OsStrExt, fs::symlink};

    let folder = policies();
    let (schema, path) = (
        folder.path().join("schema.cedarschema"),
        folder.path().join("policies"),
    );
    let whole = read(&schema, &path).unwrap();
    let broken_by = |place: &Path, expected: &str| {
        let message = read(&schema, &path).unwrap_err().message;
        assert!(message.contains(expected), "{}: {message}", place.display());
        fs::remove_file(place).unwrap();
    };

    for name in ["a", "b", "c"] {
        symlink(&path, path.join(name)).unwrap();
    }
    assert!(
        read(&schema, &path)
            .unwrap_err()
            .message
            .contains("leads back")
    );
    for name in ["a", "b", "c"] {
        fs::remove_file(path.join(name)).unwrap();
    }
    let dangling = path.join("dangling.cedar");
    symlink(path.join("nowhere"), &dangling).unwrap();
    broken_by(&dangling, "cannot be read");
    let endless = path.join("endless.cedar");
    symlink("/dev/zero", &endless).unwrap();
    broken_by(&endless, "not a file");
    let pipe = path.join("pipe.cedar");
    if std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .is_ok_and(|status| status.success())
    {
        broken_by(&pipe, "not a file");
    }
    let odd = path.join(std::ffi::OsStr::from_bytes(b"odd-\xff.cedar"));
    if fs::write(&odd, "").is_ok() {
        broken_by(&odd, "not UTF-8");
    }

    // As Kubernetes mounts a ConfigMap: files are links into a hidden folder.
    let mounted = folder.path().join("mounted");
    fs::rename(&path, folder.path().join("..data-1")).unwrap();
    fs::create_dir(&mounted).unwrap();
    symlink(folder.path().join("..data-1"), mounted.join("..data")).unwrap();
    for source in &whole.policies {
        symlink(
            Path::new("..data").join(&source.name),
            mounted.join(&source.name),
        )
        .unwrap();
    }
    assert_eq!(read(&schema, &mounted).unwrap(), whole);
}

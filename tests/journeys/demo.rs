//! What a newcomer runs first.

use cedargate_tests::process::Process;

/// `cedargate demo --once` tells the whole story and exits 0, twice in a row, also where
/// its ports are taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demo_once() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let home = [("HOME".to_owned(), folder.path().display().to_string())];
    for _ in 0..2 {
        let mut demo = Process::start(&["demo", "--once"], &home)?;
        for parts in [
            &["curl", "/api/agents"][..],
            &["github"],
            &["curl", "/execute"],
            &["Permission denied"],
            &["mcp_permission_request"],
            &["curl", "/api/mcp/permission-respond"],
            &["\"servers\""],
            &["sample"],
        ] {
            demo.line(parts).await?;
        }
        let status = demo.ended().await?;
        assert!(status.success(), "{}", demo.log());
    }
    Ok(())
}

/// Without `--once` it stays, with the address of the approvals page, until it is told to end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn demo_stays() -> anyhow::Result<()> {
    let mut demo = Process::start(&["demo"], &[])?;
    let line = demo.line(&["http://", "/bootstrap?code="]).await?;
    let url = line
        .split_whitespace()
        .find(|word| word.starts_with("http://"))
        .unwrap()
        .to_owned();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    let first = client.get(&url).send().await?;
    assert!(first.status().is_redirection(), "{}", first.status());
    assert!(first.headers().contains_key("set-cookie"));
    let second = client.get(&url).send().await?;
    assert!(
        !second.headers().contains_key("set-cookie"),
        "the link works once"
    );
    let status = demo.terminate().await?;
    assert!(status.success(), "{status}: {}", demo.log());
    Ok(())
}

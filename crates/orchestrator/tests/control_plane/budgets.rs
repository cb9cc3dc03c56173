//! Budgets and the health of services: what gateways say, and who sees it.

use contract::{
    budgets::{BudgetKey, BudgetUse, Day, ReportBudgets},
    gateways::{GatewayStatus, HealthState, ServiceHealth},
};

use crate::{
    console::{catalog, told},
    pages::{get, log_in},
    plane::Plane,
};

fn used(service: Option<&str>, agent: Option<authz::AgentId>, calls: u64) -> BudgetUse {
    BudgetUse {
        key: BudgetKey {
            service: service.map(|name| name.parse().unwrap()),
            command: None,
            agent,
        },
        calls,
        bytes: 2_048,
        calls_limit: Some(1_500),
        bytes_limit: None,
    }
}

fn report(plane: &Plane, gateway: &str, run: &str, used: Vec<BudgetUse>) -> ReportBudgets {
    ReportBudgets {
        gateway: gateway.to_owned(),
        run: run.to_owned(),
        day: Day::of(plane.now()),
        used,
        since: None,
    }
}

#[tokio::test]
async fn what_gateways_use_is_told_to_the_others_and_shown() {
    let plane = Plane::new().await;
    told(&plane, "edge").await;
    let bot = plane.agent("bot", None).await.agent.id;
    let gateway = &plane.gateway;
    let first = report(
        &plane,
        "edge",
        "1",
        vec![used(Some("coolify"), None, 1_000), used(None, Some(bot), 7)],
    );
    let heard = gateway.report_budgets(&first).await.unwrap();
    assert!(heard.elsewhere.is_empty(), "nobody else used any");
    let other = report(&plane, "west", "1", vec![used(Some("coolify"), None, 500)]);
    let heard = gateway.report_budgets(&other).await.unwrap();
    assert_eq!(
        heard.elsewhere,
        [used(None, Some(bot), 7), used(Some("coolify"), None, 1_000)]
    );
    // The same gateway, started anew, has not forgotten.
    let again = report(&plane, "edge", "2", Vec::new());
    let heard = gateway.report_budgets(&again).await.unwrap();
    let coolify = &heard.elsewhere[1];
    assert_eq!((coolify.calls, coolify.bytes), (1_500, 4_096));

    let all = plane.admin.budgets(None, None).await.unwrap();
    assert_eq!(all.len(), 2);
    assert!(all[0].spent && all[0].used.key.agent.is_none());
    assert_eq!(all[0].resets, Day::of(plane.now()).end());
    let of_bot = plane.admin.budgets(Some("bot"), None).await.unwrap();
    assert_eq!(of_bot.len(), 1);
    assert_eq!(of_bot[0].agent_name.as_ref().unwrap().as_str(), "bot");
    assert!(!of_bot[0].spent);
    let of_github = plane.admin.budgets(None, Some("github")).await.unwrap();
    assert!(of_github.is_empty());
    let unknown = plane.admin.budgets(Some("nobody"), None).await.unwrap_err();
    assert_eq!(unknown.status().unwrap().as_u16(), 404);
    let nonsense = plane
        .admin
        .budgets(None, Some("No Name"))
        .await
        .unwrap_err();
    assert_eq!(nonsense.status().unwrap().as_u16(), 400);
    // A person cannot say that something was used.
    let refused = plane.admin.report_budgets(&first).await.unwrap_err();
    assert!(matches!(refused.status().unwrap().as_u16(), 401 | 403));

    let cookie = log_in(&plane, &plane.admin_token).await;
    let page = get(&plane, "/services/coolify", &cookie).await;
    assert!(page.body.contains("1,500 of 1,500"), "{}", page.body);
    assert!(page.body.contains("4.0 KiB") && page.body.contains("all together"));
    assert!(
        page.body
            .contains(r#"<span class="badge status spent">spent</span>"#)
    );
    let page = get(&plane, "/agents/bot", &cookie).await;
    assert!(page.body.contains("7 of 1,500"), "{}", page.body);
    assert!(page.body.contains("all services"));
}

#[tokio::test]
async fn a_report_that_says_too_much_is_refused() {
    let plane = Plane::new().await;
    let many = vec![used(None, None, 1); contract::budgets::MAX_REPORTED + 1];
    for (gateway, run, used) in [
        ("", "1", Vec::new()),
        ("edge", "", Vec::new()),
        ("edge\0", "1", Vec::new()),
        ("edge", "1", many),
    ] {
        let report = report(&plane, gateway, run, used);
        let refused = plane.gateway.report_budgets(&report).await.unwrap_err();
        assert_eq!(refused.status().unwrap().as_u16(), 400, "{gateway} {run}");
    }
}

#[tokio::test]
async fn a_service_that_is_not_well_is_shown_until_its_gateway_falls_silent() {
    let plane = Plane::new().await;
    told(&plane, "edge").await;
    let status = GatewayStatus {
        gateway: "edge".to_owned(),
        software: "1.0.0".to_owned(),
        version: None,
        since: None,
        last_known_good: true,
        shadow: None,
        problem: None,
        catalog: Some("d1".to_owned()),
        services: vec![ServiceHealth {
            service: "coolify".parse().unwrap(),
            state: HealthState::Degraded,
            since: Some(plane.now()),
            breaker: Some("half_open".to_owned()),
            failures: 6,
            last_error: Some("timeout".to_owned()),
            retry_at: Some(plane.now()),
            in_flight: Some(3),
            reason: None,
        }],
    };
    plane.gateway.report_status(&status).await.unwrap();
    let mut catalog = catalog("edge", "d1");
    for service in &mut catalog.services {
        service.status = "active".to_owned();
        service.problem = None;
    }
    plane.gateway.report_catalog(&catalog).await.unwrap();
    let coolify = "coolify".parse().unwrap();
    let shown = plane.admin.service(&coolify).await.unwrap();
    assert_eq!(shown.gateways[0].health.as_ref(), status.services.first());
    let listed = plane.admin.services().await.unwrap();
    assert!(listed.iter().any(|view| view.gateways[0].health.is_some()));

    let cookie = log_in(&plane, &plane.admin_token).await;
    let page = get(&plane, "/services/coolify", &cookie).await;
    for part in [
        "degraded",
        "breaker half open",
        "6 failed in a row",
        "last: timeout",
        "3 under way",
    ] {
        assert!(page.body.contains(part), "{part}: {}", page.body);
    }
    let page = get(&plane, "/services", &cookie).await;
    assert!(
        page.body
            .contains(r#"<span class="badge warn">degraded</span>"#),
        "{}",
        page.body
    );

    plane.pass(std::time::Duration::from_secs(61));
    let shown = plane.admin.service(&coolify).await.unwrap();
    assert_eq!(shown.gateways[0].health, None, "nobody knows any more");
}

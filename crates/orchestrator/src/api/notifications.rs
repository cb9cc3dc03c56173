//! Where notifications go, what was sent, and what people answer elsewhere.

use authz::{MessageId, TargetName};
use axum::{
    Json,
    body::Bytes,
    extract::State,
    http::{HeaderMap, StatusCode},
};
use contract::{
    approvals::ApprovalSummary,
    notifications::{
        AccountView, ChangeTarget, CreateTarget, CreatedTarget, LinkAccount, MessageView,
        TargetView, Tested,
    },
};
use serde::Deserialize;
use serde_json::Value;
use store::notifications::{Account, outbox::MessageStatus};

use super::{Json as Body, Named, Parameters};
use crate::{
    Orchestrator,
    approvals::{check_text, summary},
    authenticate::{ManageUsers, May, View},
    error::Error,
    notifications::{callback, targets},
};

/// A list is at most so long.
const MAX_LIST: u32 = 1_000;

/// `GET /api/notifications/targets`, by name.
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<TargetView>>, Error> {
    let stored = orchestrator.store().notification_targets().await?;
    let views: Result<_, _> = stored.into_iter().map(targets::view).collect();
    Ok(Json(views?))
}

/// `GET /api/notifications/targets/{name}`.
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
) -> Result<Json<TargetView>, Error> {
    let stored = orchestrator.store().notification_target(&name).await?;
    Ok(Json(targets::view(stored)?))
}

/// `POST /api/notifications/targets`.
pub(crate) async fn create(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Body(create): Body<CreateTarget>,
) -> Result<(StatusCode, Json<CreatedTarget>), Error> {
    let actor = orchestrator.actor(&person);
    let created = targets::create(&orchestrator, create, &actor).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// `PATCH /api/notifications/targets/{name}`.
pub(crate) async fn change(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
    Body(change): Body<ChangeTarget>,
) -> Result<Json<CreatedTarget>, Error> {
    let actor = orchestrator.actor(&person);
    targets::change(&orchestrator, &name, change, &actor)
        .await
        .map(Json)
}

/// `DELETE /api/notifications/targets/{name}`.
pub(crate) async fn remove(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
) -> Result<StatusCode, Error> {
    orchestrator
        .store()
        .remove_notification_target(&name, &orchestrator.actor(&person))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /api/notifications/targets/{name}/test`.
pub(crate) async fn test(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
) -> Result<Json<Tested>, Error> {
    targets::test(&orchestrator, &person, &name).await.map(Json)
}

/// `GET /api/notifications/targets/{name}/accounts`, by account.
pub(crate) async fn accounts(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
) -> Result<Json<Vec<AccountView>>, Error> {
    orchestrator.store().notification_target(&name).await?;
    let accounts = orchestrator.store().notification_accounts(&name).await?;
    Ok(Json(accounts.into_iter().map(account_view).collect()))
}

/// `POST /api/notifications/targets/{name}/accounts`: as good as giving that person a
/// credential, so it takes the same right.
pub(crate) async fn link(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
    Body(link): Body<LinkAccount>,
) -> Result<(StatusCode, Json<AccountView>), Error> {
    check_text("account", &link.account, callback::MAX_ACCOUNT_CHARS)?;
    if link.account.trim().is_empty() {
        return Err(Error::field("account", "expected a name"));
    }
    let account = orchestrator
        .store()
        .link_notification_account(
            &name,
            &link.account,
            &link.user,
            &orchestrator.actor(&person),
        )
        .await?;
    Ok((StatusCode::CREATED, Json(account_view(account))))
}

/// Which account.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Which {
    account: String,
}

/// `DELETE /api/notifications/targets/{name}/accounts?account=`.
pub(crate) async fn unlink(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
    Parameters(which): Parameters<Which>,
) -> Result<StatusCode, Error> {
    orchestrator
        .store()
        .unlink_notification_account(&name, &which.account, &orchestrator.actor(&person))
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What a list may be narrowed to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Filter {
    #[serde(default)]
    target: Option<TargetName>,
    #[serde(default)]
    status: Option<Word>,
    #[serde(default)]
    limit: Option<u32>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Word {
    Waiting,
    Delivered,
    Dropped,
    Dead,
}

/// `GET /api/notifications/messages?target=&status=&limit=`, newest first.
pub(crate) async fn messages(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Json<Vec<MessageView>>, Error> {
    let status = filter.status.map(|word| match word {
        Word::Waiting => MessageStatus::Waiting,
        Word::Delivered => MessageStatus::Delivered,
        Word::Dropped => MessageStatus::Dropped,
        Word::Dead => MessageStatus::Dead,
    });
    let limit = filter.limit.unwrap_or(100).min(MAX_LIST);
    let stored = orchestrator
        .store()
        .notifications(filter.target.as_ref(), status, limit)
        .await?;
    Ok(Json(
        stored.into_iter().map(targets::message_view).collect(),
    ))
}

/// `POST /api/notifications/messages/{id}/redeliver`.
pub(crate) async fn redeliver(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(id): Named<MessageId>,
) -> Result<Json<MessageView>, Error> {
    let stored = orchestrator
        .store()
        .redeliver_notification(id, &orchestrator.actor(&person))
        .await?;
    Ok(Json(targets::message_view(stored)))
}

/// `POST /api/notifications/slack/actions`: believed for its signature alone.
pub(crate) async fn slack(
    State(orchestrator): State<Orchestrator>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Error> {
    callback::slack(&orchestrator, &headers, &body)
        .await
        .map(Json)
}

/// `POST /api/notifications/targets/{name}/verdict`: believed for its signature alone.
pub(crate) async fn verdict(
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<ApprovalSummary>, Error> {
    let stored = callback::verdict(&orchestrator, &name, &headers, &body).await?;
    Ok(Json(summary(&stored)))
}

fn account_view(account: Account) -> AccountView {
    AccountView {
        account: account.account,
        user: account.user,
        linked: account.linked,
        linked_by: account.linked_by,
    }
}

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
        SignedVerdict, TargetView, Tested,
    },
};
use serde::Deserialize;
use serde_json::Value;
use store::notifications::{Account, outbox::MessageStatus};
use utoipa::IntoParams;

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

#[utoipa::path(
    get,
    path = "/api/notifications/targets",
    tag = "notifications",
    summary = "Where people are told",
    responses((status = 200, description = "By name", body = Vec<TargetView>))
)]
pub(crate) async fn list(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
) -> Result<Json<Vec<TargetView>>, Error> {
    let stored = orchestrator.store().notification_targets().await?;
    let views: Result<_, _> = stored.into_iter().map(targets::view).collect();
    Ok(Json(views?))
}

#[utoipa::path(
    get,
    path = "/api/notifications/targets/{name}",
    tag = "notifications",
    summary = "One target",
    params(("name" = TargetName, Path, description = "The target's name")),
    responses((status = 200, description = "Without its address and secrets", body = TargetView))
)]
pub(crate) async fn show(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
) -> Result<Json<TargetView>, Error> {
    let stored = orchestrator.store().notification_target(&name).await?;
    Ok(Json(targets::view(stored)?))
}

#[utoipa::path(
    post,
    path = "/api/notifications/targets",
    tag = "notifications",
    summary = "Add a target",
    request_body = CreateTarget,
    responses((status = 201, description = "With a secret that was made, shown once", body = CreatedTarget), (status = 409, description = "There is one of that name"))
)]
pub(crate) async fn create(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Body(create): Body<CreateTarget>,
) -> Result<(StatusCode, Json<CreatedTarget>), Error> {
    let actor = orchestrator.actor(&person);
    let created = targets::create(&orchestrator, create, &actor).await?;
    Ok((StatusCode::CREATED, Json(created)))
}

#[utoipa::path(
    patch,
    path = "/api/notifications/targets/{name}",
    tag = "notifications",
    summary = "Change a target",
    params(("name" = TargetName, Path, description = "The target's name")),
    request_body = ChangeTarget,
    responses((status = 200, description = "As it is now", body = CreatedTarget), (status = 409, description = "It cannot be so"))
)]
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

#[utoipa::path(
    delete,
    path = "/api/notifications/targets/{name}",
    tag = "notifications",
    summary = "Remove a target",
    params(("name" = TargetName, Path, description = "The target's name")),
    responses((status = 204, description = "It is gone"))
)]
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

#[utoipa::path(
    post,
    path = "/api/notifications/targets/{name}/test",
    tag = "notifications",
    summary = "Send a message now",
    params(("name" = TargetName, Path, description = "The target's name")),
    responses((status = 200, description = "Whether it was delivered", body = Tested), (status = 409, description = "It cannot be sent to"))
)]
pub(crate) async fn test(
    May(person, ..): May<ManageUsers>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
) -> Result<Json<Tested>, Error> {
    targets::test(&orchestrator, &person, &name).await.map(Json)
}

#[utoipa::path(
    get,
    path = "/api/notifications/targets/{name}/accounts",
    tag = "notifications",
    summary = "Which accounts there are which people",
    params(("name" = TargetName, Path, description = "The target's name")),
    responses((status = 200, description = "By account", body = Vec<AccountView>))
)]
pub(crate) async fn accounts(
    _: May<View>,
    State(orchestrator): State<Orchestrator>,
    Named(name): Named<TargetName>,
) -> Result<Json<Vec<AccountView>>, Error> {
    orchestrator.store().notification_target(&name).await?;
    let accounts = orchestrator.store().notification_accounts(&name).await?;
    Ok(Json(accounts.into_iter().map(account_view).collect()))
}

#[utoipa::path(
    post,
    path = "/api/notifications/targets/{name}/accounts",
    tag = "notifications",
    summary = "Say who an account is",
    params(("name" = TargetName, Path, description = "The target's name")),
    request_body = LinkAccount,
    responses((status = 201, description = "The account", body = AccountView), (status = 409, description = "The account is linked already"))
)]
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
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Which {
    /// As the messenger names it.
    account: String,
}

#[utoipa::path(
    delete,
    path = "/api/notifications/targets/{name}/accounts",
    tag = "notifications",
    summary = "Forget who an account is",
    params(("name" = TargetName, Path, description = "The target's name"), Which),
    responses((status = 204, description = "It is nobody now"))
)]
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
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Filter {
    /// To this target.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    target: Option<TargetName>,
    /// Of which this became: `waiting`, `delivered`, `dropped` or `dead`.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    status: Option<Word>,
    /// At most so many; 100 if absent, never more than 1000.
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

#[utoipa::path(
    get,
    path = "/api/notifications/messages",
    tag = "notifications",
    summary = "What was sent, waits, or was given up",
    params(Filter),
    responses((status = 200, description = "Newest first", body = Vec<MessageView>))
)]
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

#[utoipa::path(
    post,
    path = "/api/notifications/messages/{message}/redeliver",
    tag = "notifications",
    summary = "Send a message again",
    params(("message" = MessageId, Path)),
    responses((status = 200, description = "It waits to be sent", body = MessageView), (status = 409, description = "It waits already"))
)]
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

#[utoipa::path(
    post,
    path = "/api/notifications/slack/actions",
    tag = "notifications",
    summary = "A button was pressed in Slack",
    request_body(content = String, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, description = "What Slack shows", body = Object), (status = 400, description = "Not what Slack sends"), (status = 401, description = "The signature is not Slack's"), (status = 413, description = "The body is too large"))
)]
pub(crate) async fn slack(
    State(orchestrator): State<Orchestrator>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Json<Value>, Error> {
    callback::slack(&orchestrator, &headers, &body)
        .await
        .map(Json)
}

#[utoipa::path(
    post,
    path = "/api/notifications/targets/{name}/verdict",
    tag = "notifications",
    summary = "The verdict of a linked person, signed",
    params(("name" = TargetName, Path, description = "The target's name")),
    request_body = SignedVerdict,
    responses((status = 200, description = "The request", body = ApprovalSummary), (status = 400, description = "Not a verdict"), (status = 401, description = "The signature is wrong, old or used"), (status = 409, description = "It is no longer pending"), (status = 413, description = "The body is too large"), (status = 422, description = "Policy would refuse the call all the same"))
)]
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

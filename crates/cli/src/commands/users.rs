//! `cedargate users`.

use std::io::BufRead;

use authz::{TokenId, UserId};
use contract::users::{ChangeUser, Code, CreateUser, SessionView, UserView};
use serde_json::json;

use super::{Context, agents};
use crate::{
    arguments::{SecondFactor, UserTokens, Users},
    client::Answer,
    exit::Usage,
    output::{Output, list, time},
};

pub(super) async fn run(context: &Context, command: Users) -> anyhow::Result<()> {
    let client = context.client();
    match command {
        Users::List => {
            let users = client.users().await.of(&context.remote)?;
            context.output.print(&users, |output| {
                output.table(
                    &[
                        "id",
                        "name",
                        "state",
                        "roles",
                        "teams",
                        "second factor",
                        "last seen",
                    ],
                    users.iter().map(|view| {
                        vec![
                            view.user.id.to_string(),
                            view.user.name.clone(),
                            state(view).to_owned(),
                            list(&view.user.roles),
                            list(&view.user.teams),
                            second_factor(view).to_owned(),
                            view.last_seen.map(time).unwrap_or_default(),
                        ]
                    }),
                )
            })
        }
        Users::Whoami => {
            let user = client.whoami().await.of(&context.remote)?;
            context.output.print(&user, |output| detail(output, &user))
        }
        Users::Create {
            id,
            name,
            roles,
            teams,
        } => {
            let create = CreateUser {
                id,
                name,
                teams: teams.into_iter().collect(),
                roles: roles.into_iter().collect(),
            };
            let user = client.create_user(&create).await.of(&context.remote)?;
            context.output.print(&user, |output| detail(output, &user))
        }
        Users::Show { id } => {
            let user = client.user(&id).await.of(&context.remote)?;
            context.output.print(&user, |output| detail(output, &user))
        }
        Users::Change {
            id,
            name,
            roles,
            teams,
        } => {
            let change = ChangeUser {
                name,
                roles: agents::set(roles),
                teams: agents::set(teams),
                active: None,
            };
            change_user(context, &id, &change).await
        }
        Users::Deactivate { id } => change_user(context, &id, &activity(false)).await,
        Users::Activate { id } => change_user(context, &id, &activity(true)).await,
        Users::Token { id, token } | Users::Tokens(UserTokens::Create { id, token }) => {
            create_token(context, &id, agents::request(token)).await
        }
        Users::Tokens(UserTokens::List { id }) => tokens(context, &id).await,
        Users::Tokens(UserTokens::Revoke { id, token }) => revoke_token(context, &id, token).await,
        Users::Sessions { id, end, end_all } => {
            if end_all || end.is_some() {
                client
                    .end_user_sessions(&id, end)
                    .await
                    .of(&context.remote)?;
            }
            sessions(context, &id).await
        }
        Users::StepUp => step_up(context).await,
        Users::SecondFactor(SecondFactor::Enrol) => enrol(context).await,
        Users::SecondFactor(SecondFactor::Remove { id }) => {
            client.remove_second_factor(&id).await.of(&context.remote)?;
            context.output.print(&json!({"removed": id}), |_| {
                format!("{id} has no second factor any more")
            })
        }
        Users::Unlink { id } => {
            client.unlink_user(&id).await.of(&context.remote)?;
            context.output.print(&json!({"unlinked": id}), |_| {
                format!("{id} is nobody at the provider any more")
            })
        }
    }
}

async fn change_user(context: &Context, id: &UserId, change: &ChangeUser) -> anyhow::Result<()> {
    let user = context
        .client()
        .change_user(id, change)
        .await
        .of(&context.remote)?;
    context.output.print(&user, |output| detail(output, &user))
}

fn activity(active: bool) -> ChangeUser {
    ChangeUser {
        active: Some(active),
        ..ChangeUser::default()
    }
}

pub(super) async fn tokens(context: &Context, user: &UserId) -> anyhow::Result<()> {
    let tokens = context
        .client()
        .user_tokens(user)
        .await
        .of(&context.remote)?;
    context
        .output
        .print(&tokens, |output| agents::token_table(output, &tokens))
}

pub(super) async fn revoke_token(
    context: &Context,
    user: &UserId,
    token: TokenId,
) -> anyhow::Result<()> {
    context
        .client()
        .revoke_user_token(user, token)
        .await
        .of(&context.remote)?;
    context
        .output
        .print(&json!({"revoked": token}), |_| format!("revoked {token}"))
}

async fn sessions(context: &Context, user: &UserId) -> anyhow::Result<()> {
    let sessions = context
        .client()
        .user_sessions(user)
        .await
        .of(&context.remote)?;
    context
        .output
        .print(&sessions, |output| session_table(output, &sessions))
}

async fn step_up(context: &Context) -> anyhow::Result<()> {
    let code = read_code("Code of your device, or a recovery code:")?;
    let done = context.client().step_up(&code).await.of(&context.remote)?;
    context.output.print(&done, |_| {
        format!("proved; {} recovery codes are left", done.recovery_codes)
    })
}

/// Shows a device its secret, and takes its first code.
async fn enrol(context: &Context) -> anyhow::Result<()> {
    let client = context.client();
    let begun = client.begin_second_factor().await.of(&context.remote)?;
    agents::note(&format!(
        "Give your authenticator this secret: {}\nor this address: {}",
        begun.secret, begun.uri
    ));
    let code = read_code("The six digits that it shows: ")?;
    let done = client
        .enrol_second_factor(&code)
        .await
        .of(&context.remote)?;
    if !context.output.json {
        agents::note(
            "Enrolled. Keep these recovery codes; each is good once, and they cannot be shown again:",
        );
    }
    context
        .output
        .print(&done, |_| done.recovery_codes.join("\n"))
}

/// One line of standard input. Never an argument, which every process may read.
fn read_code(prompt: &str) -> anyhow::Result<Code> {
    agents::note(prompt);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let code = line.trim().to_owned();
    if code.is_empty() {
        return Err(Usage("no code came on standard input".to_owned()).into());
    }
    Ok(Code { code })
}

fn session_table(output: Output, sessions: &[SessionView]) -> String {
    output.table(
        &["id", "by", "from", "browser", "since", "last used", "ends"],
        sessions.iter().map(|session| {
            vec![
                session.id.to_string(),
                session.method.clone(),
                session.address.clone().unwrap_or_default(),
                session.browser.clone(),
                time(session.created),
                time(session.last_used),
                time(session.expires),
            ]
        }),
    )
}

pub(super) async fn create_token(
    context: &Context,
    user: &authz::UserId,
    create: contract::agents::CreateToken,
) -> anyhow::Result<()> {
    let created = context
        .client()
        .create_user_token(user, &create)
        .await
        .of(&context.remote)?;
    agents::print_created(context.output, &created)
}

fn state(view: &UserView) -> &'static str {
    if view.user.active {
        "active"
    } else {
        "inactive"
    }
}

fn detail(output: Output, view: &UserView) -> String {
    output.fields(&[
        ("id", view.user.id.to_string()),
        ("name", view.user.name.clone()),
        ("state", state(view).to_owned()),
        ("roles", list(&view.user.roles)),
        ("teams", list(&view.user.teams)),
        ("second factor", second_factor(view).to_owned()),
        ("since", time(view.created)),
        (
            "last seen",
            view.last_seen.map_or_else(|| "never".to_owned(), time),
        ),
    ])
}

fn second_factor(view: &UserView) -> &'static str {
    if view.second_factor {
        "enrolled"
    } else {
        "none"
    }
}

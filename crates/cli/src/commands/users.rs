//! `cedargate users`.

use contract::users::{CreateUser, UserView};

use super::{Context, agents};
use crate::{
    arguments::Users,
    client::Answer,
    output::{Output, list, time},
};

pub(super) async fn run(context: &Context, command: Users) -> anyhow::Result<()> {
    let client = context.client();
    match command {
        Users::List => {
            let users = client.users().await.of(&context.remote)?;
            context.output.print(&users, |output| {
                output.table(
                    &["id", "name", "state", "roles", "teams", "since"],
                    users.iter().map(|view| {
                        vec![
                            view.user.id.to_string(),
                            view.user.name.clone(),
                            state(view).to_owned(),
                            list(&view.user.roles),
                            list(&view.user.teams),
                            time(view.created),
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
        Users::Token { id, token } => create_token(context, &id, agents::request(token)).await,
    }
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
        ("since", time(view.created)),
    ])
}

//! `cedargate tokens`.

use secrecy::ExposeSecret;
use serde_json::json;

use super::{Context, agents, users};
use crate::{
    arguments::{Global, Tokens},
    config::Environment,
    exit::Usage,
    output::Output,
    planes::random_secret,
};

pub(super) async fn run(
    global: &Global,
    environment: Environment,
    command: Tokens,
) -> anyhow::Result<()> {
    let context = || Context::new(global, environment);
    match command {
        Tokens::Generate => {
            let secret = random_secret();
            let secret = secret.expose_secret();
            Output::new(global.json).print(&json!({"token": secret}), |_| secret.to_owned())
        }
        Tokens::Create { holder, token } => match (holder.agent, holder.user) {
            (Some(agent), _) => agents::create_token(&context()?, &agent, token).await,
            (None, Some(user)) => {
                users::create_token(&context()?, &user, agents::request(token)).await
            }
            (None, None) => Err(nobody()),
        },
        Tokens::List { holder } => match (holder.agent, holder.user) {
            (Some(agent), _) => agents::tokens(&context()?, &agent).await,
            (None, Some(user)) => users::tokens(&context()?, &user).await,
            (None, None) => Err(nobody()),
        },
        Tokens::Revoke { holder, token } => match (holder.agent, holder.user) {
            (Some(agent), _) => agents::revoke_token(&context()?, &agent, token).await,
            (None, Some(user)) => users::revoke_token(&context()?, &user, token).await,
            (None, None) => Err(nobody()),
        },
    }
}

fn nobody() -> anyhow::Error {
    Usage("whose? --agent or --user".to_owned()).into()
}

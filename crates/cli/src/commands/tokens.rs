//! `cedargate tokens`.

use authz::{AgentRef, UserId};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{Context, agents, users};
use crate::{
    arguments::{Global, Holder, Tokens},
    client::Answer as _,
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
        Tokens::Create { holder, token } => {
            let context = context()?;
            match whose(holder)? {
                Whose::Agent(agent) => agents::create_token(&context, &agent, token).await,
                Whose::User(user) => {
                    users::create_token(&context, &user, agents::request(token)).await
                }
                Whose::Me => {
                    let created = context
                        .client()
                        .create_own_token(&agents::request(token))
                        .await
                        .of(&context.remote)?;
                    agents::print_created(context.output, &created)
                }
            }
        }
        Tokens::List { holder } => {
            let context = context()?;
            match whose(holder)? {
                Whose::Agent(agent) => agents::tokens(&context, &agent).await,
                Whose::User(user) => users::tokens(&context, &user).await,
                Whose::Me => users::tokens(&context, &me(&context).await?).await,
            }
        }
        Tokens::Revoke { holder, token } => {
            let context = context()?;
            match whose(holder)? {
                Whose::Agent(agent) => agents::revoke_token(&context, &agent, token).await,
                Whose::User(user) => users::revoke_token(&context, &user, token).await,
                Whose::Me => users::revoke_token(&context, &me(&context).await?, token).await,
            }
        }
    }
}

enum Whose {
    Agent(AgentRef),
    User(UserId),
    Me,
}

fn whose(holder: Holder) -> anyhow::Result<Whose> {
    match (holder.agent, holder.user, holder.me) {
        (Some(agent), _, _) => Ok(Whose::Agent(agent)),
        (None, Some(user), _) => Ok(Whose::User(user)),
        (None, None, true) => Ok(Whose::Me),
        (None, None, false) => Err(Usage("whose? --agent, --user or --me".to_owned()).into()),
    }
}

async fn me(context: &Context) -> anyhow::Result<UserId> {
    let whoami = context.client().whoami().await.of(&context.remote)?;
    Ok(whoami.user.id)
}

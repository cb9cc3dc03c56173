//! A question to policies, as Cedar gets it: who does what on what, and everything known.

use cedar_policy::{Authorizer, Entities, Request, Response};

use crate::{
    command::Command,
    decide::{Call, Circumstances},
    entities::{self, Malformed, malformed},
    facts::Principal,
    slice::{Action, Slice},
};

/// A request, with every entity that it may look at.
#[derive(Debug)]
pub(crate) struct Question {
    pub(crate) request: Request,
    pub(crate) entities: Entities,
}

impl Question {
    /// Whether an agent may do with a command what `slice` is about.
    pub(crate) fn of_agent(
        slice: &Slice,
        agent: &Principal,
        command: &Command,
        at: Circumstances,
    ) -> Result<Self, Malformed> {
        let cedar = slice.cedar()?;
        let about_agent = agent.entity()?;
        let (context, entities) = if slice.action() == Action::List {
            (
                entities::time_context(at.now)?,
                cedar.entities.with([&about_agent])?,
            )
        } else {
            let call = Call::new(command, at, slice.declares_session())?;
            (call.context(slice)?, call.entities(slice, &about_agent)?)
        };
        let request = Request::new(
            agent.uid().clone(),
            cedar.action.clone(),
            cedar.resource.clone(),
            context,
            None,
        )
        .map_err(malformed)?;
        Ok(Self { request, entities })
    }

    /// What policies say, before the error rule.
    pub(crate) fn put(&self, policies: &cedar_policy::PolicySet) -> Response {
        Authorizer::new().is_authorized(&self.request, policies, &self.entities)
    }
}

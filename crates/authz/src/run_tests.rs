//! Tests in the form of Cedar's own tool, `cedar run-tests`: read, asked and written.
//!
//! Such a test is a bare request with its entities. It knows nothing of our error rule,
//! nor of people who can lift a refusal: what it says is what Cedar by itself decides.

use std::collections::BTreeSet;

use cedar_policy::{Context, Entities, EntityUid, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    approval::{Presence, Right},
    command::Command,
    decide::Circumstances,
    entities::{Malformed, malformed},
    explain::PolicyTrace,
    facts::Principal,
    mutate::Workshop,
    policy_set::PolicySet,
    question::Question,
    slice::Slice,
    user::User,
};

/// A question of such a test.
#[derive(Debug)]
pub struct CedarQuestion(Question);

/// A test as it was read.
#[derive(Debug)]
pub struct CedarTest {
    /// May be absent.
    pub name: Option<String>,
    /// What is asked.
    pub question: CedarQuestion,
    /// Whether the decision is to be `allow`.
    pub allow: bool,
    /// Policies that must be among those that decide.
    pub reason: BTreeSet<String>,
    /// How many policies must fail.
    pub num_errors: usize,
}

/// What Cedar decides by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CedarAnswer {
    /// `allow`, else `deny`.
    pub allow: bool,
    /// The policies that decided.
    pub reason: BTreeSet<String>,
    /// The policies that failed.
    pub errors: BTreeSet<String>,
}

/// The members of a test. Others are left alone, as Cedar's tool does.
#[derive(Deserialize)]
struct Written {
    name: Option<Value>,
    request: WrittenRequest,
    entities: Value,
    decision: WrittenDecision,
    reason: Vec<String>,
    num_errors: usize,
}

#[derive(Deserialize)]
struct WrittenRequest {
    principal: String,
    action: String,
    resource: String,
    context: Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum WrittenDecision {
    Allow,
    Deny,
}

impl Workshop {
    /// Reads a test under this set's schema. `entities_of` reads the JSON of a file that
    /// the test names.
    ///
    /// # Errors
    ///
    /// What of it does not fit, in words; an entity or a context that contradicts the
    /// schema among them.
    pub fn cedar_test(
        &self,
        test: &Value,
        entities_of: impl FnOnce(&str) -> Result<Value, String>,
    ) -> Result<CedarTest, String> {
        let written = Written::deserialize(test).map_err(|error| error.to_string())?;
        let schema = self.schema();
        let uid = |role: &str, text: &str| {
            text.parse::<EntityUid>()
                .map_err(|error| format!("the {role} `{text}` is no entity: {error}"))
        };
        let principal = uid("principal", &written.request.principal)?;
        let action = uid("action", &written.request.action)?;
        let resource = uid("resource", &written.request.resource)?;
        let said = |what: &'static str| move |error: Malformed| format!("{what}: {}", error.text);
        let context = Context::from_json_value(written.request.context, Some((schema, &action)))
            .map_err(malformed)
            .map_err(said("the context does not fit the schema"))?;
        let request = Request::new(principal, action, resource, context, Some(schema))
            .map_err(malformed)
            .map_err(said("the request does not fit the schema"))?;
        let entities = match written.entities {
            Value::String(file) => entities_of(&file)?,
            inline => inline,
        };
        let entities = Entities::from_json_value(entities, Some(schema))
            .map_err(malformed)
            .map_err(said("the entities do not fit the schema"))?;
        Ok(CedarTest {
            name: match written.name {
                Some(Value::String(name)) => Some(name),
                _ => None,
            },
            question: CedarQuestion(Question { request, entities }),
            allow: written.decision == WrittenDecision::Allow,
            reason: written.reason.into_iter().collect(),
            num_errors: written.num_errors,
        })
    }
}

impl CedarQuestion {
    /// Whether an agent may do with a command what `slice` is about.
    ///
    /// # Errors
    ///
    /// That the command cannot be judged at all.
    pub fn of_agent(
        slice: &Slice,
        agent: &Principal,
        command: &Command,
        at: Circumstances,
    ) -> Result<Self, String> {
        let question = Question::of_agent(slice, agent, command, at);
        question.map(Self).map_err(|error| error.text)
    }

    /// Whether a person may do something.
    ///
    /// # Errors
    ///
    /// That it cannot be judged at all.
    pub fn of_person(
        policies: &PolicySet,
        user: &User,
        right: &Right,
        at: Presence,
    ) -> Result<Self, String> {
        let question = right.question(policies, user, at);
        question.map(Self).map_err(|error| error.text)
    }

    /// What Cedar says with every policy of the set.
    ///
    /// # Errors
    ///
    /// When the policies cannot be put together.
    pub fn ask(&self, policies: &PolicySet) -> Result<CedarAnswer, String> {
        let whole = policies.whole().map_err(|error| error.text)?;
        let response = self.0.put(&whole);
        let diagnostics = response.diagnostics();
        Ok(CedarAnswer {
            allow: response.decision() == cedar_policy::Decision::Allow,
            reason: diagnostics.reason().map(ToString::to_string).collect(),
            errors: diagnostics
                .errors()
                .map(|error| match error {
                    cedar_policy::AuthorizationError::PolicyEvaluationError(error) => {
                        error.policy_id().to_string()
                    }
                })
                .collect(),
        })
    }

    /// What is true of each policy that could match; empty if they cannot be put together.
    #[must_use]
    pub fn trace(&self, policies: &PolicySet) -> Vec<PolicyTrace> {
        policies
            .whole()
            .map(|whole| self.0.trace(&whole))
            .unwrap_or_default()
    }

    /// A test that asks this and expects `answer`, with `reason` among what decides.
    ///
    /// # Errors
    ///
    /// When something in it has no JSON form.
    pub fn written(
        &self,
        name: &str,
        answer: &CedarAnswer,
        reason: &BTreeSet<String>,
    ) -> Result<Value, String> {
        let request = &self.0.request;
        let uid = |uid: Option<&EntityUid>| uid.map(ToString::to_string).unwrap_or_default();
        let context = request
            .context()
            .map(Context::to_json_value)
            .transpose()
            .map_err(|error| malformed(error).text)?;
        let mut entities = Vec::new();
        for entity in self.0.entities.iter() {
            entities.push(
                entity
                    .to_json_value()
                    .map_err(|error| malformed(error).text)?,
            );
        }
        // In one order, whatever that of the store is: the file is kept and compared.
        entities.sort_by_cached_key(|entity| entity.get("uid").map(ToString::to_string));
        Ok(json!({
            "name": name,
            "request": {
                "principal": uid(request.principal()),
                "action": uid(request.action()),
                "resource": uid(request.resource()),
                "context": context.unwrap_or_else(|| json!({})),
            },
            "entities": entities,
            "decision": if answer.allow { "allow" } else { "deny" },
            "reason": reason,
            "num_errors": answer.errors.len(),
        }))
    }
}

//! Permits for tests of what comes after the decision.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::Path,
    sync::Arc,
};

use authz::{
    Circumstances, Command, Decision, Facts, Permit, PolicySet, PolicySources, Principal, Slice,
    Source, Timestamp, decide, slice::Action,
};
use serde_json::json;

/// A policy set that permits everything: the contract is what is tested here.
pub(crate) struct PermitEverything {
    policies: Arc<PolicySet>,
    agent: Principal,
}

impl PermitEverything {
    pub(crate) fn new() -> Self {
        let schema = std::fs::read_to_string(
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schema.cedarschema"),
        )
        .unwrap();
        let policy = r#"@id("test.everything") permit (principal is Agent, action in Action::"invoke", resource is Command) when { principal.trust >= 0 };"#;
        let sources = PolicySources {
            schema: Source {
                name: "schema.cedarschema".to_owned(),
                text: schema,
            },
            policies: vec![Source {
                name: "everything.cedar".to_owned(),
                text: policy.to_owned(),
            }],
        };
        let (policies, _) = PolicySet::load(&sources).unwrap();
        let agent = json!({"id": authz::AgentId::LOCAL.to_string(), "name": "local"});
        let facts = Facts {
            agent: serde_json::from_value(agent).unwrap(),
            grants: Vec::new(),
            version: 0,
        };
        Self {
            policies: Arc::new(policies),
            agent: Principal::new(facts),
        }
    }

    pub(crate) fn permit(&self, command: Command) -> Permit {
        let slice = Slice::new(&self.policies, &command.target, Action::Invoke);
        let now = Timestamp::from_millis(0);
        let at = Circumstances::new(now, IpAddr::V4(Ipv4Addr::LOCALHOST));
        match decide(&slice, &self.agent, command, at) {
            Decision::Permit(permit) => permit,
            Decision::Refuse(refused) => panic!("{refused:?}"),
        }
    }
}

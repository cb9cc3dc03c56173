//! Preview: the request that a command would send, with every secret masked.

use authz::{AgentId, Command, redact::REDACTED};

use super::{HttpService, base, request::Given};
use crate::preview::HttpRequest;

impl HttpService {
    /// What `command` would send for `agent`; of a list in pages, the first.
    pub(crate) fn preview(&self, agent: AgentId, command: &Command) -> Result<HttpRequest, String> {
        let name = &command.target.key.name;
        let known = self
            .commands
            .get(name)
            .ok_or_else(|| format!("its description has no command `{name}`"))?;
        let ready = self.ready.load_full();
        let place = match ready.as_ref() {
            Ok(ready) => ready.base(known).to_owned(),
            Err(_) => self.unset_base(known.address.as_deref())?,
        };
        let mut arguments = command.arguments.values().clone();
        known.redaction.arguments(&mut arguments);
        let given = Given {
            arguments: &arguments,
            agent,
            page: &[],
        };
        let prepared = known.request(&place, &known.request, given)?;
        let mut url = prepared.url;
        let mut headers: Vec<(String, String)> = prepared
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
                (name.to_string(), value)
            })
            .collect();
        if let Some(name) = &known.idempotency_key {
            headers.push((name.to_string(), "a new one for each command".to_owned()));
        }
        let credentials = ready
            .as_ref()
            .as_ref()
            .map_or(&[][..], |ready| &ready.credentials)
            .iter()
            .filter(|_| !known.without_credential);
        for credential in credentials {
            let (name, value) = credential.shown();
            match name.strip_prefix('?') {
                Some(name) => {
                    url.query_pairs_mut().append_pair(name, REDACTED);
                }
                None => headers.push((name, value)),
            }
        }
        Ok(HttpRequest {
            method: prepared.method.to_string(),
            url: url.to_string(),
            headers,
            body: prepared.body,
        })
    }

    /// Where it would be, if only the address were known.
    fn unset_base(&self, other: Option<&str>) -> Result<String, String> {
        let host = self.address.variable.to_lowercase().replace('_', "-");
        let given = self
            .address
            .default
            .clone()
            .unwrap_or_else(|| format!("http://{host}.not-set"));
        let (base, root) = base(&given, &self.address.suffix)?;
        let other = other.and_then(|name| self.address.others.get(name));
        Ok(other.map_or(base, |suffix| format!("{root}{suffix}")))
    }
}

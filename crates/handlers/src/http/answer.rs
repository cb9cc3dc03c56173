//! The answer: what an agent gets of what a service said.

use authz::redact::REDACTED;
use serde_json::{Map, Value};

use super::{HttpCommand, fields, mask, scrub::Scrubber, size};
use crate::description::AnswerShape;

impl HttpCommand {
    /// The data: `operation`, what was asked for, and repeated arguments; no more than
    /// `limit` bytes of it.
    pub(super) fn answer(
        &self,
        body: &[u8],
        arguments: &Map<String, Value>,
        scrubber: &Scrubber,
        limit: usize,
    ) -> Result<Value, String> {
        let shape = &self.answer;
        let mut data = Self::begun();
        let mut rest = None;
        if let Some(name) = &shape.text {
            data.insert(name.clone(), Value::String(text(body)?));
        } else {
            let mut value = shape.located(self.value(body)?);
            rest = shape.choose(&mut value, arguments);
            match shape.fields_of(value) {
                Ok(fields) => data.extend(fields),
                // What was asked for is done, whatever the service says of it: that it says
                // so in another shape than expected must not look like a failure.
                Err((value, _)) if self.changes() => {
                    if !value.is_null() {
                        data.insert("result".to_owned(), value);
                    }
                }
                Err((_, problem)) => return Err(problem.to_owned()),
            }
        }
        Ok(self.closed(data, rest, arguments, scrubber, limit))
    }

    /// The data of a list that came in pages; `next` is where to go on, if there is more.
    pub(super) fn list(
        &self,
        items: Vec<Value>,
        next: Option<(String, Value)>,
        arguments: &Map<String, Value>,
        scrubber: &Scrubber,
        limit: usize,
    ) -> Value {
        let mut data = Self::begun();
        data.extend(self.answer.listed(items));
        let rest = next.map(|next| Rest { next: Some(next) });
        self.closed(data, rest, arguments, scrubber, limit)
    }

    /// The data, and what it says of what is not in it.
    fn closed(
        &self,
        mut data: Map<String, Value>,
        rest: Option<Rest>,
        arguments: &Map<String, Value>,
        scrubber: &Scrubber,
        limit: usize,
    ) -> Value {
        let mut next_name = None;
        if let Some(rest) = rest {
            data.insert("truncated".to_owned(), Value::Bool(true));
            if let Some((name, value)) = rest.next {
                next_name = Some(name.clone());
                data.insert(name, value);
            }
        }
        let count = data.get(self.answer.count_name()).cloned();
        let mut data = self.finished(data, arguments, scrubber, limit);
        if let (Some(name), Value::Object(data)) = (next_name, &mut data)
            && data.get(self.answer.count_name()) != count.as_ref()
        {
            // What was cut here would be left out by going on there.
            data.remove(&name);
        }
        data
    }

    /// First, as readers look for it there.
    fn begun() -> Map<String, Value> {
        Map::from_iter([("operation".to_owned(), Value::Null)])
    }

    fn finished(
        &self,
        mut data: Map<String, Value>,
        arguments: &Map<String, Value>,
        scrubber: &Scrubber,
        limit: usize,
    ) -> Value {
        let shape = &self.answer;
        data.extend(self.constants.clone());
        for (name, argument) in &shape.echo {
            if let Some(value) = arguments.get(argument) {
                data.insert(name.clone(), value.clone());
            }
        }
        // A service may not choose what the operation is called.
        data.insert(
            "operation".to_owned(),
            Value::String(self.operation.clone()),
        );
        let list = shape.list.as_deref().map(|list| (list, shape.count_name()));
        size::fit(&mut data, list, limit);
        let mut data = Value::Object(data);
        self.redaction.answer(&mut data);
        shape.mask(&mut data);
        mask_urls(&mut data);
        scrubber.value(data)
    }

    fn changes(&self) -> bool {
        self.request.method != http::Method::GET
    }

    /// The body as JSON; as text, where saying anything at all means that it is done.
    fn value(&self, body: &[u8]) -> Result<Value, String> {
        match json(body) {
            Err(_) if self.changes() && !is_page(body) => text(body).map(Value::String),
            other => other,
        }
    }
}

/// There is more of a list than the answer has.
struct Rest {
    /// Where to go on: what it is called, and where.
    next: Option<(String, Value)>,
}

impl AnswerShape {
    /// Leaves in a list what the arguments ask for, and says whether there is more.
    fn choose(&self, value: &mut Value, arguments: &Map<String, Value>) -> Option<Rest> {
        let Value::Array(items) = value else {
            return None;
        };
        for (argument, fields) in &self.only {
            if let Some(wanted) = arguments.get(argument) {
                items.retain(|item| fields.iter().any(|field| walk(item, field) == Some(wanted)));
            }
        }
        let number = |argument: &Option<String>| {
            let number = arguments.get(argument.as_ref()?)?.as_u64()?;
            Some(usize::try_from(number).unwrap_or(usize::MAX))
        };
        let skipped = number(&self.skip).unwrap_or(0);
        items.drain(..skipped.min(items.len()));
        let most = number(&self.first).filter(|most| *most < items.len())?;
        items.truncate(most);
        let next = self.skip.as_ref().map(|name| {
            let next = skipped.saturating_add(most);
            (format!("next_{name}"), Value::from(next))
        });
        Some(Rest { next })
    }

    /// The part of the body that `at` names, if it is there.
    fn located(&self, mut value: Value) -> Value {
        match self.at.as_ref().and_then(|at| walk_mut(&mut value, at)) {
            Some(inner) => inner.take(),
            None => value,
        }
    }

    /// The items of a page.
    pub(super) fn list_of(&self, value: &mut Value) -> Option<Vec<Value>> {
        self.items(self.located(value.take())).ok()
    }

    /// What the number of items is called.
    pub(super) fn count_name(&self) -> &str {
        self.count.as_deref().unwrap_or("count")
    }

    /// A list and its length.
    fn listed(&self, items: Vec<Value>) -> Map<String, Value> {
        let count = (self.count_name().to_owned(), Value::from(items.len()));
        let items = items.into_iter().map(|item| self.picked(item)).collect();
        Map::from_iter([count, (self.list_name().to_owned(), items)])
    }

    fn list_name(&self) -> &str {
        self.list.as_deref().unwrap_or("items")
    }

    /// What stands beside `operation`; or the value as it came, and what it is not.
    fn fields_of(&self, value: Value) -> Result<Map<String, Value>, (Value, &'static str)> {
        let mut fields = Map::new();
        if self.list.is_some() {
            let items = self
                .items(value)
                .map_err(|value| (value, "its answer is not a list"))?;
            return Ok(self.listed(items));
        }
        let value = match (&self.list_as, value) {
            (Some(name), Value::Array(items)) => {
                let mut fields = self.listed(items);
                if let Some(items) = fields.remove(self.list_name()) {
                    fields.insert(name.clone(), items);
                }
                return Ok(fields);
            }
            (_, value) => value,
        };
        match (&self.object, self.picked(value)) {
            (Some(name), value @ Value::Object(_)) => {
                fields.insert(name.clone(), value);
            }
            (None, Value::Object(own)) => fields = own,
            (None, Value::Null) => {}
            (None, Value::String(message)) => {
                fields.insert("message".to_owned(), Value::String(message));
            }
            (_, value) => return Err((value, "its answer is not an object")),
        }
        Ok(fields)
    }

    fn items(&self, value: Value) -> Result<Vec<Value>, Value> {
        match value {
            Value::Array(items) => Ok(items),
            Value::Object(items)
                if self.numbered && items.keys().all(|key| key.parse::<u64>().is_ok()) =>
            {
                let mut items: Vec<(u64, Value)> = items
                    .into_iter()
                    .filter_map(|(key, value)| Some((key.parse().ok()?, value)))
                    .collect();
                items.sort_by_key(|(index, _)| *index);
                Ok(items.into_iter().map(|(_, value)| value).collect())
            }
            other => Err(other),
        }
    }

    /// The fields to keep. Those that the service left out stay out.
    fn picked(&self, mut value: Value) -> Value {
        if self.fields.is_empty() || !value.is_object() {
            return value;
        }
        let picked = self.fields.iter().filter_map(|field| {
            let (path, name) = match field.split_once(" as ") {
                Some((path, name)) => (path, name),
                None => (field.as_str(), field.rsplit('.').next().unwrap_or(field)),
            };
            let inner = if path.contains('[') {
                fields::all(&value, path)?
            } else {
                walk_mut(&mut value, path)?.take()
            };
            Some((name.to_owned(), inner))
        });
        Value::Object(picked.collect())
    }

    fn mask(&self, value: &mut Value) {
        if self.masked.is_empty() {
            return;
        }
        match value {
            Value::Array(items) => items.iter_mut().for_each(|item| self.mask(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    if !self.masked.contains(name) {
                        self.mask(value);
                    } else if let Value::String(text) = value {
                        *text = mask::text(text);
                    } else if !value.is_null() {
                        // Free text in another shape than expected is not shown at all.
                        *value = Value::String(REDACTED.to_owned());
                    }
                }
            }
            _ => {}
        }
    }
}

/// The value at a path such as `result.items`.
pub(super) fn walk<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key))
}

fn walk_mut<'a>(value: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    path.split('.')
        .try_fold(value, |value, key| value.get_mut(key))
}

/// Addresses of repositories and databases hold passwords, under whatever name.
pub(crate) fn mask_urls(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") && text.contains('@') => {
            *text = mask::urls(text);
        }
        Value::Array(items) => items.iter_mut().for_each(mask_urls),
        Value::Object(fields) => fields.values_mut().for_each(mask_urls),
        _ => {}
    }
}

fn json(body: &[u8]) -> Result<Value, String> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).map_err(|_| {
        if is_page(body) {
            "it answered with a web page".to_owned()
        } else {
            "its answer is not JSON".to_owned()
        }
    })
}

fn text(body: &[u8]) -> Result<String, String> {
    if is_page(body) {
        return Err("it answered with a web page".to_owned());
    }
    match serde_json::from_slice(body) {
        Ok(Value::String(text)) => Ok(text),
        _ => std::str::from_utf8(body)
            .map(|text| text.trim().to_owned())
            .map_err(|_| "its answer is not text".to_owned()),
    }
}

fn is_page(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'<')
}

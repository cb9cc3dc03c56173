//! Pages: a list that comes piece by piece, up to what was asked for.

use http::{HeaderMap, header};
use serde_json::Value;

use super::{answer::walk, send::Exchange};
use crate::{
    HandlerError,
    description::{PageBy, Pages},
};

/// Where a page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Position {
    Number(u64),
    /// None: at the beginning.
    Cursor(Option<String>),
}

impl Exchange<'_> {
    /// Fetches pages until there are as many items as were asked for, or no more.
    pub(super) async fn pages(&self, pages: &Pages) -> Result<Value, HandlerError> {
        let arguments = self.given.arguments;
        let wanted = arguments
            .get(&pages.limit)
            .and_then(Value::as_u64)
            .unwrap_or(pages.default.into())
            .clamp(1, pages.most().into());
        let given = arguments.get(pages.position());
        let mut position = match pages.by {
            PageBy::Page => {
                Position::Number(given.and_then(Value::as_u64).unwrap_or(pages.first.into()))
            }
            PageBy::Offset => Position::Number(given.and_then(Value::as_u64).unwrap_or(0)),
            PageBy::Cursor => Position::Cursor(given.and_then(Value::as_str).map(str::to_owned)),
        };
        let count = wanted.div_ceil(pages.size_max.into());
        let mut items = Vec::new();
        let mut bytes = 0;
        let mut next = None;
        for _ in 0..count {
            let left = wanted.saturating_sub(items.len() as u64);
            // Pages that have numbers must all have one size.
            let size = match pages.by {
                PageBy::Page => wanted.div_ceil(count),
                PageBy::Offset | PageBy::Cursor => left.min(pages.size_max.into()),
            };
            let (headers, body) = self.fetch(&parameters(pages, &position, size)).await?;
            bytes += body.len();
            let mut value: Value = serde_json::from_slice(&body)
                .map_err(|_| self.not_understood("its answer is not JSON"))?;
            let told = Told::new(pages, &headers, &value);
            let page = self
                .command
                .answer
                .list_of(&mut value)
                .ok_or_else(|| self.not_understood("its answer is not a list"))?;
            next = told.next(pages, &position, size, &page);
            items.extend(page);
            match &next {
                Some(next)
                    if (items.len() as u64) < wanted
                        && bytes < self.command.bounds.answer_bytes =>
                {
                    position = next.clone();
                }
                _ => break,
            }
        }
        let next = next.map(|next| {
            let value = match next {
                Position::Number(number) => Value::from(number),
                Position::Cursor(cursor) => Value::from(cursor),
            };
            (pages.next_name(), value)
        });
        let limit = self.command.bounds.result_bytes;
        Ok(self
            .command
            .list(items, next, arguments, &self.scrubber(), limit))
    }
}

fn parameters(pages: &Pages, position: &Position, size: u64) -> Vec<(String, String)> {
    let size = pages
        .size
        .as_ref()
        .map(|name| (name.clone(), size.to_string()));
    let position = match position {
        Position::Number(number) => Some(number.to_string()),
        Position::Cursor(cursor) => cursor.clone(),
    };
    size.into_iter()
        .chain(position.map(|position| (pages.parameter.clone(), position)))
        .collect()
}

/// What an answer says of what comes after it.
struct Told {
    /// Whether there is more, if it says.
    more: Option<bool>,
    cursor: Option<String>,
    pages: Option<u64>,
}

impl Told {
    fn new(pages: &Pages, headers: &HeaderMap, value: &Value) -> Self {
        let at = |path: &Option<String>| path.as_ref().and_then(|path| walk(value, path));
        let more = if pages.link {
            Some(headers.get_all(header::LINK).iter().any(|link| {
                link.to_str()
                    .is_ok_and(|link| link.replace(' ', "").contains("rel=\"next\""))
            }))
        } else {
            at(&pages.more).and_then(Value::as_bool)
        };
        let cursor = match at(&pages.next) {
            Some(Value::String(cursor)) if !cursor.is_empty() => Some(cursor.clone()),
            Some(Value::Number(cursor)) => Some(cursor.to_string()),
            _ => None,
        };
        Self {
            more,
            cursor,
            pages: at(&pages.page_count).and_then(Value::as_u64),
        }
    }

    /// Where the next page begins, if there is one.
    fn next(
        self,
        pages: &Pages,
        position: &Position,
        size: u64,
        page: &[Value],
    ) -> Option<Position> {
        if page.is_empty() && pages.by != PageBy::Cursor {
            return None;
        }
        match (pages.by, position) {
            (PageBy::Cursor, _) => {
                if self.more == Some(false) {
                    return None;
                }
                let cursor = match &pages.next_of_last {
                    Some(field) if self.more == Some(true) => {
                        walk(page.last()?, field)?.as_str().map(str::to_owned)
                    }
                    Some(_) => None,
                    None => self.cursor,
                };
                cursor.map(|cursor| Position::Cursor(Some(cursor)))
            }
            (PageBy::Page, Position::Number(number)) => {
                let last = self.pages.map(|pages| *number < pages);
                let full = page.len() as u64 >= size;
                self.more
                    .or(last)
                    .unwrap_or(full)
                    .then_some(Position::Number(number.saturating_add(1)))
            }
            (PageBy::Offset, Position::Number(number)) => {
                let full = page.len() as u64 >= size;
                self.more
                    .unwrap_or(full)
                    .then_some(Position::Number(number.saturating_add(page.len() as u64)))
            }
            (_, Position::Cursor(_)) => None,
        }
    }
}

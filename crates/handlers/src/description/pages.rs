//! Pages: how a list that a service gives piece by piece becomes one answer.

use serde::Deserialize;

use super::{Argument, ArgumentType, Place};

/// How a service pages. The command gets two arguments for it: how many items are wanted,
/// and where to begin; an answer that is not all says so and says where to go on.
#[derive(Clone, Debug, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pages {
    pub(crate) by: PageBy,
    /// The query parameter that says where a page begins: its number, how many items come
    /// before it, or the cursor.
    pub(crate) parameter: String,
    /// The query parameter for the number of items of a page.
    pub(crate) size: Option<String>,
    /// The most items that a page may have.
    #[serde(default = "hundred")]
    pub(crate) size_max: u32,
    /// How many items are fetched unless the agent says.
    #[serde(default = "thirty")]
    pub(crate) default: u32,
    /// The most pages that are fetched for one command.
    #[serde(default = "five")]
    pub(crate) at_most: u32,
    /// Number of the first page.
    #[serde(default = "one")]
    pub(crate) first: u32,
    /// Where the answer has the next cursor, such as `meta.next`.
    pub(crate) next: Option<String>,
    /// The next cursor is this field of the last item.
    pub(crate) next_of_last: Option<String>,
    /// Where the answer says whether there is more: true or false.
    pub(crate) more: Option<String>,
    /// The service sends a `Link` header with `rel="next"` if, and only if, there is more.
    #[serde(default)]
    pub(crate) link: bool,
    /// Where the answer says how many pages there are.
    pub(crate) page_count: Option<String>,
    /// What the argument is called that says how many items are wanted.
    #[serde(default = "limit")]
    pub(crate) limit: String,
    /// What the argument is called that says where to begin: `page`, `offset` or `cursor`
    /// unless said.
    pub(crate) argument: Option<String>,
    /// What the answer calls the place to go on from: `next_` and the argument unless said.
    pub(crate) answer: Option<String>,
}

/// What names a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum PageBy {
    /// Its number.
    Page,
    /// How many items come before it.
    Offset,
    /// What the page before it said.
    Cursor,
}

const fn hundred() -> u32 {
    100
}

const fn thirty() -> u32 {
    30
}

const fn five() -> u32 {
    5
}

const fn one() -> u32 {
    1
}

fn limit() -> String {
    "limit".to_owned()
}

impl Pages {
    /// The argument that says where to begin.
    pub(crate) fn position(&self) -> &str {
        self.argument.as_deref().unwrap_or(match self.by {
            PageBy::Page => "page",
            PageBy::Offset => "offset",
            PageBy::Cursor => "cursor",
        })
    }

    /// What the answer calls the place to go on from.
    pub(crate) fn next_name(&self) -> String {
        self.answer
            .clone()
            .unwrap_or_else(|| format!("next_{}", self.position()))
    }

    /// The most items that one command gets.
    pub(crate) fn most(&self) -> u32 {
        self.size_max.saturating_mul(self.at_most)
    }

    /// The arguments that a command gets for it.
    pub(super) fn arguments(&self) -> [Argument; 2] {
        let mut limit = Argument::new(&self.limit, ArgumentType::Integer, Place::Pages);
        "How many at most; page by page, so it may be rounded up"
            .clone_into(&mut limit.description);
        limit.wire.clone_from(&self.size);
        limit.minimum = Some(1);
        limit.maximum = Some(self.most().into());
        limit.default = Some(toml::Value::Integer(self.default.into()));
        let kind = if self.by == PageBy::Cursor {
            ArgumentType::String
        } else {
            ArgumentType::Integer
        };
        let mut position = Argument::new(self.position(), kind, Place::Pages);
        position.wire = Some(self.parameter.clone());
        position.description = format!(
            "Where to begin: `{}` of an earlier answer",
            self.next_name()
        );
        match self.by {
            PageBy::Page => position.minimum = Some(self.first.into()),
            PageBy::Offset => position.minimum = Some(0),
            PageBy::Cursor => position.max_length = Some(4096),
        }
        [limit, position]
    }

    /// What is wrong with it.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.size_max == 0 || self.default == 0 || self.at_most == 0 {
            return Err("`pages` of no size".to_owned());
        }
        if self.default > self.most() {
            return Err("`pages.default` is more than `size_max` times `at_most`".to_owned());
        }
        let cursor = self.next.is_some() || self.next_of_last.is_some();
        if cursor != (self.by == PageBy::Cursor) {
            return Err(
                "`pages` needs `next` or `next_of_last` with `by = \"cursor\"`, and only then"
                    .to_owned(),
            );
        }
        if self.next_of_last.is_some() && self.more.is_none() {
            return Err(
                "`pages.next_of_last` needs `more`: a last item there always is".to_owned(),
            );
        }
        Ok(())
    }
}

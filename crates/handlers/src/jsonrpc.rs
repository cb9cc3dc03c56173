//! One JSON-RPC message, read strictly and without rebuilding it.
//!
//! [`scan`] says what a message asks for and where in it, so that what was decided and
//! what is sent on are the same bytes. Whatever two parsers could read differently is
//! refused: a key that occurs twice or in two spellings, more than one value, a batch.
//! [`members`] and [`elements`] take a value of an answer apart in the same way.

use std::{borrow::Cow, collections::HashSet};

/// How deep arrays and objects may nest.
pub const MAX_DEPTH: usize = 64;

/// How long the text of an id or a progress token may be, in bytes.
pub const MAX_ID_BYTES: usize = 512;

/// An integer beyond this is not the same number in every language.
const EXACT_INTEGERS: i64 = 9_007_199_254_740_991;

/// What begins so is between `serde_json` and itself.
pub(crate) const PRIVATE: &str = "$serde_json::private::";

/// The protocol version of one request, since 2026-07-28.
pub const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// What a client can do, since 2026-07-28.
pub const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// Why bytes are not one message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScanError {
    /// Not UTF-8.
    #[error("invalid UTF-8 after byte {valid_up_to}")]
    Utf8 {
        /// So many bytes were valid.
        valid_up_to: usize,
    },
    /// Not JSON.
    #[error("{what} at byte {at}")]
    Syntax {
        /// What is wrong.
        what: &'static str,
        /// Where.
        at: usize,
    },
    /// A key that another parser could take for another.
    #[error("key `{key}` occurs twice in one object, or only its case differs")]
    Key {
        /// The key, shortened.
        key: String,
    },
    /// A key that is a known one in another spelling.
    #[error("key `{key}` is `{known}` in another spelling")]
    Spelling {
        /// The key, shortened.
        key: String,
        /// What it could be taken for.
        known: &'static str,
    },
    /// A key by which `serde_json` hands itself values: to it, the object that it stands in is
    /// another value than to everybody else.
    #[error("key `{key}` has a meaning of its own to some parsers")]
    Private {
        /// The key, shortened.
        key: String,
    },
    /// Too deep.
    #[error("nested deeper than {MAX_DEPTH} levels")]
    Depth,
    /// An array of messages.
    #[error("batches are not accepted: send one message")]
    Batch,
    /// JSON, and no message.
    #[error("{0}")]
    Message(&'static str),
}

impl ScanError {
    /// Whether it is not even JSON (-32700), or JSON of a wrong shape (-32600).
    #[must_use]
    pub fn is_syntax(&self) -> bool {
        matches!(self, Self::Utf8 { .. } | Self::Syntax { .. })
    }
}

/// An id, or a progress token.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Id<'a> {
    /// An integer that every language holds exactly.
    Number(i64),
    /// A text.
    Text(Cow<'a, str>),
}

impl<'a> Id<'a> {
    /// Reads one from the text of its value; `None` for anything else.
    #[must_use]
    pub fn read(raw: &'a str) -> Option<Self> {
        if raw.len() > MAX_ID_BYTES {
            return None;
        }
        if let Some(text) = string(raw) {
            return Some(Self::Text(text));
        }
        let digits = raw.strip_prefix('-').unwrap_or(raw);
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let number: i64 = raw.parse().ok().filter(|_| plain)?;
        (number.abs() <= EXACT_INTEGERS).then_some(Self::Number(number))
    }
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member<'a> {
    /// What it is called.
    pub name: Cow<'a, str>,
    /// The exact text of its value.
    pub value: &'a str,
    /// Where it begins, with the quote before its name, in the whole text.
    pub start: usize,
    /// Where its value ends.
    pub end: usize,
}

/// Members of one object, in their order; no two have one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members<'a>(Vec<Member<'a>>);

impl<'a> Members<'a> {
    /// One of them.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Member<'a>> {
        self.0.iter().find(|member| member.name == name)
    }

    /// The exact text of one's value.
    #[must_use]
    pub fn raw(&self, name: &str) -> Option<&'a str> {
        self.get(name).map(|member| member.value)
    }

    /// One that is a string.
    ///
    /// # Errors
    ///
    /// When it is there and something else.
    pub fn text(&self, name: &'static str) -> Result<Option<Cow<'a, str>>, NotText> {
        match self.raw(name) {
            None => Ok(None),
            Some(raw) => string(raw).map(Some).ok_or(NotText(name)),
        }
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Member<'a>> {
        self.0.iter()
    }
}

impl<'a, 'm> IntoIterator for &'m Members<'a> {
    type Item = &'m Member<'a>;
    type IntoIter = std::slice::Iter<'m, Member<'a>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A member is there and is not a string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` must be a string")]
pub struct NotText(pub &'static str);

/// What a message is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// It wants an answer.
    Request {
        /// To be repeated in the answer.
        id: Id<'a>,
        /// What is asked for.
        method: Cow<'a, str>,
    },
    /// It wants none.
    Notification {
        /// What is said.
        method: Cow<'a, str>,
    },
    /// It answers what the other side asked.
    Response {
        /// Of the request.
        id: Id<'a>,
        /// The exact text of `result`; none when it is an error.
        result: Option<&'a str>,
    },
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// What it is.
    pub kind: Kind<'a>,
    /// The exact text of `id`, to be repeated.
    pub id: Option<&'a str>,
    /// Whether it has `params`.
    pub has_params: bool,
    /// The members of `params`.
    pub params: Members<'a>,
    /// The members of `params._meta`.
    pub meta: Members<'a>,
}

impl<'a> Message<'a> {
    /// What is asked for or said; none for a response.
    #[must_use]
    pub fn method(&self) -> Option<&str> {
        match &self.kind {
            Kind::Request { method, .. } | Kind::Notification { method } => Some(method),
            Kind::Response { .. } => None,
        }
    }

    /// The version that `_meta` names, with which a request needs no session.
    ///
    /// # Errors
    ///
    /// When it is no string.
    pub fn version(&self) -> Result<Option<Cow<'a, str>>, NotText> {
        self.meta.text(META_VERSION)
    }

    /// Under what the client wants to hear of progress.
    #[must_use]
    pub fn progress_token(&self) -> Option<&'a str> {
        self.meta.raw("progressToken")
    }
}

/// Reads one message.
///
/// # Errors
///
/// See [`ScanError`]. It accepts nothing that `serde_json` does not.
pub fn scan(bytes: &[u8]) -> Result<Message<'_>, ScanError> {
    let text = utf8(bytes)?;
    let mut parts = Parts::default();
    let mut reader = Reader::new(text, Strictness::Everywhere);
    reader.space();
    match reader.peek() {
        Some(b'{') => reader.object(0, Level::Top, &mut parts)?,
        Some(b'[') => return Err(ScanError::Batch),
        Some(_) => {
            reader.value(0)?;
            reader.end()?;
            return Err(ScanError::Message("a message is an object"));
        }
        None => return Err(reader.syntax("nothing")),
    }
    reader.end()?;
    parts.message()
}

/// Takes an object of an answer apart; `text` is the whole of it. Only its own names are
/// held to be different: what lies deeper is passed on as it is.
///
/// # Errors
///
/// See [`ScanError`].
pub fn members(text: &str) -> Result<Members<'_>, ScanError> {
    let mut parts = Parts::default();
    let mut reader = Reader::new(text, Strictness::Captured);
    reader.space();
    if reader.peek() != Some(b'{') {
        return Err(ScanError::Message("an object is expected"));
    }
    reader.object(0, Level::Plain, &mut parts)?;
    reader.end()?;
    Ok(parts.params)
}

/// Takes an array of an answer apart: the exact text of each of its values.
///
/// # Errors
///
/// See [`ScanError`].
pub fn elements(text: &str) -> Result<Vec<&str>, ScanError> {
    let mut reader = Reader::new(text, Strictness::Captured);
    reader.space();
    if reader.peek() != Some(b'[') {
        return Err(ScanError::Message("an array is expected"));
    }
    let mut elements = Vec::new();
    reader.array(0, Some(&mut elements))?;
    reader.end()?;
    Ok(elements)
}

/// The string that a JSON text is; `None` when it is something else.
#[must_use]
pub fn string(raw: &str) -> Option<Cow<'_, str>> {
    let mut reader = Reader::new(raw, Strictness::Captured);
    if reader.peek() != Some(b'"') {
        return None;
    }
    let text = reader.string().ok()?;
    (reader.at == raw.len()).then(|| text.decoded())
}

/// Bytes as text.
///
/// # Errors
///
/// [`ScanError::Utf8`].
pub fn utf8(bytes: &[u8]) -> Result<&str, ScanError> {
    std::str::from_utf8(bytes).map_err(|error| ScanError::Utf8 {
        valid_up_to: error.valid_up_to(),
    })
}

/// Takes a member out of a whole text, together with one comma.
#[must_use]
pub fn without(text: &str, member: &Member<'_>) -> String {
    let before = text.get(..member.start).unwrap_or_default();
    let after = text.get(member.end..).unwrap_or_default();
    let space = [' ', '\t', '\n', '\r'];
    let mut out = String::with_capacity(text.len());
    if let Some(rest) = after.trim_start_matches(space).strip_prefix(',') {
        out.push_str(before);
        out.push_str(rest.trim_start_matches(space));
    } else {
        let trimmed = before.trim_end_matches(space);
        out.push_str(trimmed.strip_suffix(',').unwrap_or(before));
        out.push_str(after);
    }
    out
}

/// Members of a message, or what could be taken for them.
const TOP: &[&str] = &["jsonrpc", "id", "method", "params", "result", "error"];

/// Members of `params` that say what is asked for.
const PARAMS: &[&str] = &[
    "_meta",
    "argument",
    "arguments",
    "capabilities",
    "clientInfo",
    "context",
    "cursor",
    "inputResponses",
    "level",
    "name",
    "notifications",
    "progressToken",
    "protocolVersion",
    "ref",
    "requestId",
    "requestState",
    "task",
    "taskId",
    "uri",
];

/// Members of `_meta` that say how it is asked for.
const META: &[&str] = &[
    "progressToken",
    META_VERSION,
    META_CAPABILITIES,
    "io.modelcontextprotocol/clientInfo",
    "io.modelcontextprotocol/related-task",
];

/// What an object is to the message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Top,
    Params,
    Meta,
    /// The one that is taken apart.
    Plain,
    /// Anything deeper.
    Inner,
}

/// Where names are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Strictness {
    /// In every object.
    Everywhere,
    /// In those that are taken apart.
    Captured,
}

#[derive(Default)]
struct Parts<'a> {
    top: Members<'a>,
    params: Members<'a>,
    meta: Members<'a>,
}

impl<'a> Parts<'a> {
    fn of(&mut self, level: Level) -> Option<&mut Members<'a>> {
        match level {
            Level::Top => Some(&mut self.top),
            Level::Params | Level::Plain => Some(&mut self.params),
            Level::Meta => Some(&mut self.meta),
            Level::Inner => None,
        }
    }

    fn message(self) -> Result<Message<'a>, ScanError> {
        let wrong = |what| Err(ScanError::Message(what));
        if self.top.raw("jsonrpc").and_then(string).as_deref() != Some("2.0") {
            return wrong("`jsonrpc` must be \"2.0\"");
        }
        let raw_id = self.top.raw("id");
        let id = match raw_id.map(Id::read) {
            None => None,
            Some(Some(id)) => Some(id),
            Some(None) => return wrong("`id` must be a string or an integer, and not long"),
        };
        let method = match self.top.text("method") {
            Ok(method) => method,
            Err(NotText(_)) => return wrong("`method` must be a string"),
        };
        let params = self.top.raw("params");
        if params.is_some_and(|raw| !raw.starts_with('{')) {
            return wrong("`params` must be an object");
        }
        if self
            .params
            .raw("_meta")
            .is_some_and(|raw| !raw.starts_with('{'))
        {
            return wrong("`_meta` must be an object");
        }
        let (result, error) = (self.top.raw("result"), self.top.raw("error"));
        let kind = match (method, id, result, error) {
            (Some(method), Some(id), None, None) => Kind::Request { id, method },
            (Some(method), None, None, None) => Kind::Notification { method },
            (None, Some(id), Some(result), None) => Kind::Response {
                id,
                result: Some(result),
            },
            (None, Some(id), None, Some(_)) => Kind::Response { id, result: None },
            (Some(_), ..) => return wrong("a message has `method`, or `result`, or `error`"),
            (None, None, ..) => return wrong("a message needs `method`, or an `id`"),
            (None, Some(_), ..) => return wrong("a response has `result` or `error`"),
        };
        Ok(Message {
            kind,
            id: raw_id,
            has_params: params.is_some(),
            params: self.params,
            meta: self.meta,
        })
    }
}

/// So many names are compared one by one; of more, a set is kept.
const FEW_KEYS: usize = 16;

/// A number of so many letters, without an exponent, is surely finite.
const FINITE_DIGITS: usize = 300;

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    strictness: Strictness,
    /// Of the objects that are open: names as [`folded`] numbers.
    keys: Vec<u64>,
}

/// The inside of a string.
#[derive(Clone, Copy)]
struct Text<'a> {
    raw: &'a str,
    escaped: bool,
}

impl<'a> Text<'a> {
    fn decoded(self) -> Cow<'a, str> {
        if self.escaped {
            Cow::Owned(unescaped(self.raw))
        } else {
            Cow::Borrowed(self.raw)
        }
    }
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, strictness: Strictness) -> Self {
        Self {
            text,
            bytes: text.as_bytes(),
            at: 0,
            strictness,
            keys: Vec::new(),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn syntax(&self, what: &'static str) -> ScanError {
        ScanError::Syntax { what, at: self.at }
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn end(&mut self) -> Result<(), ScanError> {
        self.space();
        if self.at == self.bytes.len() {
            Ok(())
        } else {
            Err(self.syntax("more after the value"))
        }
    }

    fn since(&self, start: usize) -> &'a str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// Reads any value; its exact text.
    fn value(&mut self, depth: usize) -> Result<&'a str, ScanError> {
        let start = self.at;
        match self.peek() {
            Some(b'{') => self.object(depth, Level::Inner, &mut Parts::default())?,
            Some(b'[') => self.array(depth, None)?,
            Some(b'"') => {
                self.string()?;
            }
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(b't') => self.word("true")?,
            Some(b'f') => self.word("false")?,
            Some(b'n') => self.word("null")?,
            Some(_) => return Err(self.syntax("no value begins so")),
            None => return Err(self.syntax("a value is missing")),
        }
        Ok(self.since(start))
    }

    fn object(
        &mut self,
        depth: usize,
        level: Level,
        parts: &mut Parts<'a>,
    ) -> Result<(), ScanError> {
        if depth == MAX_DEPTH {
            return Err(ScanError::Depth);
        }
        let compares = self.strictness == Strictness::Everywhere || level != Level::Inner;
        let mut names = Names::new(&self.keys);
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let start = self.at;
            if self.peek() != Some(b'"') {
                return Err(self.syntax("a key is expected"));
            }
            let key = self.string()?;
            if is_private(key) {
                return Err(ScanError::Private { key: shown(key) });
            }
            if compares {
                let folded = folded(key);
                names.take(&mut self.keys, folded, key)?;
                known(level, folded, key)?;
            }
            self.space();
            if self.peek() != Some(b':') {
                return Err(self.syntax("`:` is expected"));
            }
            self.at += 1;
            self.space();
            let below = self.below(level, key);
            let from = self.at;
            if let Some(below) = below {
                self.object(depth + 1, below, parts)?;
            } else {
                self.value(depth + 1)?;
            }
            let (value, end) = (self.since(from), self.at);
            if let Some(members) = parts.of(level) {
                members.0.push(Member {
                    name: key.decoded(),
                    value,
                    start,
                    end,
                });
            }
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return Err(self.syntax("`,` or `}` is expected")),
            }
            self.space();
        }
        self.at += 1;
        names.done(&mut self.keys);
        Ok(())
    }

    /// What the object that begins here is, if it is one that is taken apart as well.
    fn below(&self, level: Level, key: Text<'_>) -> Option<Level> {
        let below = match level {
            Level::Top => ("params", Level::Params),
            Level::Params => ("_meta", Level::Meta),
            Level::Meta | Level::Plain | Level::Inner => return None,
        };
        (self.peek() == Some(b'{') && key.decoded() == below.0).then_some(below.1)
    }

    fn array(
        &mut self,
        depth: usize,
        mut elements: Option<&mut Vec<&'a str>>,
    ) -> Result<(), ScanError> {
        if depth == MAX_DEPTH {
            return Err(ScanError::Depth);
        }
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let element = self.value(depth + 1)?;
            if let Some(elements) = &mut elements {
                elements.push(element);
            }
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(self.syntax("`,` or `]` is expected")),
            }
            self.space();
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &'static str) -> Result<(), ScanError> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(self.syntax("no value begins so"));
        }
        self.at += word.len();
        Ok(())
    }

    fn digits(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
        if self.at == start {
            return Err(self.syntax("a digit is expected"));
        }
        Ok(())
    }

    fn number(&mut self) -> Result<(), ScanError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        if self.peek() == Some(b'0') {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.digits()?;
        }
        // `1e999` is infinite to some and an error to others.
        let text = self.since(start);
        let may_overflow = text.len() > FINITE_DIGITS || text.contains(['e', 'E']);
        if may_overflow && !text.parse().is_ok_and(f64::is_finite) {
            return Err(self.syntax("a number out of range ends"));
        }
        Ok(())
    }

    fn string(&mut self) -> Result<Text<'a>, ScanError> {
        self.at += 1;
        let start = self.at;
        let mut escaped = false;
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let special = |byte: &u8| matches!(byte, b'"' | b'\\') || *byte < 0x20;
            let Some(plain) = rest.iter().position(special) else {
                self.at = self.bytes.len();
                return Err(self.syntax("a string does not end"));
            };
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    let raw = self.since(start);
                    self.at += 1;
                    return Ok(Text { raw, escaped });
                }
                Some(b'\\') => {
                    escaped = true;
                    self.escape()?;
                }
                _ => return Err(self.syntax("a control character in a string")),
            }
        }
    }

    fn escape(&mut self) -> Result<(), ScanError> {
        self.at += 1;
        match self.peek() {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                self.at += 1;
                Ok(())
            }
            Some(b'u') => {
                self.at += 1;
                let unit = self.hex()?;
                match unit {
                    0xDC00..=0xDFFF => Err(self.syntax("half a surrogate pair ends")),
                    0xD800..=0xDBFF => {
                        if self.bytes.get(self.at..self.at + 2) != Some(b"\\u") {
                            return Err(self.syntax("half a surrogate pair ends"));
                        }
                        self.at += 2;
                        match self.hex()? {
                            0xDC00..=0xDFFF => Ok(()),
                            _ => Err(self.syntax("half a surrogate pair ends")),
                        }
                    }
                    _ => Ok(()),
                }
            }
            _ => Err(self.syntax("no such escape")),
        }
    }

    fn hex(&mut self) -> Result<u32, ScanError> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        let unit =
            hex(digits).ok_or_else(|| self.syntax("four hexadecimal digits are expected"))?;
        self.at += 4;
        Ok(unit)
    }
}

fn hex(digits: &[u8]) -> Option<u32> {
    if digits.len() != 4 {
        return None;
    }
    digits.iter().try_fold(0, |unit, digit| {
        Some(unit * 16 + char::from(*digit).to_digit(16)?)
    })
}

/// The names of one object, beyond which those of its surroundings lie.
struct Names {
    base: usize,
    many: Option<HashSet<u64>>,
}

impl Names {
    fn new(keys: &[u64]) -> Self {
        Self {
            base: keys.len(),
            many: None,
        }
    }

    fn take(&mut self, keys: &mut Vec<u64>, folded: u64, key: Text<'_>) -> Result<(), ScanError> {
        let own = keys.get(self.base..).unwrap_or_default();
        let taken = match &mut self.many {
            Some(many) => !many.insert(folded),
            None if own.len() < FEW_KEYS => own.contains(&folded),
            None => {
                let many = self.many.insert(own.iter().copied().collect());
                !many.insert(folded)
            }
        };
        if taken {
            return Err(ScanError::Key { key: shown(key) });
        }
        if self.many.is_none() {
            keys.push(folded);
        }
        Ok(())
    }

    fn done(&self, keys: &mut Vec<u64>) {
        keys.truncate(self.base);
    }
}

/// Refuses a name that is a known one in another spelling: there are parsers to whom
/// case makes no difference.
fn known(level: Level, folded: u64, key: Text<'_>) -> Result<(), ScanError> {
    let names = match level {
        Level::Top => TOP,
        Level::Params => PARAMS,
        Level::Meta => META,
        Level::Plain | Level::Inner => return Ok(()),
    };
    let meant = names
        .iter()
        .find(|name| plain_folded(name.as_bytes()) == folded);
    match meant {
        Some(known) if key.decoded() != **known => Err(ScanError::Spelling {
            key: shown(key),
            known,
        }),
        _ => Ok(()),
    }
}

/// Whether a key is one of [`PRIVATE`], which hardly any begins like.
fn is_private(key: Text<'_>) -> bool {
    matches!(key.raw.as_bytes().first(), Some(b'$' | b'\\')) && key.decoded().starts_with(PRIVATE)
}

fn shown(key: Text<'_>) -> String {
    let decoded = key.decoded();
    decoded
        .chars()
        .take(64)
        .flat_map(char::escape_default)
        .collect()
}

/// A name as a number that does not depend on case. Two names of one number are taken for
/// one: who finds such a pair has only a message that is refused.
fn folded(key: Text<'_>) -> u64 {
    if !key.escaped && key.raw.is_ascii() {
        return plain_folded(key.raw.as_bytes());
    }
    let decoded = key.decoded();
    let mut hash = Fnv::new();
    let mut buffer = [0; 4];
    // Up and down again: `ſ` is an `s` to parsers that fold, and the Kelvin sign a `k`.
    for letter in decoded
        .chars()
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
    {
        for byte in letter.encode_utf8(&mut buffer).bytes() {
            hash = hash.with(byte);
        }
    }
    hash.0
}

const fn plain_folded(name: &[u8]) -> u64 {
    let mut hash = Fnv::new();
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        hash = hash.with(byte.to_ascii_lowercase());
        rest = tail;
    }
    hash.0
}

/// FNV-1a.
#[derive(Clone, Copy)]
struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    const fn with(self, byte: u8) -> Self {
        Self((self.0 ^ byte as u64).wrapping_mul(0x0000_0100_0000_01b3))
    }
}

/// The text that the inside of a string stands for; its escapes are known to be right.
fn unescaped(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some((plain, after)) = rest.split_once('\\') {
        out.push_str(plain);
        let mut letters = after.chars();
        let letter = letters.next().unwrap_or_default();
        rest = letters.as_str();
        out.push(match letter {
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'u' => {
                let mut unit = || {
                    let unit = rest.get(..4).and_then(|digits| hex(digits.as_bytes()));
                    rest = rest.get(4..).unwrap_or_default();
                    unit.unwrap_or_default()
                };
                let high = unit();
                if (0xD800..0xDC00).contains(&high) {
                    rest = rest.get(2..).unwrap_or_default();
                    let low = rest.get(..4).and_then(|digits| hex(digits.as_bytes()));
                    rest = rest.get(4..).unwrap_or_default();
                    let low = low.unwrap_or_default().wrapping_sub(0xDC00);
                    char::from_u32(0x10000 + ((high - 0xD800) << 10) + low)
                } else {
                    char::from_u32(high)
                }
                .unwrap_or(char::REPLACEMENT_CHARACTER)
            }
            other => other,
        });
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;

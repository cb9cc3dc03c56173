//! Setting one value in a JSON text, comments and all: nothing else in it changes.

use serde_json::Value;

/// Why a text was left alone.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum JsonError {
    #[error("it is not JSON, near character {0}")]
    Syntax(usize),
    #[error("`{0}` is not an object in it")]
    NotAnObject(String),
    #[error("it says `{0}` twice")]
    Twice(String),
}

/// Deeper texts are refused: nobody configures with them.
const MAX_DEPTH: usize = 128;

/// The text with `value` at `path`; objects on the way are made where there are none.
pub(crate) fn set(text: &str, path: &[String], value: &Value) -> Result<String, JsonError> {
    let start = text
        .strip_prefix('\u{feff}')
        .map_or(0, |_| '\u{feff}'.len_utf8());
    let mut reader = Reader { text, at: start };
    reader.space()?;
    if reader.at == text.len() {
        let mut made = text.to_owned();
        made.push_str(&shown(&nested(path, value), ""));
        made.push('\n');
        return Ok(made);
    }
    let mut object = reader.object("the whole", 0)?;
    reader.space()?;
    if reader.at < text.len() {
        return Err(JsonError::Syntax(reader.at));
    }
    let mut rest = path;
    while let [name, below @ ..] = rest {
        let Some(member) = object.member(name)? else {
            let made = nested(below, value);
            return Ok(insert(text, &object, name, &made));
        };
        let (from, to) = (member.from, member.to);
        if below.is_empty() {
            let indent = line_indent(text, member.name_at);
            return Ok([
                text.get(..from).unwrap_or_default(),
                &shown(value, indent),
                text.get(to..).unwrap_or_default(),
            ]
            .concat());
        }
        object = Reader { text, at: from }.object(name, 0)?;
        rest = below;
    }
    Ok(text.to_owned())
}

/// What the text says, without its comments and trailing commas.
pub(crate) fn read(text: &str) -> Result<Value, JsonError> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader { text, at: 0 };
    let mut plain = String::with_capacity(text.len());
    reader.space()?;
    if reader.at == text.len() {
        return Ok(Value::Object(serde_json::Map::new()));
    }
    reader.plain(&mut plain, 0)?;
    reader.space()?;
    if reader.at < text.len() {
        return Err(JsonError::Syntax(reader.at));
    }
    serde_json::from_str(&plain).map_err(|_| JsonError::Syntax(0))
}

fn nested(path: &[String], value: &Value) -> Value {
    path.iter().rev().fold(value.clone(), |value, name| {
        let mut object = serde_json::Map::new();
        object.insert(name.clone(), value);
        Value::Object(object)
    })
}

/// Pretty, with what follows the first line indented.
fn shown(value: &Value, indent: &str) -> String {
    let pretty = serde_json::to_string_pretty(value).unwrap_or_default();
    pretty.replace('\n', &format!("\n{indent}"))
}

/// The white space that the line of `at` begins with.
fn line_indent(text: &str, at: usize) -> &str {
    let before = text.get(..at).unwrap_or_default();
    let line = before.rfind('\n').map_or(0, |end| end + 1);
    let line = before.get(line..).unwrap_or_default();
    let length = line.len() - line.trim_start_matches([' ', '\t']).len();
    line.get(..length).unwrap_or_default()
}

/// The text with one more member at the end of `object`.
fn insert(text: &str, object: &Object, name: &str, value: &Value) -> String {
    let outer = line_indent(text, object.open);
    let last = object.members.last();
    let indent = match last {
        Some(last)
            if text
                .get(object.open..last.name_at)
                .is_some_and(|way| way.contains('\n')) =>
        {
            line_indent(text, last.name_at).to_owned()
        }
        _ => format!("{outer}  "),
    };
    let name = Value::from(name);
    let member = format!("\n{indent}{name}: {}", shown(value, &indent));
    let Some(last) = last else {
        // Comments between the braces stay where they are.
        let inside = text.get(object.open + 1..object.close).unwrap_or_default();
        let kept = inside.trim_end();
        return [
            text.get(..=object.open).unwrap_or_default(),
            kept,
            &member,
            &format!("\n{outer}"),
            text.get(object.close..).unwrap_or_default(),
        ]
        .concat();
    };
    let (end, comma) = match object.trailing_comma {
        Some(comma) => (comma + 1, ""),
        None => (last.to, ","),
    };
    // What stands between the last member and the brace: a comment, the line's end.
    let rest = text.get(end..object.close).unwrap_or_default();
    let after = if rest.trim().is_empty() {
        if rest.contains('\n') {
            rest.to_owned()
        } else {
            format!("\n{outer}")
        }
    } else {
        String::new()
    };
    let kept = if after.is_empty() {
        rest.trim_end()
    } else {
        ""
    };
    let after = if after.is_empty() {
        format!("\n{outer}")
    } else {
        after
    };
    [
        text.get(..end).unwrap_or_default(),
        comma,
        kept,
        &member,
        if object.trailing_comma.is_some() {
            ","
        } else {
            ""
        },
        &after,
        text.get(object.close..).unwrap_or_default(),
    ]
    .concat()
}

/// An object as it stands in the text.
struct Object {
    open: usize,
    close: usize,
    members: Vec<Member>,
    trailing_comma: Option<usize>,
}

struct Member {
    name: String,
    name_at: usize,
    from: usize,
    to: usize,
}

impl Object {
    fn member(&self, name: &str) -> Result<Option<&Member>, JsonError> {
        let mut named = self.members.iter().filter(|member| member.name == name);
        let found = named.next();
        match named.next() {
            Some(_) => Err(JsonError::Twice(name.to_owned())),
            None => Ok(found),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn wrong(&self) -> JsonError {
        JsonError::Syntax(self.at)
    }

    /// White space and comments.
    fn space(&mut self) -> Result<(), JsonError> {
        loop {
            match self.peek() {
                Some(b' ' | b'\t' | b'\n' | b'\r') => self.at += 1,
                Some(b'/') => {
                    let rest = self.text.get(self.at..).unwrap_or_default();
                    let length = if rest.starts_with("//") {
                        rest.find('\n').unwrap_or(rest.len())
                    } else if rest.starts_with("/*") {
                        rest.find("*/").ok_or_else(|| self.wrong())? + 2
                    } else {
                        return Err(self.wrong());
                    };
                    self.at += length;
                }
                _ => return Ok(()),
            }
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.wrong());
        }
        self.at += 1;
        Ok(())
    }

    /// An object, taken apart.
    fn object(&mut self, called: &str, depth: usize) -> Result<Object, JsonError> {
        if self.peek() != Some(b'{') {
            return Err(match self.peek() {
                Some(b'[' | b'"' | b'0'..=b'9' | b'-' | b't' | b'f' | b'n') => {
                    JsonError::NotAnObject(called.to_owned())
                }
                _ => self.wrong(),
            });
        }
        let mut object = Object {
            open: self.at,
            close: self.at,
            members: Vec::new(),
            trailing_comma: None,
        };
        self.at += 1;
        loop {
            self.space()?;
            if self.peek() == Some(b'}') {
                object.close = self.at;
                self.at += 1;
                return Ok(object);
            }
            if !object.members.is_empty() && object.trailing_comma.is_none() {
                return Err(self.wrong());
            }
            let name_at = self.at;
            let name = self.string()?;
            self.space()?;
            self.expect(b':')?;
            self.space()?;
            let from = self.at;
            self.value(depth + 1)?;
            object.members.push(Member {
                name,
                name_at,
                from,
                to: self.at,
            });
            object.trailing_comma = None;
            self.space()?;
            if self.peek() == Some(b',') {
                object.trailing_comma = Some(self.at);
                self.at += 1;
            }
        }
    }

    fn value(&mut self, depth: usize) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong());
        }
        match self.peek() {
            Some(b'{') => self.object("", depth).map(|_| ()),
            Some(b'[') => {
                self.at += 1;
                loop {
                    self.space()?;
                    if self.peek() == Some(b']') {
                        self.at += 1;
                        return Ok(());
                    }
                    self.value(depth + 1)?;
                    self.space()?;
                    match self.peek() {
                        Some(b',') => self.at += 1,
                        Some(b']') => {}
                        _ => return Err(self.wrong()),
                    }
                }
            }
            Some(b'"') => self.string().map(|_| ()),
            _ => {
                let rest = self.text.get(self.at..).unwrap_or_default();
                let end = rest
                    .find(|letter: char| !letter.is_ascii_alphanumeric() && !"+-.".contains(letter))
                    .unwrap_or(rest.len());
                let word = rest.get(..end).unwrap_or_default();
                serde_json::from_str::<Value>(word).map_err(|_| self.wrong())?;
                self.at += end;
                Ok(())
            }
        }
    }

    fn string(&mut self) -> Result<String, JsonError> {
        let from = self.at;
        self.expect(b'"')?;
        loop {
            match self.peek() {
                Some(b'\\') => self.at += 2,
                Some(b'"') => break,
                Some(_) => self.at += 1,
                None => return Err(self.wrong()),
            }
        }
        self.at += 1;
        let text = self.text.get(from..self.at);
        text.and_then(|text| serde_json::from_str(text).ok())
            .ok_or(JsonError::Syntax(from))
    }

    /// Copies one value without comments and trailing commas.
    fn plain(&mut self, into: &mut String, depth: usize) -> Result<(), JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.wrong());
        }
        let from = self.at;
        let (open, close) = match self.peek() {
            Some(b'{') => (b'{', b'}'),
            Some(b'[') => (b'[', b']'),
            _ => {
                self.value(depth)?;
                into.push_str(self.text.get(from..self.at).unwrap_or_default());
                return Ok(());
            }
        };
        self.at += 1;
        into.push(char::from(open));
        let mut first = true;
        loop {
            self.space()?;
            if self.peek() == Some(close) {
                self.at += 1;
                into.push(char::from(close));
                return Ok(());
            }
            if !first {
                into.push(',');
            }
            first = false;
            if open == b'{' {
                let name = self.string()?;
                into.push_str(&Value::from(name).to_string());
                self.space()?;
                self.expect(b':')?;
                into.push(':');
                self.space()?;
            }
            self.plain(into, depth + 1)?;
            self.space()?;
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(byte) if byte == close => {}
                _ => return Err(self.wrong()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(path: &[&str]) -> Vec<String> {
        path.iter().map(|&name| name.to_owned()).collect()
    }

    #[test]
    fn one_value_is_set_and_nothing_else_changes() {
        let path = at(&["mcpServers", "cedargate"]);
        let value = json!({"url": "u"});
        let cases = [
            (
                "nothing",
                "",
                "{\n  \"mcpServers\": {\n    \"cedargate\": {\n      \"url\": \"u\"\n    }\n  }\n}\n",
            ),
            (
                "an empty object",
                "{}",
                "{\n  \"mcpServers\": {\n    \"cedargate\": {\n      \"url\": \"u\"\n    }\n  }\n}",
            ),
            (
                "others",
                "{\n    // mine\n    \"a\": [1, 2,], /* and */\n    \"mcpServers\": {\n        \"x\": {} // x\n    }\n}\n",
                "{\n    // mine\n    \"a\": [1, 2,], /* and */\n    \"mcpServers\": {\n        \"x\": {}, // x\n        \"cedargate\": {\n          \"url\": \"u\"\n        }\n    }\n}\n",
            ),
            (
                "a trailing comma",
                "{\"mcpServers\": {\n  \"x\": {},\n}}",
                "{\"mcpServers\": {\n  \"x\": {},\n  \"cedargate\": {\n    \"url\": \"u\"\n  },\n}}",
            ),
            (
                "an older one",
                "{\n  \"mcpServers\": {\n    \"cedargate\": {\"url\": \"old\", \"more\": [\"}\"]},\n    \"y\": 1.10\n  }\n}",
                "{\n  \"mcpServers\": {\n    \"cedargate\": {\n      \"url\": \"u\"\n    },\n    \"y\": 1.10\n  }\n}",
            ),
            (
                "a comment alone",
                "{\n  \"mcpServers\": {\n    // none yet\n  }\n}",
                "{\n  \"mcpServers\": {\n    // none yet\n    \"cedargate\": {\n      \"url\": \"u\"\n    }\n  }\n}",
            ),
            (
                "all on one line",
                "{\"mcpServers\": {\"x\": {}}}",
                "{\"mcpServers\": {\"x\": {},\n  \"cedargate\": {\n    \"url\": \"u\"\n  }\n}}",
            ),
        ];
        for (name, text, expected) in cases {
            let made = set(text, &path, &value).unwrap();
            assert_eq!(made, expected, "{name}");
            assert_eq!(set(&made, &path, &value).unwrap(), made, "{name}, again");
            let mut wanted = read(text).unwrap();
            wanted["mcpServers"]["cedargate"] = value.clone();
            assert_eq!(read(&made).unwrap(), wanted, "{name}");
        }
    }

    #[test]
    fn what_is_not_an_object_is_left_alone() {
        let path = at(&["mcpServers", "cedargate"]);
        for (text, expected) in [
            ("[]", JsonError::NotAnObject("the whole".to_owned())),
            (
                "{\"mcpServers\": 3}",
                JsonError::NotAnObject("mcpServers".to_owned()),
            ),
            (
                "{\"mcpServers\": {}, \"mcpServers\": {}}",
                JsonError::Twice("mcpServers".to_owned()),
            ),
            ("{\"a\" 1}", JsonError::Syntax(5)),
            ("{\"a\": 1 \"b\": 2}", JsonError::Syntax(8)),
            ("{} x", JsonError::Syntax(3)),
            ("{\"a\": tru}", JsonError::Syntax(6)),
            ("{\"a\": \"b", JsonError::Syntax(8)),
        ] {
            assert_eq!(set(text, &path, &json!(1)), Err(expected), "{text}");
        }
    }
}

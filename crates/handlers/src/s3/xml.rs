//! XML: what S3 servers answer, read with a real parser and bounded in every way.

use quick_xml::{Reader, escape::resolve_xml_entity, events::Event};

/// Answers of S3 are four levels deep.
const DEEPEST: usize = 16;

/// A list of a thousand objects has about nine thousand.
const MOST_ELEMENTS: usize = 50_000;

/// One element. Attributes are not read: no answer says anything in one.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Element {
    /// Without its namespace.
    pub(super) name: String,
    /// All of its own text.
    text: String,
    children: Vec<Element>,
}

impl Element {
    /// The first child of this name.
    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        self.children.iter().find(|child| child.name == name)
    }

    /// Every child of this name.
    pub(super) fn children<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Self> {
        self.children.iter().filter(move |child| child.name == name)
    }

    /// What the child of this name says.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.child(name).map(|child| child.text.as_str())
    }
}

/// The element that a document is.
///
/// # Errors
///
/// When it is not well-formed, is in another encoding than UTF-8, declares a type or names
/// an entity of its own, or is larger than any answer.
pub(super) fn parse(body: &[u8]) -> Result<Element, &'static str> {
    const NOT_XML: &str = "its answer is not XML";
    let text = std::str::from_utf8(body).map_err(|_| "its answer is not in UTF-8")?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut reader = Reader::from_str(text);
    reader.config_mut().check_end_names = true;
    // Those that are open; the first is what holds the document's own element.
    let mut open = vec![Element::default()];
    let mut elements = 0;
    loop {
        let event = reader.read_event().map_err(|_| NOT_XML)?;
        match event {
            Event::Start(ref start) | Event::Empty(ref start) => {
                elements += 1;
                if open.len() > DEEPEST || elements > MOST_ELEMENTS {
                    return Err("its answer has more elements than any should");
                }
                let name = start.local_name();
                open.push(Element {
                    name: std::str::from_utf8(name.as_ref())
                        .map_err(|_| NOT_XML)?
                        .to_owned(),
                    ..Element::default()
                });
                if matches!(event, Event::Empty(_)) {
                    close(&mut open).ok_or(NOT_XML)?;
                }
            }
            Event::End(_) => close(&mut open).ok_or(NOT_XML)?,
            Event::Text(text) => {
                let text = text.xml10_content().map_err(|_| NOT_XML)?;
                last(&mut open).ok_or(NOT_XML)?.push_str(&text);
            }
            Event::CData(text) => {
                let text = text.xml10_content().map_err(|_| NOT_XML)?;
                last(&mut open).ok_or(NOT_XML)?.push_str(&text);
            }
            // Nothing is expanded but what stands for one character.
            Event::GeneralRef(reference) => {
                let text = last(&mut open).ok_or(NOT_XML)?;
                if let Some(letter) = reference.resolve_char_ref().map_err(|_| NOT_XML)? {
                    text.push(letter);
                } else {
                    let name = reference.decode().map_err(|_| NOT_XML)?;
                    let entity =
                        resolve_xml_entity(&name).ok_or("its answer has entities of its own")?;
                    text.push_str(entity);
                }
            }
            Event::DocType(_) => return Err("its answer declares a type, as no answer of S3 does"),
            Event::Decl(_) | Event::Comment(_) | Event::PI(_) => {}
            Event::Eof => break,
        }
    }
    let mut document = open.pop().filter(|_| open.is_empty()).ok_or(NOT_XML)?;
    let around = document.text.trim().is_empty();
    match (
        document.children.pop(),
        document.children.is_empty(),
        around,
    ) {
        (Some(root), true, true) => Ok(root),
        _ => Err(NOT_XML),
    }
}

fn last(open: &mut [Element]) -> Option<&mut String> {
    Some(&mut open.last_mut()?.text)
}

/// Puts the innermost element into the one around it.
fn close(open: &mut Vec<Element>) -> Option<()> {
    let closed = open.pop()?;
    open.last_mut()?.children.push(closed);
    Some(())
}

/// Text as it stands in a document.
pub(super) fn escaped(text: &str) -> String {
    quick_xml::escape::escape(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_are_meant() {
        let answer = parse(
            br#"<?xml version="1.0" encoding="UTF-8"?>
            <ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
              <IsTruncated>true</IsTruncated>
              <Contents><Key> a&amp;b &lt;c&gt; &#xfc;&#9786; <![CDATA[<x>&y;]]></Key><Size>7</Size></Contents>
              <Contents><Key>two</Key></Contents>
              <Empty/>
            </ListBucketResult>"#,
        )
        .unwrap();
        assert_eq!(answer.name, "ListBucketResult");
        assert_eq!(answer.text("IsTruncated"), Some("true"));
        let keys: Vec<_> = answer
            .children("Contents")
            .filter_map(|contents| contents.text("Key"))
            .collect();
        assert_eq!(keys, [" a&b <c> \u{fc}\u{263a} <x>&y;", "two"]);
        assert_eq!(answer.text("Empty"), Some(""));
        assert_eq!(answer.text("Missing"), None);
    }

    #[test]
    fn traps_are_not_read() {
        let deep = format!("{}{}", "<a>".repeat(100_000), "</a>".repeat(100_000));
        let many = format!("<a>{}</a>", "<b/>".repeat(60_000));
        let laughs = r#"<!DOCTYPE a [<!ENTITY x "ha"><!ENTITY y "&x;&x;&x;">]><a>&y;</a>"#;
        let outside = r#"<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>"#;
        let cases: [&str; 14] = [
            "",
            "  ",
            "not XML",
            "{\"json\": 1}",
            "<a>",
            "<a></b>",
            "<a/><b/>",
            "<a/>text",
            "<a>&unknown;</a>",
            "<a>&#0;</a>",
            laughs,
            outside,
            &deep,
            &many,
        ];
        for case in cases {
            let short: String = case.chars().take(60).collect();
            assert!(parse(case.as_bytes()).is_err(), "{short}");
        }
        assert!(parse(b"<a>\xff</a>").is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        for text in ["\"a\"-1", "<&>'", "plain"] {
            let document = format!("<a><b>{}</b></a>", escaped(text));
            assert_eq!(parse(document.as_bytes()).unwrap().text("b"), Some(text));
        }
    }
}

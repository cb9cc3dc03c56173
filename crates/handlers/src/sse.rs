//! Server-sent events, cut apart at their blank lines without changing a byte.
//!
//! [`Splitter`] gives each event as it came; only what must be changed is written anew by
//! [`with_data`], and what is not an event (comments, `retry:`) stays where it was.

use std::borrow::Cow;

/// An event is longer than is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event is longer than {limit} bytes")]
pub struct TooLong {
    /// The most that an event may have.
    pub limit: usize,
}

/// Cuts a stream into events.
#[derive(Debug)]
pub struct Splitter {
    buffer: Vec<u8>,
    /// So much of the buffer was looked at.
    seen: usize,
    /// Nothing stands yet in the line that is being looked at.
    line_empty: bool,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    limit: usize,
}

impl Splitter {
    /// Cuts events of at most `limit` bytes each.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: Vec::new(),
            seen: 0,
            line_empty: true,
            after_cr: false,
            limit,
        }
    }

    /// Takes what came next.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole event, with the blank line that ends it; none when more must come.
    ///
    /// # Errors
    ///
    /// [`TooLong`], from then on for ever.
    pub fn event(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        while let Some(&byte) = self.buffer.get(self.seen) {
            self.seen += 1;
            let ends = match byte {
                b'\n' if self.after_cr => {
                    self.after_cr = false;
                    false
                }
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    std::mem::replace(&mut self.line_empty, true)
                }
                _ => {
                    self.after_cr = false;
                    self.line_empty = false;
                    false
                }
            };
            if ends {
                if self.after_cr && self.buffer.get(self.seen) == Some(&b'\n') {
                    self.seen += 1;
                    self.after_cr = false;
                }
                if self.seen > self.limit {
                    break;
                }
                let rest = self.buffer.split_off(self.seen);
                self.seen = 0;
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            if self.seen > self.limit {
                break;
            }
        }
        if self.buffer.len() > self.limit && self.seen > self.limit {
            return Err(TooLong { limit: self.limit });
        }
        Ok(None)
    }

    /// What came after the last whole event.
    #[must_use]
    pub fn rest(self) -> Vec<u8> {
        self.buffer
    }
}

/// What clients skip at the beginning of a stream: a byte order mark, and one that was taken
/// for three letters, for which one widespread parser looks, after another has skipped the first.
const MARKS: [&[u8]; 2] = [b"\xef\xbb\xbf", b"\xc3\xaf\xc2\xbb\xc2\xbf"];

/// A line's marks, and the rest. No line but the first should have any; to look into more than
/// clients do hides nothing.
fn marks(line: &[u8]) -> (&[u8], &[u8]) {
    let mut rest = line;
    while let Some(after) = MARKS.iter().find_map(|mark| rest.strip_prefix(*mark)) {
        rest = after;
    }
    line.split_at(line.len() - rest.len())
}

/// The lines of an event, each with its end.
fn lines(event: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut rest = event;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r');
        let length = rest.iter().position(is_end).unwrap_or(rest.len());
        let (line, tail) = rest.split_at_checked(length)?;
        let end = match tail {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        let (end, tail) = tail.split_at_checked(end)?;
        rest = tail;
        Some((line, end))
    })
}

/// What a line says, if it is one of `data`.
fn data_of(line: &[u8]) -> Option<&[u8]> {
    let (_, line) = marks(line);
    let after = line.strip_prefix(b"data")?;
    match after {
        [] => Some(after),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// The data of an event: its lines joined as clients do. None when it has none.
#[must_use]
pub fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut found: Option<Cow<'_, [u8]>> = None;
    for value in lines(event).filter_map(|(line, _)| data_of(line)) {
        found = Some(match found {
            None => Cow::Borrowed(value),
            Some(before) => {
                let mut joined = before.into_owned();
                joined.push(b'\n');
                joined.extend_from_slice(value);
                Cow::Owned(joined)
            }
        });
    }
    found
}

/// The event with other data; everything else in it stays.
#[must_use]
pub fn with_data(event: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + 64);
    let mut written = false;
    for (line, end) in lines(event) {
        if data_of(line).is_none() {
            // What stood between a CR and this LF is gone: they must not become one end.
            if line.is_empty() && end == b"\n" && out.last() == Some(&b'\r') {
                out.push(b'\n');
            }
            out.extend_from_slice(line);
            out.extend_from_slice(end);
        } else if !std::mem::replace(&mut written, true) {
            out.extend_from_slice(marks(line).0);
            write_data(&mut out, data, end);
        }
    }
    out
}

/// An event of its own, as servers of MCP send them.
#[must_use]
pub fn message(data: &[u8]) -> Vec<u8> {
    let mut out = b"event: message\n".to_vec();
    write_data(&mut out, data, b"\n");
    out.push(b'\n');
    out
}

fn write_data(out: &mut Vec<u8>, data: &[u8], end: &[u8]) {
    let end: &[u8] = if end.is_empty() { b"\n" } else { end };
    for line in data.split(|byte| matches!(byte, b'\n' | b'\r')) {
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(line);
        out.extend_from_slice(end);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(chunks: &[&[u8]]) -> (Vec<Vec<u8>>, Vec<u8>) {
        let mut splitter = Splitter::new(1_000);
        let mut events = Vec::new();
        for chunk in chunks {
            splitter.push(chunk);
            while let Some(event) = splitter.event().unwrap() {
                events.push(event);
            }
        }
        (events, splitter.rest())
    }

    #[test]
    fn every_kind_of_line_end_ends_an_event() {
        for end in ["\n", "\r", "\r\n"] {
            let text = format!("id: 1{end}data: a{end}{end}: hello{end}{end}data: b{end}");
            let (events, rest) = cut(&[text.as_bytes()]);
            assert_eq!(events.len(), 2, "{text:?}");
            assert_eq!(data(&events[0]).unwrap(), &b"a"[..]);
            assert_eq!(data(&events[1]), None);
            assert_eq!(rest, format!("data: b{end}").as_bytes());
        }
        let (events, rest) = cut(&[b"data: a\r\n\r", b"\ndata: b\n\n"]);
        assert_eq!(events.len(), 2);
        assert_eq!(events.concat(), b"data: a\r\n\r\ndata: b\n\n");
        assert_eq!(data(&events[1]).unwrap(), &b"b"[..]);
        assert!(rest.is_empty());
    }

    #[test]
    fn data_is_joined_as_clients_do() {
        for (event, expected) in [
            ("data: a\ndata:b\ndata\n\n", Some("a\nb\n")),
            ("data:  a\n\n", Some(" a")),
            ("\u{feff}data: a\n\n", Some("a")),
            ("\u{feff}\u{feff}data: a\n\n", Some("a")),
            ("\u{feff}ï»¿data: a\n\n", Some("a")),
            ("database: a\n\n", None),
            (" data: a\n\n", None),
            (":data: a\n\n", None),
            ("\n", None),
        ] {
            let found = data(event.as_bytes()).map(Cow::into_owned);
            assert_eq!(found.as_deref(), expected.map(str::as_bytes), "{event:?}");
        }
    }

    #[test]
    fn other_lines_stay_when_data_is_changed() {
        let event = b"id: 7\r\n: x\r\ndata: {\r\ndata: }\r\nretry: 5\r\n\r\n";
        assert_eq!(
            with_data(event, b"[1,\n2]"),
            b"id: 7\r\n: x\r\ndata: [1,\r\ndata: 2]\r\nretry: 5\r\n\r\n"
        );
        for event in ["data: a\rdata: b\n\n", "data: a\nid: 1\rdata: b\n\n"] {
            let other = with_data(event.as_bytes(), b"c");
            let (events, rest) = cut(&[&other]);
            assert_eq!((events.len(), rest.len()), (1, 0), "{event:?}");
            assert_eq!(data(&other).unwrap(), &b"c"[..]);
        }
        assert_eq!(
            with_data("\u{feff}ï»¿data: a\n\n".as_bytes(), b"c"),
            "\u{feff}ï»¿data: c\n\n".as_bytes()
        );
        let (events, _) = cut(&[b"id: 1\r\n\r", "\n\u{feff}data: a\n\n".as_bytes()]);
        assert_eq!(data(&events[1]).unwrap(), &b"a"[..], "wherever it stands");
        let ours = message(b"{}");
        assert_eq!(ours, b"event: message\ndata: {}\n\n");
    }

    #[test]
    fn a_line_without_end_is_not_kept_for_ever() {
        let mut splitter = Splitter::new(64);
        for _ in 0..5 {
            splitter.push(b"data: 0123456789");
            if splitter.event().is_err() {
                assert_eq!(splitter.event(), Err(TooLong { limit: 64 }));
                return;
            }
        }
        panic!("eighty bytes were read");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_chunks_make_no_difference(
            text in "[\r\n:a d]{0,40}", places in prop::collection::vec(0_usize..40, 0..6)
        ) {
            let bytes = text.as_bytes();
            let mut places: Vec<usize> = places.into_iter().map(|place| place.min(bytes.len())).collect();
            places.sort_unstable();
            let mut chunks = Vec::new();
            let mut from = 0;
            for place in places.into_iter().chain([bytes.len()]) {
                chunks.push(&bytes[from..place]);
                from = place;
            }
            let (events, rest) = cut(&chunks);
            prop_assert_eq!([events.concat(), rest].concat(), bytes);
            let (whole, _) = cut(&[bytes]);
            let said = |events: &[Vec<u8>]| -> Vec<Option<Vec<u8>>> {
                events.iter().map(|event| data(event).map(Cow::into_owned)).collect()
            };
            prop_assert_eq!(said(&events), said(&whole));
        }
    }
}

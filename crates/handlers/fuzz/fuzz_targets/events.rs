//! Any bytes as a stream of events: the first says how the rest comes in pieces.
#![no_main]

#[allow(dead_code, reason = "a target needs only a part of it")]
#[path = "../../src/sse.rs"]
mod sse;

use libfuzzer_sys::fuzz_target;

/// Longer events are refused.
const LIMIT: usize = 256;

/// What is said, and every byte; none when an event is too long.
fn cut<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> Option<(Vec<Option<Vec<u8>>>, Vec<u8>)> {
    let mut splitter = sse::Splitter::new(LIMIT);
    let (mut said, mut bytes) = (Vec::new(), Vec::new());
    for piece in pieces {
        splitter.push(piece);
        loop {
            match splitter.event() {
                Ok(Some(event)) => {
                    assert!(event.len() <= LIMIT + 1);
                    said.push(sse::data(&event).map(|data| data.into_owned()));
                    replaced(&event);
                    bytes.extend_from_slice(&event);
                }
                Ok(None) => break,
                Err(_) => return None,
            }
        }
    }
    bytes.extend_from_slice(&splitter.rest());
    Some((said, bytes))
}

/// Other data is read back, in an event that ends as it did. One that begins with an LF
/// comes after a CR, to which that belongs.
fn replaced(event: &[u8]) {
    if sse::data(event).is_none() {
        return;
    }
    let other = sse::with_data(event, b"{\"a\":\n1}");
    assert_eq!(sse::data(&other).unwrap(), &b"{\"a\":\n1}"[..]);
    let before: &[u8] = if event.starts_with(b"\n") { b":\r" } else { b"" };
    let other = [before, &other].concat();
    let mut splitter = sse::Splitter::new(usize::MAX);
    splitter.push(&other);
    assert_eq!(splitter.event().unwrap(), Some(other));
}

fuzz_target!(|data: &[u8]| {
    let Some((&size, stream)) = data.split_first() else {
        return;
    };
    let whole = cut(std::iter::once(stream));
    let pieces = cut(stream.chunks(usize::from(size).max(1)));
    if let Some((_, bytes)) = &pieces {
        assert_eq!(bytes, stream);
    }
    if let (Some((said, _)), Some((in_pieces, bytes))) = (whole, pieces) {
        assert_eq!(said, in_pieces);
        assert_eq!(bytes, stream);
    }
});

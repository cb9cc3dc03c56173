//! The mask: our credential does not come back in what an upstream streams to an agent.
//!
//! Every occurrence is overwritten by as many `*`: lengths, JSON and frames stay as they
//! are, and nothing is copied unless there is something to hide.

use bytes::{Bytes, BytesMut};
use memchr::memmem::Finder;

use crate::http::scrub::forms;

/// Shorter secrets occur by chance in innocent bytes.
const SHORTEST: usize = 8;

/// What must not come back, as it is and as encodings have it. Each form has a finder of its
/// own, which looks for its rarest bytes: a hundred times as fast as one automaton for all.
#[derive(Debug, Default)]
pub(super) struct Secrets(Vec<Secret>);

struct Secret(Finder<'static>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

impl Secrets {
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Self {
        let mut forms: Vec<String> = secrets
            .into_iter()
            .filter(|secret| secret.len() >= SHORTEST)
            .flat_map(forms)
            .filter(|form| form.len() >= SHORTEST)
            .collect();
        // Longest first, so that no part of one is left by hiding another.
        forms.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        forms.dedup();
        let found = forms
            .iter()
            .map(|form| Secret(Finder::new(form).into_owned()));
        Self(found.collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How long the longest is, in bytes.
    pub(super) fn longest(&self) -> usize {
        self.0
            .first()
            .map_or(0, |Secret(finder)| finder.needle().len())
    }

    /// Overwrites what is whole in `bytes`.
    pub(super) fn hide(&self, bytes: Bytes) -> Bytes {
        let mut hidden: Option<BytesMut> = None;
        for Secret(finder) in &self.0 {
            let found: Vec<usize> = finder
                .find_iter(hidden.as_deref().unwrap_or(&bytes))
                .collect();
            if found.is_empty() {
                continue;
            }
            let copy = hidden.get_or_insert_with(|| BytesMut::from(&*bytes));
            for at in found {
                if let Some(secret) = copy.get_mut(at..at + finder.needle().len()) {
                    secret.fill(b'*');
                }
            }
        }
        hidden.map_or(bytes, BytesMut::freeze)
    }

    /// How many bytes at the end may be the beginning of a secret.
    fn open_end(&self, bytes: &[u8]) -> usize {
        let open = |needle: &[u8]| {
            let longest = bytes.len().min(needle.len() - 1);
            (1..=longest)
                .rev()
                .find(|&length| bytes.ends_with(needle.get(..length).unwrap_or_default()))
                .unwrap_or(0)
        };
        self.0
            .iter()
            .map(|Secret(finder)| open(finder.needle()))
            .max()
            .unwrap_or(0)
    }
}

/// Hides secrets in a stream, also those that two frames share.
#[derive(Debug, Default)]
pub(super) struct Mask {
    /// The end of the last frame, if it may be the beginning of a secret.
    held: Bytes,
}

impl Mask {
    /// What may be passed on of a frame and of what was held; may be empty.
    pub(super) fn frame(&mut self, secrets: &Secrets, frame: Bytes) -> Bytes {
        if secrets.is_empty() {
            return frame;
        }
        let whole = if self.held.is_empty() {
            frame
        } else {
            let mut whole = BytesMut::with_capacity(self.held.len() + frame.len());
            whole.extend_from_slice(&std::mem::take(&mut self.held));
            whole.extend_from_slice(&frame);
            whole.freeze()
        };
        let mut whole = secrets.hide(whole);
        let open = secrets.open_end(&whole);
        self.held = whole.split_off(whole.len() - open);
        whole
    }

    /// How many bytes are held.
    pub(super) fn held(&self) -> u64 {
        self.held.len() as u64
    }

    /// What was held, when nothing follows.
    pub(super) fn end(&mut self) -> Bytes {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "s3cr3t-t0ken-0123";

    /// Cut at every place, whatever the frames, the same comes out.
    #[test]
    fn a_secret_is_hidden_however_it_is_cut() {
        let secrets = Secrets::new([SECRET]);
        let text = format!("data: {{\"a\":\"{SECRET}\",\"b\":\"s3cr3t-\"}} {SECRET}s3cr3t");
        let expected = text.replace(SECRET, &"*".repeat(SECRET.len()));
        for first in 0..text.len() {
            for second in first..text.len() {
                let mut mask = Mask::default();
                let mut out = Vec::new();
                for part in [&text[..first], &text[first..second], &text[second..]] {
                    out.extend_from_slice(&mask.frame(&secrets, Bytes::from(part.to_owned())));
                }
                out.extend_from_slice(&mask.end());
                assert_eq!(String::from_utf8(out).unwrap(), expected);
            }
        }
    }

    #[test]
    fn encodings_are_hidden_too() {
        let secrets = Secrets::new([SECRET]);
        for form in [
            // base64, and that of `Bearer …`
            "czNjcjN0LXQwa2VuLTAxMjM=",
            "QmVhcmVyIHMzY3IzdC10MGtlbi0wMTIz",
            "7333637233742d74306b656e2d30313233",
            "s3cr3t%2Dt0ken%2D0123",
        ] {
            let hidden = secrets.hide(Bytes::from(format!("x {form} y")));
            let hidden = std::str::from_utf8(&hidden).unwrap();
            assert_eq!(hidden.len(), form.len() + 4);
            assert!(hidden.contains("********"), "{hidden}");
        }
    }

    #[test]
    fn nothing_is_copied_or_held_without_need() {
        let secrets = Secrets::new([SECRET, "short"]);
        let frame = Bytes::from_static(b"data: {\"short\":1}\n\n");
        let mut mask = Mask::default();
        let out = mask.frame(&secrets, frame.clone());
        assert_eq!((out.as_ptr(), out.len()), (frame.as_ptr(), frame.len()));
        assert!(mask.end().is_empty());
        assert!(!format!("{secrets:?}").contains("s3cr3t"));
    }
}

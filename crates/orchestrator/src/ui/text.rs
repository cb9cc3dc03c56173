//! How text gets onto a page: as text, whoever wrote it, and so that nothing in it hides.

use std::fmt::{self, Write};

use askama::filters::Escaper;

use crate::approvals::is_deceptive;

/// The escaper of every page (`askama.toml`): markup becomes text, and what a browser would
/// not draw, or would let turn round what stands beside it, is written as its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Visible;

impl Escaper for Visible {
    fn write_escaped_str<W: Write>(&self, mut to: W, text: &str) -> fmt::Result {
        // What needs nothing is written in runs.
        let mut written = 0;
        for (at, letter) in text.char_indices() {
            let entity = match letter {
                '&' => "&#38;",
                '<' => "&#60;",
                '>' => "&#62;",
                '"' => "&#34;",
                '\'' => "&#39;",
                // What agents send over HTTP ends its lines in either way.
                '\r' => "",
                other if is_deceptive(other) => "",
                _ => continue,
            };
            to.write_str(text.get(written..at).unwrap_or_default())?;
            written = at.saturating_add(letter.len_utf8());
            if entity.is_empty() && letter != '\r' {
                write!(to, "{}", letter.escape_unicode())?;
            } else {
                to.write_str(entity)?;
            }
        }
        to.write_str(text.get(written..).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_text_and_nothing_hides() {
        for (text, shown) in [
            (
                "plain, ünïcode 🚀\nand a line",
                "plain, ünïcode 🚀\nand a line",
            ),
            (
                "<b a=\"1\" c='2'>&",
                "&#60;b a=&#34;1&#34; c=&#39;2&#39;&#62;&#38;",
            ),
            ("txt.\u{202e}exe", "txt.\\u{202e}exe"),
            ("\u{1b}[31mred\u{200b}", "\\u{1b}[31mred\\u{200b}"),
            ("two\r\nlines", "two\nlines"),
            ("", ""),
        ] {
            let mut written = String::new();
            Visible.write_escaped_str(&mut written, text).unwrap();
            assert_eq!(written, shown);
        }
    }
}

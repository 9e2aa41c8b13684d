//! Text extracted from content, kept by content hash so that it is extracted once.

use serde::{Deserialize, Serialize};

use super::Sha256;

/// How text is taken out of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TextFormat {
    /// The bytes are the text.
    Plain,
    /// HTML: text between tags.
    Html,
    /// Markdown: text without markup.
    Markdown,
}

impl TextFormat {
    /// The format of content of a media type; none if its text can't be extracted.
    pub fn of(content_type: &str) -> Option<Self> {
        let essence = content_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| essence.eq_ignore_ascii_case(name);
        if is("text/html") || is("application/xhtml+xml") {
            Some(Self::Html)
        } else if is("text/markdown") || is("text/x-markdown") {
            Some(Self::Markdown)
        } else if is("application/json")
            || is("application/toml")
            || is("application/xml")
            || is("application/yaml")
            || essence.get(..5).is_some_and(|start| start.eq_ignore_ascii_case("text/"))
        {
            Some(Self::Plain)
        } else {
            None
        }
    }

    /// The name kept in stores.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Html => "html",
            Self::Markdown => "markdown",
        }
    }
}

/// Identifies a text: the same bytes give other text when read as another format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TextKey {
    /// Digest of the content.
    pub content_sha256: Sha256,
    /// How it was read.
    pub format: TextFormat,
}

/// Takes plain text out of bytes: invalid UTF-8 replaced, cut at a character boundary to at most
/// `limit_bytes`.
pub fn plain_text(content: &[u8], limit_bytes: usize) -> String {
    let mut head = &content[..content.len().min(limit_bytes)];
    if head.len() < content.len() {
        // The beginning of a character that was cut is no invalid one.
        let cut = head.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
        head = &head[..head.len() - cut];
    }
    let mut text = String::from_utf8_lossy(head).into_owned();
    truncate_at_char(&mut text, limit_bytes);
    text
}

/// Cuts `text` to at most `limit_bytes` without splitting a character.
pub fn truncate_at_char(text: &mut String, limit_bytes: usize) {
    if text.len() > limit_bytes {
        text.truncate(text.floor_char_boundary(limit_bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_cut_between_characters_of_any_length() {
        for limit in 0..8 {
            let expected = if limit < 4 { "" } else { "🦀" };
            assert_eq!(plain_text("🦀🦀".as_bytes(), limit), expected, "{limit}");
        }
        assert_eq!(plain_text(b"a\xf0", 10), "a\u{fffd}");
    }
}

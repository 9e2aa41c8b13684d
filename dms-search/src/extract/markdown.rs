//! Text out of Markdown (`CommonMark` with tables, strike-through, task lists and footnotes).

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::{TextBuilder, html};

/// A parser keeps a node for each character that may be markup, many times its size: it is given
/// parts of this size, cut between blocks where that is possible. Markup that reaches from one part
/// into the next is read as text.
const PART_BYTES_MAX: usize = 256 << 10;

/// Appends the text of `content`.
pub(super) fn append(content: &[u8], text: &mut TextBuilder) {
    // Markup is seldom more than the text; who gives more of it is not worth the time.
    let content = &content[..content.len().min(text.limit_bytes().saturating_mul(2))];
    let content = String::from_utf8_lossy(content);
    let mut rest = &*content;
    while !rest.is_empty() && !text.is_full() {
        let (part, after) = rest.split_at(part_end(rest));
        append_part(part, text);
        text.end_line();
        rest = after;
    }
}

/// Where the next part ends: after a blank line if there is one, else after a line.
fn part_end(text: &str) -> usize {
    if text.len() <= PART_BYTES_MAX {
        return text.len();
    }
    let head = &text[..text.floor_char_boundary(PART_BYTES_MAX)];
    let after = |separator: &str| head.rfind(separator).map(|at| at + separator.len());
    after("\n\n").or_else(|| after("\n")).unwrap_or(head.len())
}

fn append_part(part: &str, text: &mut TextBuilder) {
    let options = Options::ENABLE_TABLES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_FOOTNOTES;
    // HTML comes line by line, but what it means is only known once it is whole.
    let mut raw = String::new();
    for event in Parser::new_ext(part, options) {
        match event {
            Event::Text(piece) | Event::Code(piece) => text.push(piece.as_bytes()),
            Event::Html(piece) => raw.push_str(&piece),
            Event::SoftBreak | Event::HardBreak | Event::Rule => text.end_line(),
            Event::Start(tag) if is_block(&tag) => text.end_line(),
            Event::End(tag) => {
                if tag == TagEnd::HtmlBlock {
                    html::append(raw.as_bytes(), text);
                    raw.clear();
                }
                if is_block_end(tag) {
                    text.end_line();
                }
            }
            // An inline tag or comment has no text of its own.
            _ => {}
        }
        if text.is_full() {
            return;
        }
    }
}

fn is_block(tag: &Tag<'_>) -> bool {
    is_block_end(tag.to_end())
}

fn is_block_end(tag: TagEnd) -> bool {
    !matches!(
        tag,
        TagEnd::Emphasis
            | TagEnd::Strong
            | TagEnd::Strikethrough
            | TagEnd::Link
            | TagEnd::Image
            | TagEnd::Superscript
            | TagEnd::Subscript
    )
}

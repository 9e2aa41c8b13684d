//! Text out of HTML (WHATWG), from its tokens alone: no tree is built, so nesting costs nothing,
//! and attributes are skipped as they are read.

use html5gum::{Emitter, Error, State, Tokenizer};

use super::TextBuilder;

/// Appends the text of `content`, until there is no more or the builder is full.
pub(super) fn append(content: &[u8], text: &mut TextBuilder) {
    let mut tokens = Tokenizer::new_with_emitter(content, TextEmitter::new(text));
    // Gives a token only when it is time to stop.
    let _ = tokens.next();
}

/// Longest tag name that means anything here: `blockquote`, `figcaption`, `textarea`.
const NAME_BYTES_MAX: usize = 16;

/// Elements that don't separate the words around them.
const INLINE: [&[u8]; 39] = [
    b"a", b"abbr", b"acronym", b"b", b"bdi", b"bdo", b"big", b"cite", b"code", b"data", b"del",
    b"dfn", b"em", b"font", b"i", b"ins", b"kbd", b"label", b"mark", b"nobr", b"q", b"rb", b"ruby",
    b"s", b"samp", b"small", b"span", b"strike", b"strong", b"sub", b"sup", b"time", b"tt", b"u",
    b"var", b"wbr", b"output", b"rt", b"rp",
];

/// What the tokenizer does after a start tag, and whether what follows is no text.
fn raw_text(name: &[u8]) -> Option<(State, bool)> {
    match name {
        b"title" | b"textarea" => Some((State::RcData, false)),
        b"script" => Some((State::ScriptData, true)),
        b"style" | b"iframe" | b"noembed" | b"noframes" => Some((State::RawText, true)),
        b"xmp" => Some((State::RawText, false)),
        b"plaintext" => Some((State::PlainText, false)),
        _ => None,
    }
}

struct TextEmitter<'a> {
    text: &'a mut TextBuilder,
    /// Name of the tag at hand, cut to what can matter.
    name: Vec<u8>,
    is_end: bool,
    is_self_closing: bool,
    /// The start tag before: only its end tag ends raw text.
    last_start: Vec<u8>,
    /// Inside a script or a style.
    is_hidden: bool,
}

impl<'a> TextEmitter<'a> {
    fn new(text: &'a mut TextBuilder) -> Self {
        Self {
            text,
            name: Vec::new(),
            is_end: false,
            is_self_closing: false,
            last_start: Vec::new(),
            is_hidden: false,
        }
    }

    fn begin_tag(&mut self, is_end: bool) {
        self.name.clear();
        self.is_end = is_end;
        self.is_self_closing = false;
    }
}

impl Emitter for TextEmitter<'_> {
    type Token = ();

    fn pop_token(&mut self) -> Option<()> {
        self.text.is_full().then_some(())
    }

    fn emit_string(&mut self, piece: &[u8]) {
        if !self.is_hidden {
            self.text.push(piece);
        }
    }

    fn init_start_tag(&mut self) {
        self.begin_tag(false);
    }

    fn init_end_tag(&mut self) {
        self.begin_tag(true);
    }

    fn push_tag_name(&mut self, part: &[u8]) {
        // One byte more than can matter, so that a cut name equals no other.
        let room = (NAME_BYTES_MAX + 1).saturating_sub(self.name.len());
        self.name.extend_from_slice(&part[..part.len().min(room)]);
    }

    fn set_self_closing(&mut self) {
        self.is_self_closing = true;
    }

    fn emit_current_tag(&mut self) -> Option<State> {
        self.is_hidden = false;
        if !INLINE.contains(&self.name.as_slice()) {
            self.text.end_line();
        }
        if self.is_end {
            return None;
        }
        self.last_start.clone_from(&self.name);
        // HTML ignores the slash of `<script/>`, XHTML doesn't. Losing the rest of a document is
        // worse than reading what comes after.
        let (state, is_hidden) = raw_text(&self.name).filter(|_| !self.is_self_closing)?;
        self.is_hidden = is_hidden;
        Some(state)
    }

    fn current_is_appropriate_end_tag_token(&mut self) -> bool {
        self.is_end && !self.last_start.is_empty() && self.last_start == self.name
    }

    fn set_last_start_tag(&mut self, name: Option<&[u8]>) {
        self.last_start.clear();
        self.last_start.extend_from_slice(name.unwrap_or_default());
    }

    fn should_emit_errors(&mut self) -> bool {
        false
    }

    fn emit_eof(&mut self) {}
    fn emit_error(&mut self, _: Error) {}
    fn init_comment(&mut self) {}
    fn emit_current_comment(&mut self) {}
    fn emit_current_doctype(&mut self) {}
    fn set_force_quirks(&mut self) {}
    fn push_comment(&mut self, _: &[u8]) {}
    fn push_doctype_name(&mut self, _: &[u8]) {}
    fn init_doctype(&mut self) {}
    fn init_attribute(&mut self) {}
    fn push_attribute_name(&mut self, _: &[u8]) {}
    fn push_attribute_value(&mut self, _: &[u8]) {}
    fn set_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn set_doctype_system_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_public_identifier(&mut self, _: &[u8]) {}
    fn push_doctype_system_identifier(&mut self, _: &[u8]) {}
}

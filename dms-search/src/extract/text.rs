//! Text as it is put together: bounded, white space collapsed.

/// Collects text, at most a given number of bytes.
pub(super) struct TextBuilder {
    /// Bytes, as pieces may end inside a character.
    text: Vec<u8>,
    limit_bytes: usize,
    gap: Gap,
}

/// What stands between the text so far and whatever comes next.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    Nothing,
    Space,
    Line,
}

impl TextBuilder {
    pub(super) fn new(limit_bytes: usize) -> Self {
        Self { text: Vec::new(), limit_bytes, gap: Gap::Nothing }
    }

    /// The most it takes, in bytes.
    pub(super) fn limit_bytes(&self) -> usize {
        self.limit_bytes
    }

    /// Whether nothing more fits.
    pub(super) fn is_full(&self) -> bool {
        self.text.len() >= self.limit_bytes
    }

    /// Ends the line; text on both sides is apart.
    pub(super) fn end_line(&mut self) {
        self.gap = Gap::Line;
    }

    /// Separates the words on both sides.
    pub(super) fn space(&mut self) {
        self.gap = self.gap.max(Gap::Space);
    }

    /// Appends text, with runs of white space as one space.
    pub(super) fn push(&mut self, piece: &[u8]) {
        for part in piece.split_inclusive(u8::is_ascii_whitespace) {
            let word = part.trim_ascii_end();
            if !word.is_empty() {
                if self.is_full() {
                    return;
                }
                match self.gap {
                    _ if self.text.is_empty() => {}
                    Gap::Nothing => {}
                    Gap::Space => self.text.push(b' '),
                    Gap::Line => self.text.push(b'\n'),
                }
                self.gap = Gap::Nothing;
                let room = self.limit_bytes.saturating_sub(self.text.len());
                self.text.extend_from_slice(&word[..word.len().min(room)]);
            }
            if word.len() < part.len() {
                self.space();
            }
        }
    }

    /// The text; a character that was cut off is replaced like any other invalid one.
    pub(super) fn finish(mut self) -> String {
        if self.is_full() {
            let end = self.text.utf8_chunks().last().map_or(0, |chunk| chunk.invalid().len());
            self.text.truncate(self.text.len() - end);
        }
        match String::from_utf8(self.text) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        }
    }
}

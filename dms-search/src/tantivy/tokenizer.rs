//! Words by the rules of [`dms_core::model::words`], as tantivy wants them.

use dms_core::model::words::{Words, normalize_into, words};
use tantivy::tokenizer::{Token, TokenStream, Tokenizer};

/// Splits text into normalised words.
#[derive(Clone, Default)]
pub(super) struct WordTokenizer {
    token: Token,
}

/// The words of one text.
pub(super) struct WordStream<'a> {
    words: Words<'a>,
    token: &'a mut Token,
}

impl Tokenizer for WordTokenizer {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream { words: words(text), token: &mut self.token }
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        let Some(word) = self.words.next() else { return false };
        let range = word.range();
        self.token.offset_from = range.start;
        self.token.offset_to = range.end;
        // A token before the first has the last of all positions.
        self.token.position = self.token.position.wrapping_add(1);
        self.token.text.clear();
        normalize_into(word.text, &mut self.token.text);
        true
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

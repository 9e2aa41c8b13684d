//! What a word is to search: how text is split, and which spellings are the same word.
//!
//! Every index analyses documents and queries by these rules, so that the same text finds the same
//! documents whatever engine is behind it.
//!
//! - A word is a run of letters and digits; everything else separates.
//! - Scripts that are written without spaces (Chinese, Japanese kana, Thai, Lao, Burmese, Khmer)
//!   give a word per character; a run of them is then found as a phrase.
//! - Case doesn't matter, nor do the accents and ligatures of Latin letters: `Straße` is `strasse`,
//!   `Ärger` is `arger`.
//! - Words aren't stemmed and none is left out: texts come in any language and in several at once,
//!   and the stems and stop words of one damage the others, names and numbers most of all.

use std::ops::Range;

/// Longest word, in bytes; a longer run of letters is cut into several words.
pub const WORD_BYTES_MAX: usize = 255;

/// Longest UTF-8 encoding of one character.
const CHAR_BYTES_MAX: usize = 4;

/// A word as it stands in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'a> {
    /// Offset of its first byte in the text.
    pub start: usize,
    /// The word, spelled as in the text.
    pub text: &'a str,
}

impl Word<'_> {
    /// Where it stands in the text, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }
}

/// The words of a text, in order. See [`words`].
#[derive(Debug, Clone)]
pub struct Words<'a> {
    text: &'a str,
    at: usize,
}

/// Splits `text` into words; takes time linear in its length and keeps nothing.
pub const fn words(text: &str) -> Words<'_> {
    Words { text, at: 0 }
}

impl<'a> Iterator for Words<'a> {
    type Item = Word<'a>;

    fn next(&mut self) -> Option<Word<'a>> {
        loop {
            let (class, bytes) = self.peek()?;
            match class {
                Class::Letter => break,
                Class::Whole => {
                    let start = self.at;
                    self.at += bytes;
                    return Some(self.word_from(start));
                }
                Class::Mark | Class::Separator => self.at += bytes,
            }
        }
        let start = self.at;
        while let Some((Class::Letter | Class::Mark, bytes)) = self.peek() {
            self.at += bytes;
            if self.at - start > WORD_BYTES_MAX - CHAR_BYTES_MAX {
                break;
            }
        }
        Some(self.word_from(start))
    }
}

impl<'a> Words<'a> {
    /// The class of the character at hand, and how many bytes it has.
    fn peek(&self) -> Option<(Class, usize)> {
        let byte = *self.text.as_bytes().get(self.at)?;
        if byte.is_ascii() {
            let class = if byte.is_ascii_alphanumeric() { Class::Letter } else { Class::Separator };
            return Some((class, 1));
        }
        let character = self.text[self.at..].chars().next()?;
        Some((Class::of(character), character.len_utf8()))
    }

    fn word_from(&self, start: usize) -> Word<'a> {
        Word { start, text: &self.text[start..self.at] }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Part of a word.
    Letter,
    /// A word of its own.
    Whole,
    /// Belongs to the letter before it and says nothing without one.
    Mark,
    /// Between words.
    Separator,
}

impl Class {
    fn of(character: char) -> Self {
        match character {
            // Combining accents, soft hyphen, joiners.
            '\u{300}'..='\u{36f}' | '\u{ad}' | '\u{200c}' | '\u{200d}' => Self::Mark,
            // Danda and double danda; punctuation and signs of Thai, Burmese and Khmer.
            '\u{964}'
            | '\u{965}'
            | '\u{e3f}'
            | '\u{e4f}'
            | '\u{e5a}'
            | '\u{e5b}'
            | '\u{104a}'..='\u{104f}'
            | '\u{17d4}'..='\u{17da}' => Self::Separator,
            // What isn't alphabetic in the scripts of India (virama, nukta) stands inside words.
            '\u{900}'..='\u{dff}' => Self::Letter,
            // Thai and Lao, Burmese, Khmer, Hiragana, ideographs.
            '\u{e00}'..='\u{eff}'
            | '\u{1000}'..='\u{109f}'
            | '\u{1780}'..='\u{17ff}'
            | '\u{3041}'..='\u{309f}'
            | '\u{3400}'..='\u{4dbf}'
            | '\u{4e00}'..='\u{9fff}'
            | '\u{f900}'..='\u{faff}'
            | '\u{20000}'..='\u{3ffff}' => Self::Whole,
            _ if character.is_alphanumeric() => Self::Letter,
            _ => Self::Separator,
        }
    }
}

/// Appends the spelling by which a word is compared: lower case, without accents and ligatures.
pub fn normalize_into(word: &str, normal: &mut String) {
    if word.is_ascii() {
        normal.extend(word.bytes().map(|byte| char::from(byte.to_ascii_lowercase())));
    } else {
        word.chars().flat_map(char::to_lowercase).for_each(|character| fold(character, normal));
    }
}

/// The normal spellings of the words of `text`, in order.
pub fn normalized(text: &str) -> impl Iterator<Item = String> {
    words(text).map(|word| {
        let mut normal = String::with_capacity(word.text.len());
        normalize_into(word.text, &mut normal);
        normal
    })
}

/// Base letters of U+00C0 to U+024F; a dot where there is none or more than one.
const LATIN: &[u8; 400] = b"\
    aaaaaa.ceeeeiiiidnooooo.ouuuuy..aaaaaa.ceeeeiiiidnooooo.ouuuuy.y\
    aaaaaaccccccccddddeeeeeeeeeegggggggghhhhiiiiiiiiii..jjkkkllllll.\
    .llnnnnnnnnnoooooo..rrrrrrssssssssttttttuuuuuuuuuuuuwwyyyzzzzzzs\
    bb.............eeff.....kkl.....oo.............uu..yyzz.........\
    .............aaiioouuuuuuuuuu.aaaa..ggggkkoooo..j...gg..nnaa...o\
    aaaaeeeeiiiioooorrrruuuusstt..hh....zzaaeeooooooooyy...j...ccl..\
    ...b..eejj..rryy";

/// Base letters of U+1E00 to U+1EFF.
const LATIN_ADDITIONAL: &[u8; 256] = b"\
    aabbbbbbccddddddddddeeeeeeeeeeffgghhhhhhhhhhiiiikkkkkkllllllllmm\
    mmmmnnnnnnnnoooooooopppprrrrrrrrssssssssssttttttttuuuuuuuuuuvvvv\
    wwwwwwwwwwxxxxyyzzzzzzhtwy.s....aaaaaaaaaaaaaaaaaaaaaaaaeeeeeeee\
    eeeeeeeeiiiioooooooooooooooooooooooouuuuuuuuuuuuuuyyyyyyyy......";

fn fold(character: char, normal: &mut String) {
    let code = u32::from(character);
    let base = match code {
        0xc0..=0x24f => LATIN.get((code - 0xc0) as usize),
        0x1e00..=0x1eff => LATIN_ADDITIONAL.get((code - 0x1e00) as usize),
        _ => None,
    };
    match base {
        Some(&letter) if letter != b'.' => return normal.push(char::from(letter)),
        _ => {}
    }
    match character {
        'ß' => normal.push_str("ss"),
        'æ' | 'ǣ' | 'ǽ' => normal.push_str("ae"),
        'œ' => normal.push_str("oe"),
        'þ' => normal.push_str("th"),
        'ĳ' => normal.push_str("ij"),
        'ǆ' | 'ǳ' => normal.push_str("dz"),
        'ǉ' => normal.push_str("lj"),
        'ǌ' => normal.push_str("nj"),
        'ς' => normal.push('σ'),
        // Full-width forms of ASCII.
        '\u{ff01}'..='\u{ff5e}' => {
            normal.extend(char::from_u32(code - 0xfee0));
        }
        _ if Class::of(character) == Class::Mark => {}
        _ => normal.push(character),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn normal(text: &str) -> Vec<String> {
        normalized(text).collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_digits() {
        assert_eq!(
            normal("Invoice #42: paid, ann@example.org"),
            ["invoice", "42", "paid", "ann", "example", "org"]
        );
        assert!(normal(" \t!? — …").is_empty());
    }

    #[test]
    fn case_accents_and_ligatures_make_no_difference() {
        assert_eq!(
            normal("STRASSE Straße ärger Ærø İstanbul Đà Nẵng"),
            ["strasse", "strasse", "arger", "aero", "istanbul", "da", "nang"]
        );
        assert_eq!(normal("cafe\u{301}s"), normal("cafés"));
        assert_eq!(normal("ｆｕｌｌ"), ["full"]);
        assert_eq!(normal("co\u{ad}operate"), ["cooperate"]);
    }

    #[test]
    fn scripts_without_spaces_give_a_word_per_character() {
        assert_eq!(normal("契約書2026"), ["契", "約", "書", "2026"]);
        assert_eq!(normal("สัญญา").len(), 5);
        assert_eq!(normal("Договор アパート"), ["договор", "アパート"]);
        assert_eq!(normal("हिन्दी।"), ["हिन्दी"]);
    }

    #[test]
    fn a_very_long_run_is_cut_into_words() {
        let all: Vec<_> = words(&"x".repeat(1_000)).map(|word| word.text.len()).collect();
        assert!(all.iter().all(|length| *length <= WORD_BYTES_MAX), "{all:?}");
        assert_eq!(all.iter().sum::<usize>(), 1_000);
    }

    proptest! {
        #[test]
        fn any_text_splits_into_bounded_words_in_order(text in any::<String>()) {
            let mut end = 0;
            for word in words(&text) {
                prop_assert!(word.start >= end && !word.text.is_empty());
                prop_assert!(word.text.len() <= WORD_BYTES_MAX);
                prop_assert_eq!(&text[word.range()], word.text);
                end = word.range().end;
            }
        }

        #[test]
        fn normal_spelling_is_stable(text in any::<String>()) {
            for word in normalized(&text) {
                let mut again = String::new();
                normalize_into(&word, &mut again);
                prop_assert_eq!(again, word);
            }
        }
    }
}

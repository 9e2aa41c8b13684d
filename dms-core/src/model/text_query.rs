//! What somebody typed into a search box, taken apart.
//!
//! Not a query language: no fields, wildcards, regular expressions or fuzziness, and nothing that
//! can be wrong. The rules are those of the search boxes people know:
//!
//! - `annual report`: documents with either word, those that match best first;
//! - `"annual report"`: only documents with these words one after the other;
//! - `-draft`, `-"first draft"`: only documents without it.
//!
//! With a quoted phrase, plain words no longer decide what is found, only in which order. A word
//! that consists of several (`ann@example.org`, `2026-11-23`, `契約書`) is found as a phrase. A text
//! of exclusions alone finds everything else. A text without any word finds nothing; a blank one
//! is as good as none.

use super::search::SearchQuery;
use super::words::normalized;

/// Words one after the other, normalised, at least one.
pub type Phrase = Vec<String>;

/// A taken-apart text. See the [module](self).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextQuery {
    /// At least one of these, unless there is something in `all`; the more the better.
    pub any: Vec<Phrase>,
    /// Each of these.
    pub all: Vec<Phrase>,
    /// None of these.
    pub none: Vec<Phrase>,
}

impl TextQuery {
    /// Most words, phrases and exclusions together; more are left out.
    pub const CLAUSES_MAX: usize = 64;
    /// Most words of one phrase; more are left out.
    pub const PHRASE_WORDS_MAX: usize = 64;

    /// Takes `text` apart; none if it is blank. Looks at [`SearchQuery::TEXT_CHARS_MAX`] characters
    /// at most.
    pub fn parse(text: &str) -> Option<Self> {
        let end = text.char_indices().nth(SearchQuery::TEXT_CHARS_MAX).map(|(at, _)| at);
        let mut rest = text[..end.unwrap_or(text.len())].trim_start();
        if rest.is_empty() {
            return None;
        }
        let mut query = Self::default();
        while !rest.is_empty() && query.clauses() < Self::CLAUSES_MAX {
            let (excluded, clause) = match rest.strip_prefix('-') {
                Some(clause) => (true, clause),
                None => (false, rest),
            };
            let quoted =
                clause.strip_prefix(is_quote).and_then(|inside| inside.split_once(is_quote));
            let (part, after) = match quoted {
                Some((inside, after)) => (inside, after),
                None => split_word(clause),
            };
            let into = match (excluded, quoted) {
                (true, _) => &mut query.none,
                (false, Some(_)) => &mut query.all,
                (false, None) => &mut query.any,
            };
            let phrase: Phrase = normalized(part).take(Self::PHRASE_WORDS_MAX).collect();
            if !phrase.is_empty() && !into.contains(&phrase) {
                into.push(phrase);
            }
            rest = after.trim_start();
        }
        Some(query)
    }

    /// Whether there is nothing to look for: nothing is found then.
    pub fn is_empty(&self) -> bool {
        self.clauses() == 0
    }

    /// Whether hits have scores: there is something that a document can match better or worse.
    pub fn is_scored(&self) -> bool {
        !self.any.is_empty() || !self.all.is_empty()
    }

    fn clauses(&self) -> usize {
        self.any.len() + self.all.len() + self.none.len()
    }
}

fn is_quote(character: char) -> bool {
    matches!(character, '"' | '“' | '”' | '„')
}

/// Up to the next white space or quote, and from there on. Takes at least one character, unless the
/// text begins with white space.
fn split_word(text: &str) -> (&str, &str) {
    let mut characters = text.char_indices();
    let begins_with_space = characters.next().is_some_and(|(_, first)| first.is_whitespace());
    let end = if begins_with_space {
        0
    } else {
        characters
            .find(|(_, character)| character.is_whitespace() || is_quote(*character))
            .map_or(text.len(), |(at, _)| at)
    };
    text.split_at(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shown(text: &str) -> String {
        let Some(query) = TextQuery::parse(text) else { return "blank".to_owned() };
        let mut parts = Vec::new();
        for (sign, phrases) in [("", &query.any), ("+", &query.all), ("-", &query.none)] {
            parts.extend(phrases.iter().map(|phrase| format!("{sign}{}", phrase.join("_"))));
        }
        parts.join(" ")
    }

    #[test]
    fn words_phrases_and_exclusions_are_told_apart() {
        assert_eq!(shown("Annual report"), "annual report");
        assert_eq!(shown("\"annual report\" 2026 -draft"), "2026 +annual_report -draft");
        assert_eq!(shown("-\"first draft\""), "-first_draft");
        assert_eq!(shown("„Jahres Bericht“"), "+jahres_bericht");
    }

    #[test]
    fn a_word_of_several_words_is_a_phrase() {
        assert_eq!(shown("ann@example.org"), "ann_example_org");
        assert_eq!(shown("state-of-the-art"), "state_of_the_art");
        assert_eq!(shown("契約書"), "契_約_書");
    }

    #[test]
    fn what_is_no_clause_is_tolerated() {
        assert_eq!(shown("  \t "), "blank");
        for nothing in ["-", "\"\"", "--", "!!", "- \"", "-\"\"", "*", "\"", "AND"] {
            let query = TextQuery::parse(nothing).unwrap();
            assert_eq!(query.is_empty(), nothing != "AND", "{nothing}");
        }
        assert_eq!(shown("\"annual report"), "annual report");
        assert_eq!(shown("annual\"report\""), "annual +report");
        assert_eq!(shown("a - b"), "a b");
        assert_eq!(shown("title:x* /re+/ (a OR b)~2"), "title_x re a or b_2");
        assert_eq!(shown("same same Same"), "same");
    }

    proptest! {
        #[test]
        fn any_text_gives_a_bounded_query(text in "(\\PC|[-\" a\n]){0,1500}") {
            let Some(query) = TextQuery::parse(&text) else { return Ok(()) };
            prop_assert!(query.clauses() <= TextQuery::CLAUSES_MAX);
            for phrase in query.any.iter().chain(&query.all).chain(&query.none) {
                prop_assert!(!phrase.is_empty() && phrase.len() <= TextQuery::PHRASE_WORDS_MAX);
            }
        }
    }
}

//! Which parts of a text matched, for people to see.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use super::text_query::{Phrase, TextQuery};
use super::words::{Word, normalize_into, words};

/// Bounds of the fragments taken out of one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentLimits {
    /// Most fragments.
    pub count_max: usize,
    /// About how many characters each has.
    pub chars: usize,
    /// How many bytes of the text are looked at.
    pub scan_bytes_max: usize,
}

impl Default for FragmentLimits {
    fn default() -> Self {
        Self { count_max: 3, chars: 150, scan_bytes_max: 1 << 20 }
    }
}

/// Marks what a [`TextQuery`] looks for: matches in `<em>`, everything else escaped as HTML.
///
/// A phrase is marked where its words stand one after the other, each word by itself.
#[derive(Debug, Clone)]
pub struct Highlighter {
    /// Each word looked for has a number.
    numbers: HashMap<String, usize>,
    /// Phrases as numbers of their words.
    phrases: Vec<Vec<usize>>,
    /// Which bytes a word looked for begins with: most words of a text are ruled out by it.
    first_bytes: [bool; 256],
    longest_phrase: usize,
}

impl Highlighter {
    /// For what `query` wants found.
    pub fn new(query: &TextQuery) -> Self {
        let mut highlighter = Self {
            numbers: HashMap::new(),
            phrases: Vec::new(),
            first_bytes: [false; 256],
            longest_phrase: 0,
        };
        query.any.iter().chain(&query.all).for_each(|phrase| highlighter.add(phrase));
        highlighter
    }

    fn add(&mut self, phrase: &Phrase) {
        let mut numbers = Vec::with_capacity(phrase.len());
        for word in phrase {
            let next = self.numbers.len();
            numbers.push(*self.numbers.entry(word.clone()).or_insert(next));
            if let Some(first) = word.bytes().next() {
                self.first_bytes[usize::from(first)] = true;
            }
        }
        self.longest_phrase = self.longest_phrase.max(numbers.len());
        self.phrases.push(numbers);
    }

    /// The whole of `text`, marked; none if nothing in it matches.
    pub fn whole(&self, text: &str) -> Option<String> {
        let matches: Vec<_> = self.matches(text).collect();
        (!matches.is_empty()).then(|| render(text, 0..text.len(), &matches))
    }

    /// The first places of `text` that match, each with some of the text around it.
    ///
    /// Stops looking at the text as soon as it has enough.
    pub fn fragments(&self, text: &str, limits: FragmentLimits) -> Vec<String> {
        let text = &text[..text.floor_char_boundary(limits.scan_bytes_max)];
        let mut fragments: Vec<(Range<usize>, Vec<Range<usize>>)> = Vec::new();
        for found in self.matches(text) {
            let begin = match fragments.last_mut() {
                Some((window, inside)) if found.start < window.end => {
                    // A match that begins inside is shown whole.
                    window.end = window.end.max(found.end);
                    inside.push(found);
                    continue;
                }
                Some((window, _)) => window.end,
                None => 0,
            };
            if fragments.len() == limits.count_max {
                break;
            }
            fragments.push((window(text, &found, begin, limits.chars), vec![found]));
        }
        fragments.into_iter().map(|(window, inside)| render(text, window, &inside)).collect()
    }

    /// The number of a word, if it is looked for.
    fn number(&self, word: Word<'_>, normal: &mut String) -> Option<usize> {
        let first = word.text.bytes().next()?;
        if word.text.is_ascii() && !self.first_bytes[usize::from(first.to_ascii_lowercase())] {
            return None;
        }
        normal.clear();
        normalize_into(word.text, normal);
        self.numbers.get(normal.as_str()).copied()
    }

    fn matches<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        let mut text_words = words(text);
        let mut normal = String::new();
        let mut run: VecDeque<Candidate> = VecDeque::new();
        let mut settled: VecDeque<Range<usize>> = VecDeque::new();
        let mut ended = false;
        std::iter::from_fn(move || {
            while settled.is_empty() && !ended {
                let word = text_words.next();
                ended = word.is_none();
                let number = word.and_then(|word| self.number(word, &mut normal));
                if let (Some(word), Some(number)) = (word, number) {
                    run.push_back(Candidate { number, range: word.range(), matched: false });
                    self.mark_phrases_ending_here(&mut run);
                    // Whatever is further back can't become part of a phrase any more.
                    while run.len() > self.longest_phrase {
                        settled.extend(run.pop_front().and_then(Candidate::into_match));
                    }
                } else {
                    settled.extend(run.drain(..).filter_map(Candidate::into_match));
                }
            }
            settled.pop_front()
        })
    }

    fn mark_phrases_ending_here(&self, run: &mut VecDeque<Candidate>) {
        for phrase in &self.phrases {
            let Some(begin) = run.len().checked_sub(phrase.len()) else { continue };
            if run.iter().skip(begin).map(|word| word.number).eq(phrase.iter().copied()) {
                run.iter_mut().skip(begin).for_each(|word| word.matched = true);
            }
        }
    }
}

struct Candidate {
    number: usize,
    range: Range<usize>,
    matched: bool,
}

impl Candidate {
    fn into_match(self) -> Option<Range<usize>> {
        self.matched.then_some(self.range)
    }
}

/// A part of `text` of about `chars` characters around a match, not before `begin`, that doesn't
/// cut words where it can be helped.
fn window(text: &str, found: &Range<usize>, begin: usize, chars: usize) -> Range<usize> {
    let before = &text[begin..found.start];
    let lead = before.char_indices().rev().take(chars / 4).last();
    let mut start = begin + lead.map_or(before.len(), |(at, _)| at);
    if start > begin {
        let word = text[start..found.start].find(char::is_whitespace);
        start += word.map_or(0, |at| at + 1);
        start = text.ceil_char_boundary(start);
    }
    let rest = &text[start..];
    let end = match rest.char_indices().nth(chars) {
        Some((at, _)) => {
            let cut = rest[..at].rfind(char::is_whitespace).unwrap_or(at);
            start + if start + cut < found.end { at } else { cut }
        }
        None => text.len(),
    };
    start..end.max(found.end)
}

fn render(text: &str, part: Range<usize>, matches: &[Range<usize>]) -> String {
    let mut html = String::with_capacity(part.len() + 9 * matches.len());
    let mut at = part.start;
    for found in matches {
        escape_into(&text[at..found.start], &mut html);
        html.push_str("<em>");
        escape_into(&text[found.clone()], &mut html);
        html.push_str("</em>");
        at = found.end;
    }
    escape_into(&text[at..part.end], &mut html);
    html.truncate(html.trim_end().len());
    html.drain(..html.len() - html.trim_start().len());
    html
}

/// Appends `text` so that HTML shows it as it is, in text as in quoted attributes.
fn escape_into(text: &str, html: &mut String) {
    for character in text.chars() {
        match character {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#x27;"),
            other => html.push(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn highlighter(text: &str) -> Highlighter {
        Highlighter::new(&TextQuery::parse(text).unwrap())
    }

    #[test]
    fn matches_are_marked_and_everything_else_is_escaped() {
        let marked = highlighter("bold script").whole("<b>Bold</b> & \"it's\"").unwrap();
        assert_eq!(marked, "&lt;b&gt;<em>Bold</em>&lt;/b&gt; &amp; &quot;it&#x27;s&quot;");
        assert_eq!(highlighter("script").whole("<script>").unwrap(), "&lt;<em>script</em>&gt;");
        assert_eq!(highlighter("other").whole("nothing here"), None);
    }

    #[test]
    fn a_phrase_is_marked_only_where_it_stands_whole() {
        let marked =
            highlighter("\"annual report\"").whole("report annual, annual report").unwrap();
        assert_eq!(marked, "report annual, <em>annual</em> <em>report</em>");
        let both = highlighter("\"annual report\" annual").whole("annual annual report").unwrap();
        assert_eq!(both, "<em>annual</em> <em>annual</em> <em>report</em>");
        assert_eq!(highlighter("-draft x").whole("a draft"), None);
    }

    #[test]
    fn other_spellings_are_marked_as_they_stand() {
        assert_eq!(highlighter("strasse").whole("Die Straße.").unwrap(), "Die <em>Straße</em>.");
    }

    #[test]
    fn fragments_surround_the_first_matches() {
        let filler = "lorem ipsum dolor sit amet ".repeat(1_000);
        let text =
            format!("{filler}needle one {filler}needle two {filler}needle three {filler}needle");
        let fragments = highlighter("needle").fragments(&text, FragmentLimits::default());
        assert_eq!(fragments.len(), 3);
        for fragment in &fragments {
            assert!(fragment.contains("<em>needle</em>"), "{fragment}");
            assert!(fragment.chars().count() < 200, "{fragment}");
            assert!(fragment.starts_with(char::is_alphanumeric), "{fragment}");
        }
        assert!(fragments[1].contains("two"));
    }

    #[test]
    fn neighbouring_matches_share_a_fragment() {
        let fragments = highlighter("a b").fragments("a x b x a", FragmentLimits::default());
        assert_eq!(fragments, ["<em>a</em> x <em>b</em> x <em>a</em>"]);
    }

    proptest! {
        #[test]
        fn any_text_is_marked_without_loss(text in "(\\PC|[<>&\"' ab\n]){0,400}", chars in 0_usize..60) {
            let highlighter = highlighter("a b \"a b\" ä契");
            let plain = |html: &str| html.replace("<em>", "").replace("</em>", "")
                .replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"")
                .replace("&#x27;", "'").replace("&amp;", "&");
            if let Some(marked) = highlighter.whole(&text) {
                prop_assert_eq!(plain(&marked), text.trim());
            }
            let limits = FragmentLimits { count_max: 3, chars, scan_bytes_max: 300 };
            for fragment in highlighter.fragments(&text, limits) {
                prop_assert!(fragment.contains("<em>"));
                prop_assert!(text.contains(&plain(&fragment)), "{:?}", fragment);
            }
        }
    }
}

//! Conditional requests (RFC 9110, section 13): entity tags, `If-Match`, `If-None-Match`.

use axum::http::header::{HeaderMap, HeaderName, HeaderValue};
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use dms_core::{Error, ErrorKind, Result};

/// The entity tag of a document: its version in quotes.
pub fn version_etag(version: i32) -> HeaderValue {
    // Digits and quotes are always a header's value.
    HeaderValue::try_from(format!("\"{version}\""))
        .unwrap_or_else(|_| HeaderValue::from_static("\"\""))
}

/// One entity tag of a list, without its quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct EntityTag<'a> {
    weak: bool,
    opaque: &'a str,
}

/// What a condition compares with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Tags<'a> {
    Any,
    List(Vec<EntityTag<'a>>),
}

/// Most tags that are compared; nobody sends more in earnest.
const TAGS_MAX: usize = 32;

/// Reads a list of tags (RFC 9110, section 8.8.3); none if it isn't one.
fn parse_tags(value: &str) -> Option<Tags<'_>> {
    let value = value.trim_matches([' ', '\t']);
    if value == "*" {
        return Some(Tags::Any);
    }
    let mut tags = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            break;
        }
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (opaque, after) = quoted.strip_prefix('"')?.split_once('"')?;
        let allowed = |c: u8| c == 0x21 || (0x23..=0x7e).contains(&c) || c >= 0x80;
        if !opaque.bytes().all(allowed) || tags.len() == TAGS_MAX {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(',') {
            return None;
        }
        tags.push(EntityTag { weak, opaque });
    }
    (!tags.is_empty()).then_some(Tags::List(tags))
}

/// The lines of a header as one list; none if it's absent, and an error if it isn't text.
fn joined(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>> {
    let mut joined: Option<String> = None;
    for line in headers.get_all(name) {
        let text = line
            .to_str()
            .map_err(|e| Error::malformed(format!("{name} can't be read")).with_source(e))?;
        match &mut joined {
            Some(joined) => {
                joined.push(',');
                joined.push_str(text);
            }
            None => joined = Some(text.to_owned()),
        }
    }
    Ok(joined)
}

/// Which version a write expects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IfMatch {
    /// Whatever version there is.
    Any,
    /// One of these; if none, no version meets the condition.
    OneOf(Vec<i32>),
}

impl IfMatch {
    /// Reads `If-Match`. Tags that are weak or no version are compared too, and never match.
    ///
    /// # Errors
    /// `Malformed` for anything but `*` or a list of at most 32 tags.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self> {
        let Some(value) = joined(headers, &IF_MATCH)? else { return Ok(Self::Any) };
        match parse_tags(&value) {
            Some(Tags::Any) => Ok(Self::Any),
            Some(Tags::List(tags)) => {
                let strong = tags.iter().filter(|tag| !tag.weak);
                Ok(Self::OneOf(strong.filter_map(|tag| version_of(tag.opaque)).collect()))
            }
            None => Err(Error::malformed("If-Match must be * or entity tags in quotes")),
        }
    }

    /// What a write that expects one version only is to be tried with.
    pub fn attempts(self) -> Attempts {
        let listed = match self {
            Self::Any => return Attempts { expected: None, listed: Vec::new(), left: 0 },
            Self::OneOf(versions) => versions,
        };
        // Versions begin with 1: 0 matches none and makes the write say which is present.
        let expected = listed.first().copied().unwrap_or_default();
        Attempts { expected: Some(expected), left: listed.len().saturating_sub(1), listed }
    }
}

/// The versions that a write is tried with, one after the other, each because it turned out to be
/// the present one.
#[derive(Debug, Clone)]
pub struct Attempts {
    expected: Option<i32>,
    listed: Vec<i32>,
    left: usize,
}

impl Attempts {
    /// What the write is to expect now.
    pub fn expected(&self) -> Option<i32> {
        self.expected
    }

    /// Whether the write, having failed with `error`, is to be tried again.
    pub fn continue_after(&mut self, error: &Error) -> bool {
        let current = error.current_version().filter(|current| self.listed.contains(current));
        if error.kind() != ErrorKind::VersionMismatch || current.is_none() || self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.expected = current;
        true
    }
}

/// A version as [`version_etag`] writes it, and no other way.
fn version_of(opaque: &str) -> Option<i32> {
    let version = opaque.parse::<i32>().ok().filter(|version| *version > 0)?;
    (version.to_string() == opaque).then_some(version)
}

/// Whether `If-None-Match` names `etag`, so that the client has what it asks for. A header that
/// can't be read is as good as none.
pub fn none_match_names(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    if !headers.contains_key(IF_NONE_MATCH) {
        return false;
    }
    let Ok(Some(value)) = joined(headers, &IF_NONE_MATCH) else { return false };
    let Ok(etag) = etag.to_str() else { return false };
    let own = etag.trim_matches('"');
    match parse_tags(&value) {
        Some(Tags::Any) => true,
        // Weak comparison (RFC 9110, section 8.8.3.2).
        Some(Tags::List(tags)) => tags.iter().any(|tag| tag.opaque == own),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn if_match(value: &str) -> Result<IfMatch> {
        let mut headers = HeaderMap::new();
        headers.insert(IF_MATCH, HeaderValue::try_from(value).unwrap());
        IfMatch::from_headers(&headers)
    }

    fn none_match(value: &str, version: i32) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(IF_NONE_MATCH, HeaderValue::try_from(value).unwrap());
        none_match_names(&headers, &version_etag(version))
    }

    #[test]
    fn if_match_compares_strongly() {
        assert_eq!(if_match("*").unwrap(), IfMatch::Any);
        assert_eq!(if_match("\"3\"").unwrap(), IfMatch::OneOf(vec![3]));
        assert_eq!(if_match(" \"1\" ,, \"2\"").unwrap(), IfMatch::OneOf(vec![1, 2]));
        for never in ["W/\"3\"", "\"abc\"", "\"\"", "\"03\"", "\"+3\"", "\"-3\"", "\"0\""] {
            assert_eq!(if_match(never).unwrap(), IfMatch::OneOf(vec![]), "{never}");
        }
    }

    #[test]
    fn a_malformed_if_match_is_refused() {
        for bad in ["3", "", ",", "\"3", "3\"", "\"1\" \"2\"", "*, \"1\"", "w/\"1\"", "\"a b\""] {
            let error = if_match(bad).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Malformed, "{bad:?}");
        }
    }

    #[test]
    fn if_none_match_compares_weakly() {
        assert!(none_match("*", 3));
        assert!(none_match("\"3\"", 3));
        assert!(none_match("W/\"3\"", 3));
        assert!(none_match("\"1\", \"3\"", 3));
        assert!(!none_match("\"1\", \"2\"", 3));
        assert!(!none_match("3", 3));
    }

    #[test]
    fn of_several_versions_the_present_one_is_expected() {
        let mut attempts = if_match("\"1\", \"2\", \"3\"").unwrap().attempts();
        assert_eq!(attempts.expected(), Some(1));
        assert!(attempts.continue_after(&Error::version_mismatch(1, 3)));
        assert_eq!(attempts.expected(), Some(3));
        assert!(!attempts.continue_after(&Error::version_mismatch(3, 4)));
        assert!(!attempts.continue_after(&Error::not_found("document", 1)));
    }

    #[test]
    fn a_document_that_keeps_moving_is_not_chased_for_ever() {
        let mut attempts = if_match("\"1\", \"2\"").unwrap().attempts();
        let moved = Error::version_mismatch(1, 2);
        assert!(attempts.continue_after(&moved));
        assert!(!attempts.continue_after(&moved));
    }

    #[test]
    fn a_condition_that_nothing_meets_expects_what_no_document_has() {
        let mut attempts = if_match("W/\"1\"").unwrap().attempts();
        assert_eq!(attempts.expected(), Some(0));
        assert!(!attempts.continue_after(&Error::version_mismatch(0, 1)));
        assert_eq!(if_match("*").unwrap().attempts().expected(), None);
    }

    proptest! {
        #[test]
        fn conditions_never_panic(value in "[\\x20-\\x7e\\t]{0,64}", version in 1..i32::MAX) {
            let _ = if_match(&value);
            none_match(&value, version);
        }

        #[test]
        fn lists_of_versions_are_read_as_written(versions in prop::collection::vec(1..i32::MAX, 1..9)) {
            let list: Vec<String> = versions.iter().map(|v| format!("\"{v}\"")).collect();
            prop_assert_eq!(if_match(&list.join(", ")).unwrap(), IfMatch::OneOf(versions));
        }
    }
}

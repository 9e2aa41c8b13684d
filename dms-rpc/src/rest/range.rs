//! Byte ranges (RFC 9110, section 14).

use std::ops::Range;

use axum::http::HeaderMap;
use axum::http::header::{HeaderValue, IF_RANGE, RANGE};
use dms_core::{Error, Result};

/// The part of content of `size` bytes that a request asks for; none means all of it.
///
/// Everything that isn't exactly one range of bytes is ignored, as is a range whose `If-Range`
/// doesn't name `etag`.
///
/// # Errors
/// `RangeNotSatisfiable` for a range that begins after the content's end.
pub(super) fn requested_range(
    headers: &HeaderMap,
    size: u64,
    etag: &HeaderValue,
) -> Result<Option<Range<u64>>> {
    let Some(range) = headers.get(RANGE) else { return Ok(None) };
    // Strong comparison; dates are never exact enough to be strong.
    if headers.get(IF_RANGE).is_some_and(|condition| condition != etag) {
        return Ok(None);
    }
    let mut lines = headers.get_all(RANGE).iter();
    match (lines.next(), lines.next(), range.to_str()) {
        (Some(_), None, Ok(text)) => resolve(text, size),
        _ => Ok(None),
    }
}

fn resolve(text: &str, size: u64) -> Result<Option<Range<u64>>> {
    let Some(spec) = parse(text) else { return Ok(None) };
    match spec {
        Spec::From { first, last: Some(last) } if last < first => Ok(None),
        Spec::From { first, .. } if first >= size => Err(Error::range_not_satisfiable(size)),
        Spec::From { first, last } => {
            let end = last.map_or(size, |last| last.saturating_add(1).min(size));
            Ok(Some(first..end))
        }
        Spec::Suffix(0) => Err(Error::range_not_satisfiable(size)),
        // No range describes the end of nothing.
        Spec::Suffix(_) if size == 0 => Ok(None),
        Spec::Suffix(length) => Ok(Some(size.saturating_sub(length)..size)),
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Spec {
    From { first: u64, last: Option<u64> },
    Suffix(u64),
}

fn parse(text: &str) -> Option<Spec> {
    let (unit, ranges) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = ranges.trim_matches([' ', '\t']).split_once('-')?;
    Some(match (first, last) {
        ("", last) => Spec::Suffix(number(last)?),
        (first, "") => Spec::From { first: number(first)?, last: None },
        (first, last) => Spec::From { first: number(first)?, last: Some(number(last)?) },
    })
}

/// Digits only; a number that is too large is as good as the largest.
fn number(digits: &str) -> Option<u64> {
    if digits.is_empty() || !digits.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    Some(digits.parse().unwrap_or(u64::MAX))
}

/// `Content-Range` of a part of content.
pub(super) fn content_range(range: &Range<u64>, size: u64) -> HeaderValue {
    let last = range.end.saturating_sub(1);
    // Digits and ASCII words are always a header's value.
    HeaderValue::try_from(format!("bytes {}-{last}/{size}", range.start))
        .unwrap_or_else(|_| HeaderValue::from_static("bytes */*"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dms_core::ErrorKind;
    use proptest::prelude::*;

    #[test]
    fn one_range_is_resolved_against_the_size() {
        for (text, expected) in [
            ("bytes=0-0", 0..1),
            ("bytes=0-", 0..10),
            ("Bytes=2-4", 2..5),
            ("bytes=2-999", 2..10),
            ("bytes=-3", 7..10),
            ("bytes=-99", 0..10),
            ("bytes=9-99999999999999999999999", 9..10),
        ] {
            assert_eq!(resolve(text, 10).unwrap(), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_one_range_of_bytes_is_ignored() {
        for text in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=5-2",
            "bytes=0-1,3-4",
            "items=0-1",
            "bytes=a-b",
            "bytes=+1-2",
            "bytes=1-2-3",
            "bytes=--1",
        ] {
            assert_eq!(resolve(text, 10).unwrap(), None, "{text}");
        }
        assert_eq!(resolve("bytes=-5", 0).unwrap(), None);
    }

    #[test]
    fn a_range_behind_the_end_is_refused_with_the_size() {
        for (text, size) in
            [("bytes=10-", 10), ("bytes=99-100", 10), ("bytes=-0", 10), ("bytes=0-", 0)]
        {
            let error = resolve(text, size).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::RangeNotSatisfiable, "{text}");
            assert_eq!(error.content_size(), Some(size));
        }
    }

    #[test]
    fn if_range_must_name_the_content() {
        let etag = HeaderValue::from_static("\"a\"");
        let ask = |condition: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(RANGE, HeaderValue::from_static("bytes=0-1"));
            headers.insert(IF_RANGE, HeaderValue::from_static(condition));
            requested_range(&headers, 10, &etag).unwrap()
        };
        assert_eq!(ask("\"a\""), Some(0..2));
        for other in ["\"b\"", "W/\"a\"", "Wed, 21 Oct 2015 07:28:00 GMT"] {
            assert_eq!(ask(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn ranges_never_panic_and_never_leave_the_content(text in "\\PC{0,40}", size: u64) {
            if let Ok(Some(range)) = resolve(&text, size) {
                prop_assert!(range.start < range.end && range.end <= size);
            }
        }

        #[test]
        fn any_two_numbers_resolve_within_the_content(first: u64, last: u64, size: u64) {
            for text in [format!("bytes={first}-{last}"), format!("bytes=-{last}")] {
                if let Ok(Some(range)) = resolve(&text, size) {
                    prop_assert!(range.start < range.end && range.end <= size);
                    prop_assert!(content_range(&range, size).to_str().is_ok());
                }
            }
        }
    }
}

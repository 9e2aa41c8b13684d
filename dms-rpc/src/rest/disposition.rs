//! `Content-Disposition` with a file name (RFC 6266, RFC 8187).

use axum::http::HeaderValue;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest name, in characters; file systems take 255 bytes.
const NAME_CHARS_MAX: usize = 100;

/// What may stand unescaped in an `ext-value` (RFC 8187, section 3.2.1).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'+')
    .remove(b'-')
    .remove(b'.')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'|')
    .remove(b'~');

/// Tells browsers to save the content under a name made from the document's title.
pub(super) fn attachment(title: &str) -> HeaderValue {
    let name = file_name(title);
    let plain: String = name.chars().map(|c| if plain_char(c) { c } else { '_' }).collect();
    let value = if plain == name {
        format!("attachment; filename=\"{plain}\"")
    } else {
        let extended = utf8_percent_encode(&name, ESCAPED);
        format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{extended}")
    };
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("attachment"))
}

/// A name that no file system takes for anything but a name.
fn file_name(title: &str) -> String {
    let safe = |c: char| !c.is_control() && !r#"/\:*?"<>|"#.contains(c) && !overrides_direction(c);
    let name: String =
        title.chars().take(NAME_CHARS_MAX).map(|c| if safe(c) { c } else { '_' }).collect();
    let name = name.trim_matches([' ', '.']);
    if name.is_empty() { "document".into() } else { name.into() }
}

/// Characters that make `exe.fdp` read as `pdf.exe` (Unicode bidirectional algorithm).
fn overrides_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// What every client reads alike in a quoted string; a percent sign is decoded by some.
fn plain_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || " !#$&'()+,-.;=@[]^_`{}~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text(title: &str) -> String {
        attachment(title).to_str().unwrap().to_owned()
    }

    #[test]
    fn plain_titles_are_quoted() {
        assert_eq!(text("Lease 2026.pdf"), r#"attachment; filename="Lease 2026.pdf""#);
    }

    #[test]
    fn other_titles_are_given_both_ways() {
        assert_eq!(
            text("Mietvertrag für Köln"),
            "attachment; filename=\"Mietvertrag f_r K_ln\"; \
             filename*=UTF-8''Mietvertrag%20f%C3%BCr%20K%C3%B6ln"
        );
        assert_eq!(text("50%"), "attachment; filename=\"50_\"; filename*=UTF-8''50%25");
    }

    #[test]
    fn titles_cannot_leave_the_folder_or_the_header() {
        assert_eq!(text("../../etc/passwd"), r#"attachment; filename="_.._etc_passwd""#);
        assert_eq!(text("a\"; filename=\"b"), r#"attachment; filename="a_; filename=_b""#);
        assert_eq!(text("a\r\nX-Evil: 1"), r#"attachment; filename="a__X-Evil_ 1""#);
        assert_eq!(text("..."), r#"attachment; filename="document""#);
        assert_eq!(text("fdp.\u{202e}exe"), r#"attachment; filename="fdp._exe""#);
    }

    proptest! {
        #[test]
        fn any_title_gives_a_valid_header(title in "(?s).{0,600}") {
            let value = text(&title);
            prop_assert!(value.starts_with("attachment; filename=\""));
            prop_assert_eq!(value.matches('"').count(), 2);
            prop_assert!(value.bytes().all(|c| (0x20..0x7f).contains(&c)));
            prop_assert!(value.len() < 2_000);
        }
    }
}

//! What is accepted from outside: lengths, characters, formats.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use email_address::{EmailAddress, Options};

use crate::model::search::{AggregationQuery, SearchQuery};
use crate::{Error, FieldError, Result};

/// Longest title, in characters.
pub const TITLE_CHARS_MAX: usize = 500;
/// Longest creator, in characters.
pub const CREATED_BY_CHARS_MAX: usize = 320;
/// Longest media type, in characters.
pub const CONTENT_TYPE_CHARS_MAX: usize = 127;
/// Longest address of a signer, in characters.
pub const SIGNER_EMAIL_CHARS_MAX: usize = 320;
/// Longest name of a signer, in characters.
pub const SIGNER_NAME_CHARS_MAX: usize = 200;
/// Media type of content that doesn't name one.
pub const CONTENT_TYPE_DEFAULT: &str = "text/plain";
/// Most items on a page.
pub const PAGE_SIZE_MAX: u32 = 100;

/// Outcome of checking one field.
pub type Checked<T> = Result<T, FieldError>;

/// Collects refusals, so that a caller learns of all of them at once.
#[derive(Debug, Default)]
pub struct Refusals(Vec<FieldError>);

impl Refusals {
    /// Keeps the refusal, or gives the value.
    pub fn take<T>(&mut self, checked: Checked<T>) -> Option<T> {
        checked.map_err(|refusal| self.0.push(refusal)).ok()
    }

    /// # Errors
    /// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) if anything was refused.
    pub fn finish(self) -> Result<()> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::invalid_fields(self.0)) }
    }
}

/// Text without white space at its ends, of 1 to `chars_max` characters, none a control character.
pub fn text(field: &str, value: &str, chars_max: usize) -> Checked<String> {
    let value = value.trim();
    // No string has more characters than bytes, so the count is seldom needed.
    if value.is_empty() || value.len() > chars_max && value.chars().count() > chars_max {
        return Err(FieldError::new(field, format!("must have 1 to {chars_max} characters")));
    }
    if value.chars().any(char::is_control) {
        return Err(FieldError::new(field, "must not hold control characters"));
    }
    Ok(value.to_owned())
}

/// The title of a document.
pub fn title(value: &str) -> Checked<String> {
    text("title", value, TITLE_CHARS_MAX)
}

/// The creator of a document.
pub fn created_by(value: &str) -> Checked<String> {
    text("created_by", value, CREATED_BY_CHARS_MAX)
}

/// A media type such as `text/html; charset=utf-8` (RFC 9110, section 8.3.1).
pub fn content_type(value: &str) -> Checked<String> {
    let value = text("content_type", value, CONTENT_TYPE_CHARS_MAX)?;
    match mediatype::MediaType::parse(&value) {
        Ok(_) if value.is_ascii() => Ok(value),
        _ => Err(FieldError::new("content_type", "must be a media type such as text/plain")),
    }
}

/// The address of a signer.
pub fn signer_email(value: &str) -> Checked<String> {
    let value = text("signer_email", value, SIGNER_EMAIL_CHARS_MAX)?;
    let options = Options::default().without_display_text().without_domain_literal();
    match EmailAddress::parse_with_options(&value, options) {
        Ok(_) => Ok(value),
        Err(_) => {
            Err(FieldError::new("signer_email", "must be an address such as ann@example.org"))
        }
    }
}

/// The name of a signer.
pub fn signer_name(value: &str) -> Checked<String> {
    text("signer_name", value, SIGNER_NAME_CHARS_MAX)
}

/// Base64 as clients really send it: padding or none, stray bits after the last byte tolerated.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// Decodes base64 (RFC 4648, section 4).
pub fn base64(field: &str, value: &str) -> Checked<Vec<u8>> {
    LENIENT
        .decode(value.trim())
        .map_err(|e| FieldError::new(field, format!("must be base64 (RFC 4648): {e}")))
}

/// The image of a signature: base64, with or without a `data:…;base64,` prefix (RFC 2397).
pub fn signature_data(value: &str) -> Checked<Vec<u8>> {
    let value = value.trim();
    let data = match value.get(..5) {
        Some(scheme) if scheme.eq_ignore_ascii_case("data:") => {
            let (head, data) = value.split_once(',').ok_or_else(|| {
                FieldError::new("signature_data", "must have a comma after the data: prefix")
            })?;
            if !head.to_ascii_lowercase().ends_with(";base64") {
                return Err(FieldError::new("signature_data", "a data: URL must be base64"));
            }
            data
        }
        _ => value,
    };
    let bytes = base64("signature_data", data)?;
    if bytes.is_empty() {
        return Err(FieldError::new("signature_data", "must not be empty"));
    }
    Ok(bytes)
}

/// Bounds of a search.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), naming each value out of bounds.
pub fn search(query: &SearchQuery) -> Result<()> {
    let mut refusals = Refusals::default();
    refusals.take(search_text(query.text.as_deref()));
    if query.size > SearchQuery::SIZE_MAX {
        refusals.take(Err::<(), _>(FieldError::new("size", "must be 0 to 100")));
    }
    if query.from.saturating_add(query.size) > SearchQuery::WINDOW_MAX {
        refusals.take(Err::<(), _>(FieldError::new("from", "from + size must be at most 10000")));
    }
    refusals.finish()
}

/// Bounds of an aggregation.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid), naming each value out of bounds.
pub fn aggregation(query: &AggregationQuery) -> Result<()> {
    let mut refusals = Refusals::default();
    refusals.take(search_text(query.text.as_deref()));
    refusals.take(page_size("size", query.size));
    refusals.finish()
}

/// A page of 1–100 items.
pub fn page_size(field: &str, size: u32) -> Checked<u32> {
    if (1..=PAGE_SIZE_MAX).contains(&size) {
        Ok(size)
    } else {
        Err(FieldError::new(field, "must be 1 to 100"))
    }
}

fn search_text(text: Option<&str>) -> Checked<()> {
    match text {
        Some(text) if text.chars().count() > SearchQuery::TEXT_CHARS_MAX => {
            Err(FieldError::new("q", "must have at most 1000 characters"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_trimmed_and_counted_in_characters() {
        assert_eq!(text("t", "  é ", 1), Ok("é".into()));
        assert!(text("t", "éé", 1).is_err());
        assert!(text("t", " \t\n ", 5).is_err());
    }

    #[test]
    fn control_characters_are_refused() {
        for hostile in ["a\0b", "a\nb", "a\u{7f}b", "a\u{85}b"] {
            assert!(title(hostile).is_err(), "{hostile:?}");
        }
    }

    #[test]
    fn media_types_with_parameters_are_accepted() {
        assert!(content_type("text/html; charset=utf-8").is_ok());
        for bad in ["text", "text/", "/plain", "te xt/plain", "a/b\r\nx: y"] {
            assert!(content_type(bad).is_err(), "{bad:?}");
        }
        assert!(content_type(&format!("text/{}", "a".repeat(123))).is_err());
    }

    #[test]
    fn addresses_need_a_local_part_and_a_domain() {
        assert!(signer_email("client@company.com").is_ok());
        for bad in ["", "client", "@company.com", "client@", "a b@c.de", "Ann <a@b.de>"] {
            assert!(signer_email(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn stray_bits_and_missing_padding_are_tolerated() {
        assert!(signature_data("base64encodedimage==").is_ok());
        assert_eq!(signature_data("aGk"), Ok(b"hi".to_vec()));
        assert_eq!(signature_data("data:image/png;base64,aGk="), Ok(b"hi".to_vec()));
        for bad in ["", "data:,", "data:image/png,aGk=", "a", "a*b=", "data:image/png;base64,"] {
            assert!(signature_data(bad).is_err(), "{bad:?}");
        }
    }
}

//! Path and query parameters, and the key that makes repeating a request safe.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use dms_core::model::search::SearchFilter;
use dms_core::validate::{self, Checked, Refusals};
use dms_core::{DocumentStatus, Error, FieldError, Result};
use serde::de::DeserializeOwned;

use super::problem::Problem;

/// Extracts the path's only parameter; what can't be read as `T` is refused (422).
#[derive(Debug, Clone, Copy)]
pub struct PathParam<T>(pub T);

impl<S, T> FromRequestParts<S> for PathParam<T>
where
    S: Send + Sync,
    T: FromStr<Err = Error>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|e| Error::invalid("path", "must be percent-encoded UTF-8").with_source(e))?;
        Ok(Self(text.parse()?))
    }
}

/// Extracts the query; a parameter that's there twice is refused (422), unknown ones are skipped.
///
/// The fields of `T` are texts: only [`Refusals`] can name all that are out of bounds.
#[derive(Debug, Clone, Copy)]
pub struct QueryParams<T>(pub T);

impl<S, T> FromRequestParts<S> for QueryParams<T>
where
    S: Send + Sync,
    T: DeserializeOwned,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        let Query(query) = Query::<T>::try_from_uri(&parts.uri)
            .map_err(|e| Error::invalid("query", "a parameter is there twice").with_source(e))?;
        Ok(Self(query))
    }
}

/// Extracts the `Idempotency-Key`, if there is one.
#[derive(Debug, Clone)]
pub struct IdempotencyKeyHeader(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for IdempotencyKeyHeader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        const NAME: &str = "Idempotency-Key";
        let refuse = |message| Problem::from(Error::invalid(NAME, message));
        let mut lines = parts.headers.get_all(NAME).iter();
        let Some(line) = lines.next() else { return Ok(Self(None)) };
        if lines.next().is_some() {
            return Err(refuse("must be there once"));
        }
        let key = line.to_str().map_err(|_| refuse("must be 1 to 255 visible ASCII characters"))?;
        Ok(Self(Some(key.to_owned())))
    }
}

/// A number, or `default` if the parameter isn't there.
pub(super) fn number(field: &str, value: Option<&str>, default: u32) -> Checked<u32> {
    let Some(value) = value else { return Ok(default) };
    let digits = !value.is_empty() && value.bytes().all(|c| c.is_ascii_digit());
    match value.parse() {
        Ok(number) if digits => Ok(number),
        _ => Err(FieldError::new(field, "must be a whole number")),
    }
}

/// A status, if the parameter is there.
pub(super) fn status(value: Option<&str>) -> Checked<Option<DocumentStatus>> {
    let Some(value) = value else { return Ok(None) };
    let refuse = || FieldError::new("status", "must be one of created, viewed, signed");
    value.parse().map(Some).map_err(|_| refuse())
}

/// The conditions that searches and aggregations share.
pub(super) fn filter(
    refusals: &mut Refusals,
    status_is: Option<&str>,
    created_by: Option<&str>,
    content_type: Option<&str>,
) -> SearchFilter {
    SearchFilter {
        status: refusals.take(status(status_is)).flatten(),
        created_by: refusals.take(created_by.map(validate::created_by).transpose()).flatten(),
        content_type: refusals.take(content_type.map(validate::content_type).transpose()).flatten(),
    }
}

/// What somebody typed; nothing but white space is nothing.
pub(super) fn search_text(value: Option<String>) -> Option<String> {
    value.filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_digits() {
        assert_eq!(number("n", None, 20), Ok(20));
        assert_eq!(number("n", Some("007"), 20), Ok(7));
        for bad in ["", "-1", "+1", " 1", "1.5", "99999999999", "x"] {
            assert!(number("n", Some(bad), 20).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn white_space_is_no_search_text() {
        assert_eq!(search_text(Some(" \t".into())), None);
        assert_eq!(search_text(Some(" a ".into())).as_deref(), Some(" a "));
    }
}

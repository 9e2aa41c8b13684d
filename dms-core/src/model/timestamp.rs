//! Timestamps as they are on the wire: RFC 3339, UTC, microseconds, `Z`.

use serde::{Deserialize, Deserializer, Serializer};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

use crate::{Error, Result};

/// Writes `at` with exactly six decimals.
pub fn format(at: OffsetDateTime) -> String {
    let shape = format_description!(
        version = 2,
        "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
    );
    // Formatting into a string with a fixed, complete description can't fail for a date-time.
    at.to_offset(UtcOffset::UTC).format(&shape).unwrap_or_default()
}

/// Reads any RFC 3339 date-time, keeping microseconds.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::ErrorKind::Invalid) for anything else.
pub fn parse(text: &str) -> Result<OffsetDateTime> {
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|e| Error::invalid("timestamp", "must be an RFC 3339 date-time").with_source(e))?;
    Ok(truncate(at.to_offset(UtcOffset::UTC)))
}

/// `at` without what is finer than a microsecond, which no store keeps.
pub fn truncate(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_microsecond(at.microsecond()).unwrap_or(at)
}

/// Microseconds since 1970-01-01T00:00:00Z.
pub fn to_unix_micros(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX)
}

/// The inverse of [`to_unix_micros`].
///
/// # Errors
/// [`ErrorKind::Internal`](crate::ErrorKind::Internal) outside the years that are representable.
pub fn from_unix_micros(micros: i64) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1_000)
        .map_err(|e| Error::internal("stored timestamp out of range").with_source(e))
}

/// For `#[serde(with = "…")]`.
///
/// # Errors
/// As the serializer says.
pub fn serialize<S: Serializer>(at: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format(*at))
}

/// For `#[serde(with = "…")]`.
///
/// # Errors
/// As the deserializer says, or if the text is no RFC 3339 date-time.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<OffsetDateTime, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    parse(&text).map_err(serde::de::Error::custom)
}

//! The value of one column, whatever JSON it is.

use std::borrow::Cow;
use std::fmt;

use dms_core::model::timestamp;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use time::OffsetDateTime;

use super::UNAVAILABLE;

// Numbers below are milliseconds until the year 5138, which as microseconds is 1973; and so on.
const MILLIS_BELOW: i64 = 100_000_000_000_000;
const MICROS_BELOW: i64 = 100_000_000_000_000_000;

/// A column's value. Reading it fails only where the JSON itself is broken, so that a value of the
/// wrong type is told with the column's name.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Field<'a> {
    /// The row doesn't have the column.
    #[default]
    Missing,
    Null,
    Text(Cow<'a, str>),
    Integer(i64),
    /// Something that no column of ours holds.
    Other(&'static str),
}

impl Field<'_> {
    /// Whether the value wasn't sent because it didn't change.
    pub(super) fn is_unavailable(&self) -> bool {
        matches!(self, Self::Text(text) if text == UNAVAILABLE)
    }

    fn describe(&self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Null => "null",
            Self::Text(_) => "a text",
            Self::Integer(_) => "a number",
            Self::Other(what) => what,
        }
    }

    fn refuse(&self, column: &str, wanted: &str) -> String {
        format!("column {column} is {} instead of {wanted}", self.describe())
    }

    /// A text that is always there.
    pub(super) fn text(&self, column: &str) -> Result<String, String> {
        self.optional_text(column)?.ok_or_else(|| self.refuse(column, "a text"))
    }

    /// A text, unless it is null or the table doesn't have it.
    pub(super) fn optional_text(&self, column: &str) -> Result<Option<String>, String> {
        match self {
            Self::Missing | Self::Null => Ok(None),
            Self::Text(text) if !self.is_unavailable() => Ok(Some(text.clone().into_owned())),
            Self::Text(_) => {
                Err(format!("column {column} was not sent and the row before lacks it"))
            }
            _ => Err(self.refuse(column, "a text")),
        }
    }

    /// A text that is read as something else.
    pub(super) fn parsed<T: std::str::FromStr>(&self, column: &str) -> Result<T, String> {
        let Self::Text(text) = self else { return Err(self.refuse(column, "a text")) };
        text.parse().map_err(|_| unreadable(column, text))
    }

    /// A whole number, as a number or as its digits.
    pub(super) fn integer<T: TryFrom<i64>>(&self, column: &str) -> Result<T, String> {
        let number = match self {
            Self::Integer(number) => *number,
            Self::Text(text) => text.parse().map_err(|_| unreadable(column, text))?,
            _ => return Err(self.refuse(column, "a number")),
        };
        T::try_from(number).map_err(|_| format!("column {column} is out of range: {number}"))
    }

    /// A moment, to the microsecond.
    pub(super) fn moment(&self, column: &str) -> Result<OffsetDateTime, String> {
        match self {
            Self::Text(text) => timestamp::parse(text).map_err(|_| unreadable(column, text)),
            Self::Integer(number) => moment_of(*number)
                .ok_or_else(|| format!("column {column} is out of range: {number}")),
            _ => Err(self.refuse(column, "a timestamp")),
        }
    }

    /// Whether there is a moment.
    pub(super) fn is_set(&self, column: &str) -> Result<bool, String> {
        match self {
            Self::Missing | Self::Null => Ok(false),
            _ => self.moment(column).map(|_| true),
        }
    }
}

/// The moment that is a number of milliseconds, microseconds or nanoseconds since 1970; none before
/// the year 0, which RFC 3339 can't write.
pub(super) fn moment_of(number: i64) -> Option<OffsetDateTime> {
    let nanos = match number.unsigned_abs() {
        size if size < MILLIS_BELOW.unsigned_abs() => i128::from(number) * 1_000_000,
        size if size < MICROS_BELOW.unsigned_abs() => i128::from(number) * 1_000,
        _ => i128::from(number),
    };
    let moment = OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?;
    (moment.year() >= 0).then(|| timestamp::truncate(moment))
}

fn unreadable(column: &str, text: &str) -> String {
    let shown: String = text.chars().take(64).collect();
    format!("column {column} is unreadable: {shown:?}")
}

impl<'de: 'a, 'a> Deserialize<'de> for Field<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Field<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Field::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Field::Integer(number))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(Field::Other("too large a number"), Field::Integer))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Field::Other("a fraction"))
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Field::Other("a truth value"))
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Field::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        while array.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an array"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut object: A) -> Result<Self::Value, A::Error> {
        while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other("an object"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_told_apart_by_their_size() {
        let expected = OffsetDateTime::from_unix_timestamp(1_795_358_906).expect("in range");
        assert_eq!(moment_of(1_795_358_906_000), Some(expected));
        assert_eq!(moment_of(1_795_358_906_000_000), Some(expected));
        assert_eq!(moment_of(1_795_358_906_000_000_999), Some(expected));
        assert_eq!(moment_of(0), Some(OffsetDateTime::UNIX_EPOCH));
        for number in [i64::MIN, i64::MAX, MILLIS_BELOW, MICROS_BELOW, -1] {
            moment_of(number);
        }
    }

    #[test]
    fn a_moment_that_cannot_be_written_is_out_of_range() {
        assert!(moment_of(-62_167_219_200_000).is_some());
        for before_year_0 in [-62_167_219_200_001, -99_999_999_999_999] {
            assert_eq!(moment_of(before_year_0), None);
        }
    }
}

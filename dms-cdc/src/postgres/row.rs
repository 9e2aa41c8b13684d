//! Rows from the text of their columns.

use dms_core::Sha256;
use dms_core::model::change::{DocumentRow, SignatureRow};
use time::{Date, Month, OffsetDateTime, Time, UtcOffset};

use super::tuple::Tuple;

/// A row of the documents table, or why it is none. Indices are those of `DOCUMENT_COLUMNS`.
pub(super) fn document(row: &Tuple<'_>) -> Result<DocumentRow, String> {
    let sha256 = match row.optional_text(4)? {
        Some(text) => Some(text.parse::<Sha256>().map_err(|_| row.unreadable(4, text.as_bytes()))?),
        None => None,
    };
    Ok(DocumentRow {
        id: row.parsed(0, |text| text.parse().ok())?,
        title: row.text(1)?.into(),
        content_type: row.text(2)?.into(),
        content_size: row.parsed(3, |text| text.parse().ok())?,
        content_sha256: sha256,
        s3_key: row.optional_text(5)?.map(Into::into),
        status: row.parsed(6, |text| text.parse().ok())?,
        created_by: row.text(7)?.into(),
        created_at: row.parsed(8, timestamp)?,
        updated_at: row.parsed(9, timestamp)?,
        version: row.parsed(10, |text| text.parse().ok())?,
        deleted: row.optional_text(11)?.is_some(),
    })
}

/// A row of the signatures table, or why it is none. Indices are those of `SIGNATURE_COLUMNS`.
pub(super) fn signature(row: &Tuple<'_>) -> Result<SignatureRow, String> {
    Ok(SignatureRow {
        id: row.parsed(0, |text| text.parse().ok())?,
        document_id: row.parsed(1, |text| text.parse().ok())?,
        signer_email: row.text(2)?.into(),
        signer_name: row.text(3)?.into(),
        created_at: row.parsed(4, timestamp)?,
    })
}

/// Reads a `timestamptz` as `DateStyle` ISO writes it, such as `2026-01-31 12:00:00.25+05:30`.
/// Infinities and years beyond 9999 are none.
pub(super) fn timestamp(text: &str) -> Option<OffsetDateTime> {
    let (date, rest) = text.split_once(' ')?;
    let zone_at = rest.find(['+', '-'])?;
    let (time, zone) = rest.split_at(zone_at);

    let mut parts = date.split('-');
    let (year, month, day) = (parts.next()?, parts.next()?, parts.next()?);
    let month = Month::try_from(number::<u8>(month, 2)?).ok()?;
    let year = number::<u16>(year, 4)?;
    let date = Date::from_calendar_date(i32::from(year), month, number(day, 2)?).ok()?;

    let (clock, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut clock_parts = clock.split(':');
    let (hour, minute, second) = (clock_parts.next()?, clock_parts.next()?, clock_parts.next()?);
    if fraction.len() > 6 || parts.next().is_some() || clock_parts.next().is_some() {
        return None;
    }
    let digits = u32::try_from(fraction.len()).ok()?;
    let micros = number::<u32>(fraction, fraction.len())? * 10_u32.pow(6 - digits);
    let time =
        Time::from_hms_micro(number(hour, 2)?, number(minute, 2)?, number(second, 2)?, micros)
            .ok()?;

    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let mut zone = zone[1..].split(':').map(|part| number::<i8>(part, 2));
    let (hours, minutes, seconds) =
        (zone.next()??, zone.next().unwrap_or(Some(0))?, zone.next().unwrap_or(Some(0))?);
    if zone.next().is_some() {
        return None;
    }
    let offset = UtcOffset::from_hms(sign * hours, sign * minutes, sign * seconds).ok()?;
    date.with_time(time).assume_offset(offset).checked_to_offset(UtcOffset::UTC)
}

/// A number of exactly `digits` decimal digits.
fn number<T: std::str::FromStr>(text: &str, digits: usize) -> Option<T> {
    let is_number = text.len() == digits && text.bytes().all(|digit| digit.is_ascii_digit());
    if is_number { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use dms_core::model::timestamp as rfc3339;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn timestamps_are_read_as_the_server_writes_them() {
        let cases = [
            ("1970-01-01 00:00:00+00", "1970-01-01T00:00:00.000000Z"),
            ("2026-11-26 07:41:45.123456+00", "2026-11-26T07:41:45.123456Z"),
            ("2026-11-26 07:41:45.5-03:30", "2026-11-26T11:11:45.500000Z"),
            ("1890-01-01 00:53:28+00:53:28", "1890-01-01T00:00:00.000000Z"),
        ];
        for (text, expected) in cases {
            assert_eq!(timestamp(text).map(rfc3339::format).as_deref(), Some(expected), "{text}");
        }
        let strange = [
            "infinity",
            "",
            " ",
            "2026-11-26",
            "2026-11-26 07:41+00",
            "20260-01-01 00:00:00+00",
            "0044-03-15 00:00:00+00 BC",
            "26.11.2026 07:41:45 UTC",
            "2026-02-30 00:00:00+00",
            "9999-12-31 23:59:59-23",
            "2026-11-26 07:41:45.1234567+00",
        ];
        for text in strange {
            assert_eq!(timestamp(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "[0-9 :.+-]{0,34}|.{0,40}") {
            let _ = timestamp(&text);
        }
    }
}

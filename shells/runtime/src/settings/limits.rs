//! Bounds that an operator may want to move.

use std::time::Duration;

use super::reader::Reader;
use super::setting::Setting;
use crate::StartupError;

const HEADING: &str = "Bounds";

/// Largest value of [`MAX_CONTENT_BYTES`]: 1 TiB.
const CONTENT_BYTES_MAX: u64 = 1 << 40;

/// Largest value of [`SHUTDOWN_GRACE_S`]: an hour.
const GRACE_S_MAX: u64 = 3600;

/// `DMS_MAX_CONTENT_BYTES`: the largest document.
pub const MAX_CONTENT_BYTES: Setting = Setting {
    name: "DMS_MAX_CONTENT_BYTES",
    heading: HEADING,
    value_name: "BYTES",
    default: "26214400 (25 MiB)",
    help: "Size of the largest document",
    from_file: false,
};

/// `DMS_SHUTDOWN_GRACE_S`: how long draining may take.
pub const SHUTDOWN_GRACE_S: Setting = Setting {
    name: "DMS_SHUTDOWN_GRACE_S",
    heading: HEADING,
    value_name: "SECONDS",
    default: "20",
    help: "How long requests may take to finish after a stop signal\n\n\
        0 cuts them off at once. A second signal ends the program immediately.",
    from_file: false,
};

/// The settings of this file, in the order of `--help`.
pub(super) const ALL: &[Setting] = &[MAX_CONTENT_BYTES, SHUTDOWN_GRACE_S];

/// Bounds that an operator may want to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitSettings {
    /// Size of the largest document in bytes, 1 to 2⁴⁰; see [`MAX_CONTENT_BYTES`].
    pub content_bytes_max: u64,
    /// How long draining may take, at most an hour; see [`SHUTDOWN_GRACE_S`].
    pub shutdown_grace: Duration,
}

impl LimitSettings {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Self, StartupError> {
        let content = number(reader, &MAX_CONTENT_BYTES, 26_214_400, 1, CONTENT_BYTES_MAX)?;
        let grace_s = number(reader, &SHUTDOWN_GRACE_S, 20, 0, GRACE_S_MAX)?;
        Ok(Self { content_bytes_max: content, shutdown_grace: Duration::from_secs(grace_s) })
    }
}

fn number(
    reader: &Reader<'_>,
    setting: &Setting,
    default: u64,
    min: u64,
    max: u64,
) -> Result<u64, StartupError> {
    let Some(given) = reader.text(setting)? else { return Ok(default) };
    let digits = given.value.bytes().all(|byte| byte.is_ascii_digit());
    match given.value.parse() {
        Ok(value) if digits && (min..=max).contains(&value) => Ok(value),
        _ => Err(given.refuse_value(&format!("a whole number from {min} to {max}"))),
    }
}

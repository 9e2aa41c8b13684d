//! The settings of S3, as every client of it reads them.

use super::{S3Location, STORAGE_URL};
use crate::StartupError;
use crate::settings::location;
use crate::settings::reader::{Given, Reader, shown};
use crate::settings::setting::Setting;

const HEADING: &str = "S3";

/// `AWS_ENDPOINT_URL`: where the service is, if it isn't Amazon's.
pub const AWS_ENDPOINT_URL: Setting = Setting {
    name: "AWS_ENDPOINT_URL",
    heading: HEADING,
    value_name: "URL",
    default: "that of Amazon for the region",
    help: "Where S3 is\n\nhttp:// sends content unencrypted; it is taken when written out.",
    from_file: false,
};

/// `AWS_REGION`: the region.
pub const AWS_REGION: Setting = Setting {
    name: "AWS_REGION",
    heading: HEADING,
    value_name: "REGION",
    default: "us-east-1",
    help: "Region of the bucket",
    from_file: false,
};

/// `AWS_ACCESS_KEY_ID`: the public part of the credentials.
pub const AWS_ACCESS_KEY_ID: Setting = Setting {
    name: "AWS_ACCESS_KEY_ID",
    heading: HEADING,
    value_name: "ID",
    default: "none",
    help: "Access key of S3",
    from_file: true,
};

/// `AWS_SECRET_ACCESS_KEY`: the secret part of the credentials.
pub const AWS_SECRET_ACCESS_KEY: Setting = Setting {
    name: "AWS_SECRET_ACCESS_KEY",
    heading: HEADING,
    value_name: "SECRET",
    default: "none",
    help: "Secret of the access key of S3",
    from_file: true,
};

/// The settings of this file, in the order of `--help`.
pub(in crate::settings) const ALL: &[Setting] =
    &[AWS_ENDPOINT_URL, AWS_REGION, AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY];

const EXPECTED: &str = "s3://BUCKET or s3://BUCKET/PREFIX";

/// The bucket that a URL names; `rest` is what follows its scheme.
pub(super) fn location(
    reader: &Reader<'_>,
    given: &Given,
    rest: &str,
) -> Result<S3Location, StartupError> {
    let named = rest.strip_prefix("//").unwrap_or_default();
    let (bucket, prefix) = named.split_once('/').unwrap_or((named, ""));
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-.".contains(&c);
    if !(3..=63).contains(&bucket.len()) || !bucket.bytes().all(plain) {
        let url = location::redacted(&given.value);
        return Err(given.refuse(format!("`{url}` names no bucket, expected {EXPECTED}")));
    }
    let prefix = prefix.trim_matches('/');
    let word = |c: u8| c.is_ascii_alphanumeric() || b"-_./".contains(&c);
    if prefix.len() > 200 || !prefix.bytes().all(word) {
        return Err(
            given.refuse(format!("the prefix isn't made of plain words, expected {EXPECTED}"))
        );
    }
    let missing = |setting: &Setting| {
        StartupError::usage(format!(
            "{}: is not given, but {} is s3://; give it, or the path of a file that holds it as {}_FILE",
            setting.name, STORAGE_URL.name, setting.name
        ))
    };
    let secret = |setting: &Setting| -> Result<_, StartupError> {
        reader.secret(setting)?.map(|given| given.value).ok_or_else(|| missing(setting))
    };
    Ok(S3Location {
        bucket: bucket.to_owned(),
        prefix: (!prefix.is_empty()).then(|| prefix.to_owned()),
        endpoint: endpoint(reader)?,
        region: region(reader)?,
        access_key_id: secret(&AWS_ACCESS_KEY_ID)?,
        secret_access_key: secret(&AWS_SECRET_ACCESS_KEY)?,
    })
}

fn endpoint(reader: &Reader<'_>) -> Result<Option<String>, StartupError> {
    let Some(given) = reader.text(&AWS_ENDPOINT_URL)? else { return Ok(None) };
    let uri: Option<axum::http::Uri> = given.value.parse().ok();
    let sound = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.host().is_some_and(|host| !host.is_empty())
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    });
    if !sound {
        let url = location::redacted(&given.value);
        return Err(
            given.refuse(format!("`{url}` is not acceptable, expected http(s)://HOST:PORT"))
        );
    }
    Ok(Some(given.value))
}

fn region(reader: &Reader<'_>) -> Result<String, StartupError> {
    let Some(given) = reader.text(&AWS_REGION)? else { return Ok("us-east-1".to_owned()) };
    let plain = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    if given.value.len() > 64 || !given.value.bytes().all(plain) {
        let value = shown(&given.value);
        return Err(given.refuse(format!("`{value}` is no region, expected one like eu-central-1")));
    }
    Ok(given.value)
}

//! Other services that a program calls.

use axum::http::uri::PathAndQuery;

use super::reader::Reader;
use super::setting::Setting;
use crate::StartupError;
use crate::settings::location;

/// `DMS_DOCUMENT_GRPC_URL`: where the document service is.
pub const DOCUMENT_GRPC_URL: Setting = Setting {
    name: "DMS_DOCUMENT_GRPC_URL",
    heading: "Other services",
    value_name: "URL",
    default: "http://127.0.0.1:50051",
    help: "Where the document service serves gRPC",
    from_file: false,
};

/// The settings of this file, in the order of `--help`.
pub(super) const ALL: &[Setting] = &[DOCUMENT_GRPC_URL];

/// The address of the document service, checked as far as it can be without calling it.
pub(super) fn document_grpc_url(reader: &Reader<'_>) -> Result<String, StartupError> {
    let Some(given) = reader.text(&DOCUMENT_GRPC_URL)? else {
        return Ok(DOCUMENT_GRPC_URL.default.to_owned());
    };
    let uri: Option<axum::http::Uri> = given.value.parse().ok();
    let sound = uri.is_some_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
            && matches!(uri.path_and_query().map(PathAndQuery::as_str), None | Some("" | "/"))
    });
    if !sound {
        let shown = location::redacted(&given.value);
        return Err(
            given.refuse(format!("`{shown}` is not acceptable, expected http(s)://HOST:PORT"))
        );
    }
    Ok(given.value.trim_end_matches('/').to_owned())
}

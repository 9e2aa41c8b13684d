//! Problems (RFC 9457).

use dms_core::{Error, ErrorKind, FieldError};
use serde::{Deserialize, Serialize};

use crate::problem::{http_status, title};

/// Why a request failed, as `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema), schema(as = Problem))]
pub struct ProblemBody {
    /// Always `about:blank`: `code` tells problems apart.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Name of the status.
    #[serde(default)]
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request; says nothing of causes inside.
    #[serde(default)]
    pub detail: String,
    /// Machine-readable, `snake_case`.
    #[serde(default)]
    #[cfg_attr(feature = "server", schema(example = "validation_failed"))]
    pub code: String,
    /// Under which the logs name the request.
    #[serde(default)]
    pub request_id: String,
    /// What was refused, for status 422.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldProblem>,
}

/// A value that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "server", derive(utoipa::ToSchema))]
pub struct FieldProblem {
    /// Where it is.
    pub field: String,
    /// What is accepted.
    pub message: String,
}

impl ProblemBody {
    /// What a client may know of an error: of one that isn't the client's, nothing but its code.
    pub fn new(error: &Error, request_id: &str) -> Self {
        let status = http_status(error.kind(), error.code());
        let detail = match error.kind() {
            ErrorKind::Unavailable => "try again later".into(),
            ErrorKind::StorageFull => "there is no space left".into(),
            ErrorKind::Timeout => "the deadline passed; it may have taken effect".into(),
            _ if status >= 500 => "the request failed for a reason inside".into(),
            _ => error.to_string(),
        };
        let field =
            |e: &FieldError| FieldProblem { field: e.field.clone(), message: e.message.clone() };
        Self {
            kind: "about:blank".into(),
            title: title(status).into(),
            status,
            detail,
            code: error.code().into(),
            request_id: request_id.into(),
            errors: error.fields().iter().map(field).collect(),
        }
    }
}

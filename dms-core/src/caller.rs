//! Who asks, from where, and under which request id.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// What a verified token says (RFC 7519).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// Who the token is for.
    pub sub: String,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// Address of the subject, if the token names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// The caller of a use case.
///
/// Today whoever may call may do everything; rules per document will be decided from this value.
#[derive(Debug, Clone, Default)]
pub struct Caller {
    /// What the caller's token says; none if authentication is off or nothing was shown.
    pub claims: Option<Arc<Claims>>,
    /// Where the request came from.
    pub address: Option<IpAddr>,
    /// Id under which logs and errors name the request.
    pub request_id: RequestId,
}

impl Caller {
    /// A caller inside the system: the reconciler, a sweeper, an embedding program.
    pub fn system(name: &'static str) -> Self {
        Self { claims: None, address: None, request_id: RequestId(Arc::from(name)) }
    }

    /// The token's subject, if there is one.
    pub fn subject(&self) -> Option<&str> {
        self.claims.as_ref().map(|claims| claims.sub.as_str())
    }

    /// What views are counted by: the subject, else the address, else nothing in particular.
    pub fn visitor(&self) -> Visitor {
        match (self.subject(), self.address) {
            (Some(subject), _) => Visitor(Arc::from(format!("sub:{subject}"))),
            (None, Some(address)) => Visitor(Arc::from(format!("ip:{address}"))),
            (None, None) => Visitor(Arc::from("unknown")),
        }
    }
}

/// Who viewed a document, for counting distinct viewers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Visitor(pub Arc<str>);

/// Id of a request: 1 to 128 characters of `A–Z a–z 0–9 - _ . : /`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// A new id.
    pub fn generate() -> Self {
        Self(Arc::from(uuid::Uuid::now_v7().to_string()))
    }

    /// The caller's own id, if it is sane enough to be put into logs and headers.
    pub fn from_caller(text: &str) -> Option<Self> {
        let sane = |c: u8| c.is_ascii_alphanumeric() || b"-_.:/".contains(&c);
        (!text.is_empty() && text.len() <= 128 && text.bytes().all(sane))
            .then(|| Self(Arc::from(text)))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for RequestId {
    fn default() -> Self {
        Self(Arc::from("none"))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

//! Which bucket, and bounds.

use std::fmt;
use std::time::Duration;

/// Where a [`S3BlobStore`](super::S3BlobStore) keeps its content, who it is there, and bounds. All
/// but the bucket and the two keys may be left as they are by default.
#[derive(Clone, PartialEq, Eq)]
pub struct S3Options {
    /// Name of the bucket.
    pub bucket: String,
    /// What keys are put behind, without a slash at its ends; nothing. Words as in keys of blobs.
    pub prefix: Option<String>,
    /// `https://host[:port]` or `http://host[:port]` of what speaks S3; Amazon's of the region.
    pub endpoint: Option<String>,
    /// Region; `us-east-1`.
    pub region: String,
    /// Who asks.
    pub access_key_id: String,
    /// The secret that belongs to it.
    pub secret_access_key: String,
    /// Token of a session, if the keys are those of one.
    pub session_token: Option<String>,
    /// Whether [`prepare`](super::S3BlobStore::prepare) makes the bucket if it isn't there; false.
    /// For development.
    pub create_bucket: bool,
    /// How long the server may take to answer, its turn included; 2 s, and one more for each
    /// mebibyte that is sent.
    pub response_timeout: Duration,
    /// How long making a connection may take, and a pause in an answer that is read ten times that;
    /// 1 s.
    pub connect_timeout: Duration,
    /// Requests that wait for an answer at the same time; 64.
    pub requests_max: usize,
    /// Certificates in PEM that an `https://` server's may descend from, besides those the system
    /// trusts.
    pub root_certificates_pem: Option<Vec<u8>>,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            bucket: String::new(),
            prefix: None,
            endpoint: None,
            region: "us-east-1".to_owned(),
            access_key_id: String::new(),
            secret_access_key: String::new(),
            session_token: None,
            create_bucket: false,
            response_timeout: Duration::from_secs(2),
            connect_timeout: Duration::from_secs(1),
            requests_max: 64,
            root_certificates_pem: None,
        }
    }
}

impl S3Options {
    /// Address of the server.
    pub(super) fn base(&self) -> String {
        match &self.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            None => format!("https://s3.{}.amazonaws.com", self.region),
        }
    }
}

impl fmt::Debug for S3Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Options")
            .field("bucket", &self.bucket)
            .field("prefix", &self.prefix)
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("access_key_id", &self.access_key_id)
            .field("secret_access_key", &"redacted")
            .field("session_token", &self.session_token.as_ref().map(|_| "redacted"))
            .field("create_bucket", &self.create_bucket)
            .field("response_timeout", &self.response_timeout)
            .field("connect_timeout", &self.connect_timeout)
            .field("requests_max", &self.requests_max)
            .finish_non_exhaustive()
    }
}

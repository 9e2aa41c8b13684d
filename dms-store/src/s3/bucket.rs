//! The bucket itself, which `object_store` knows nothing of.

use dms_core::Result;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use reqwest::Method;

use super::error::unavailable;
use super::options::S3Options;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// A bucket, its owner's keys, and a line to it.
#[derive(Debug)]
pub(super) struct Bucket {
    http: HttpClient,
    credential: AwsCredential,
    region: String,
    url: String,
}

impl Bucket {
    pub(super) fn new(options: &S3Options, http: HttpClient) -> Self {
        Self {
            http,
            credential: AwsCredential {
                key_id: options.access_key_id.clone(),
                secret_key: options.secret_access_key.clone(),
                token: options.session_token.clone(),
            },
            region: options.region.clone(),
            url: format!("{}/{}", options.base(), options.bucket),
        }
    }

    /// Makes the bucket. Does nothing if it's there and ours.
    pub(super) async fn create(&self) -> Result<()> {
        let body = match &*self.region {
            "us-east-1" => String::new(),
            region => format!(
                "<CreateBucketConfiguration xmlns=\"{NAMESPACE}\"><LocationConstraint>{region}\
                 </LocationConstraint></CreateBucketConfiguration>"
            ),
        };
        match self.put("", body).await? {
            Answer { status: 200..300, .. } => Ok(()),
            Answer { body, .. } if body.contains("<Code>BucketAlreadyOwnedByYou</Code>") => Ok(()),
            answer => Err(unavailable("bucket can't be made").with_source(answer.says())),
        }
    }

    /// Keeps what is deleted or replaced as an older version; says whether the server agreed.
    pub(super) async fn switch_versioning_on(&self) -> Result<bool> {
        let body = format!(
            "<VersioningConfiguration xmlns=\"{NAMESPACE}\"><Status>Enabled</Status>\
             </VersioningConfiguration>"
        );
        match self.put("?versioning=", body).await? {
            Answer { status: 200..300, .. } => Ok(true),
            answer @ Answer { status: 500 | 502.., .. } | answer @ Answer { status: 404, .. } => {
                Err(unavailable("bucket can't be changed").with_source(answer.says()))
            }
            answer => {
                tracing::warn!(status = answer.status, answer = %answer.body,
                    "versioning can't be switched on");
                Ok(false)
            }
        }
    }

    async fn put(&self, query: &str, body: String) -> Result<Answer> {
        let unusable = |error| unavailable("bucket has no address").with_source(error);
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = Method::PUT;
        // A path that is empty but for the slash is what both sides agree to sign.
        let url = format!("{}{query}", self.url);
        *request.uri_mut() = url.parse().map_err(|error| unusable(Box::new(error)))?;
        AwsAuthorizer::new(&self.credential, "s3", &self.region)
            .try_authorize(&mut request, None)
            .map_err(|error| unavailable("request can't be signed").with_source(error))?;
        let answer = self
            .http
            .execute(request)
            .await
            .map_err(|error| unavailable("storage can't be reached").with_source(error))?;
        let status = answer.status().as_u16();
        let body = answer
            .into_body()
            .bytes()
            .await
            .map_err(|error| unavailable("storage can't be reached").with_source(error))?;
        let body = String::from_utf8_lossy(&body[..body.len().min(2_000)]).into_owned();
        Ok(Answer { status, body })
    }
}

struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn says(&self) -> String {
        format!("status {}: {}", self.status, self.body)
    }
}

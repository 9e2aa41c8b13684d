//! The bucket itself, which `object_store` knows nothing of.

use dms_core::Result;
use object_store::aws::{AwsAuthorizer, AwsCredential};
use object_store::client::{HttpClient, HttpRequest, HttpRequestBody};
use reqwest::Method;

use super::error::unavailable;
use super::options::S3Options;

const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";

/// Status of a server that has no versions.
const NOT_IMPLEMENTED: u16 = 501;

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
        match self.ask(Method::PUT, "", body).await? {
            Answer { status: 200..300, .. } => Ok(()),
            Answer { body, .. } if body.contains("<Code>BucketAlreadyOwnedByYou</Code>") => Ok(()),
            answer => Err(unavailable("bucket can't be made").with_source(answer.says())),
        }
    }

    /// Keeps what is deleted or replaced as an older version. A server that refuses to is warned of.
    pub(super) async fn switch_versioning_on(&self) -> Result<()> {
        // Some servers accept the change of a bucket that isn't there.
        let present = self.ask(Method::GET, "?versioning=", String::new()).await?;
        match present {
            Answer { status: 200..300, body } if body.contains("<Status>Enabled</Status>") => {
                return Ok(());
            }
            Answer { status: 404, .. } => {
                return Err(unavailable("bucket isn't there").with_source(present.says()));
            }
            _ => {}
        }
        let body = format!(
            "<VersioningConfiguration xmlns=\"{NAMESPACE}\"><Status>Enabled</Status>\
             </VersioningConfiguration>"
        );
        let answer = self.ask(Method::PUT, "?versioning=", body).await?;
        let broken = |answer: &Answer| match answer.status {
            // Whoever may only read and write objects is let be; a stranger isn't.
            403 => !answer.body.contains("<Code>AccessDenied</Code>"),
            status => status >= 500 && status != NOT_IMPLEMENTED,
        };
        match answer {
            Answer { status: 200..300, .. } => Ok(()),
            answer if broken(&answer) => {
                Err(unavailable("bucket can't be changed").with_source(answer.says()))
            }
            answer => {
                tracing::warn!(status = answer.status, answer = %answer.body,
                    "versioning can't be switched on");
                Ok(())
            }
        }
    }

    async fn ask(&self, method: Method, query: &str, body: String) -> Result<Answer> {
        let unusable = |error| unavailable("bucket has no address").with_source(error);
        let mut request = HttpRequest::new(HttpRequestBody::from(body));
        *request.method_mut() = method;
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

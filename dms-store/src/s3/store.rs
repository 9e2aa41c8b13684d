//! The store.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::BytesMut;
use dms_core::ports::{BlobContent, BlobInfo, BlobStore, ByteStream, check_blob_key};
use dms_core::{Error, Result};
use futures_util::stream::BoxStream;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::aws::{AmazonS3, AmazonS3Builder, Checksum, S3ConditionalPut};
use object_store::client::HttpConnector as _;
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, GetResult, ObjectMeta, ObjectStore as _,
    ObjectStoreExt as _, PutMultipartOptions, RetryConfig,
};
use time::OffsetDateTime;
use tokio_util::task::TaskTracker;

use super::bucket::Bucket;
use super::error::{from_s3, is_absent, is_bucket_absent};
use super::options::S3Options;
use super::transport::Transport;
use super::upload::{PART_BYTES, Upload};

/// How long and how often a request is tried again that was refused or couldn't be sent.
const RETRY: RetryConfig = RetryConfig {
    backoff: BackoffConfig {
        init_backoff: Duration::from_millis(50),
        max_backoff: Duration::from_millis(400),
        base: 2.0,
    },
    max_retries: 3,
    retry_timeout: Duration::from_secs(1),
};

/// Content in a bucket of S3, or of what speaks its protocol. Cheap to clone. Methods must be called
/// in a Tokio runtime.
///
/// At most 20 MiB and one piece of the stream are in memory for each put. A put is durable when it
/// returns. A store that can't be reached is `Unavailable` after some 1 s, one that doesn't answer
/// after [`S3Options::response_timeout`].
///
/// ```no_run
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> dms_core::Result<()> {
/// use dms_core::ports::BlobStore as _;
/// use dms_core::use_cases::bytes_stream;
/// use dms_store::s3::{S3BlobStore, S3Options};
///
/// let blobs = S3BlobStore::new(S3Options {
///     bucket: "documents".to_owned(),
///     endpoint: Some("http://127.0.0.1:9000".to_owned()),
///     access_key_id: "minioadmin".to_owned(),
///     secret_access_key: "minioadmin".to_owned(),
///     create_bucket: true,
///     ..S3Options::default()
/// })?;
/// blobs.prepare().await?;
/// blobs.put("some-id/content", bytes_stream("hello")).await?;
/// # Ok(()) }
/// ```
#[derive(Clone)]
pub struct S3BlobStore(Arc<Shared>);

pub(super) struct Shared {
    pub(super) s3: S3,
    /// Uploads that go on, and what is withdrawn.
    pub(super) tasks: TaskTracker,
    bucket: Bucket,
    options: S3Options,
}

/// The bucket's objects.
pub(super) struct S3(AmazonS3);

impl std::ops::Deref for S3 {
    type Target = AmazonS3;

    fn deref(&self) -> &AmazonS3 {
        &self.0
    }
}

impl S3 {
    /// What is said of an object, with what was said when it was put.
    pub(super) async fn head_opts(&self, path: &Path) -> object_store::Result<GetResult> {
        self.0.get_opts(path, GetOptions { head: true, ..GetOptions::default() }).await
    }
}

impl S3BlobStore {
    /// A store on this bucket. Connects to nothing yet.
    ///
    /// # Errors
    /// `Invalid`, naming the option that isn't acceptable.
    pub fn new(options: S3Options) -> Result<Self> {
        check(&options)?;
        let transport = Transport::new(&options)?;
        let unusable =
            |error| Error::invalid("storage", "can't be used as configured").with_source(error);
        let http = transport.connect(&ClientOptions::new()).map_err(unusable)?;
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&options.bucket)
            .with_region(&options.region)
            .with_endpoint(options.base())
            .with_allow_http(options.base().starts_with("http://"))
            .with_access_key_id(&options.access_key_id)
            .with_secret_access_key(&options.secret_access_key)
            .with_checksum_algorithm(Checksum::SHA256)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_disable_bulk_delete(true)
            .with_retry(RETRY)
            .with_http_connector(transport);
        if let Some(token) = &options.session_token {
            builder = builder.with_token(token);
        }
        Ok(Self(Arc::new(Shared {
            s3: S3(builder.build().map_err(unusable)?),
            tasks: TaskTracker::new(),
            bucket: Bucket::new(&options, http),
            options,
        })))
    }

    /// Makes the bucket, if the options say so, and switches its versioning on, so that what is
    /// deleted can be had back. A server that refuses the latter is warned of. Doing it again changes
    /// nothing.
    ///
    /// # Errors
    /// `Unavailable`, also if the bucket isn't there and isn't to be made.
    pub async fn prepare(&self) -> Result<()> {
        if self.0.options.create_bucket {
            self.0.bucket.create().await?;
        }
        self.0.bucket.switch_versioning_on().await?;
        Ok(())
    }

    /// Waits until uploads that were given up are withdrawn.
    pub async fn settle(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn path(&self, key: &str) -> Result<Path> {
        check_blob_key(key)?;
        let whole = match &self.0.options.prefix {
            Some(prefix) => format!("{prefix}/{key}"),
            None => key.to_owned(),
        };
        Path::parse(whole)
            .map_err(|error| Error::internal("blob key is no path").with_source(error))
    }

    /// Begins an upload and gives it up: whoever may do that may write, and nothing stays.
    async fn try_to_write(&self) -> object_store::Result<()> {
        let path = match &self.0.options.prefix {
            Some(prefix) => Path::from(format!("{prefix}/.check")),
            None => Path::from(".check"),
        };
        let options = PutMultipartOptions::default();
        self.0.s3.put_multipart_opts(&path, options).await?.abort().await
    }
}

fn check(options: &S3Options) -> Result<()> {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b".-".contains(&c);
    if !(3..=63).contains(&options.bucket.len()) || !options.bucket.bytes().all(plain) {
        return Err(Error::invalid(
            "bucket",
            "must be 3 to 63 lower case letters, digits, dots and hyphens",
        ));
    }
    if options.prefix.as_deref().is_some_and(|prefix| check_blob_key(prefix).is_err()) {
        return Err(Error::invalid(
            "prefix",
            "must be words of letters, digits, -, _ and ., joined by /",
        ));
    }
    let plain = |host: &str| !host.is_empty() && !host.contains(['@', '/', '?', '#', ' ']);
    let accepted = |endpoint: &str| {
        let endpoint = endpoint.trim_end_matches('/');
        let host = endpoint.strip_prefix("https://").or_else(|| endpoint.strip_prefix("http://"));
        host.is_some_and(plain)
    };
    if !options.endpoint.as_deref().is_none_or(accepted) {
        return Err(Error::invalid(
            "endpoint",
            "must be https://host[:port] or http://host[:port]",
        ));
    }
    for (name, value) in [
        ("region", &options.region),
        ("access key id", &options.access_key_id),
        ("secret access key", &options.secret_access_key),
    ] {
        if value.is_empty() || !value.bytes().all(|c| c.is_ascii_graphic()) {
            return Err(Error::invalid(name, "must be given, in visible ASCII characters"));
        }
    }
    Ok(())
}

impl fmt::Debug for S3BlobStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3BlobStore")
            .field("bucket", &self.0.options.bucket)
            .field("prefix", &self.0.options.prefix)
            .field("endpoint", &self.0.options.base())
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl BlobStore for S3BlobStore {
    async fn put(&self, key: &str, mut content: ByteStream) -> Result<u64> {
        let path = self.path(key)?;
        let mut upload = None;
        let mut gathered = BytesMut::new();
        let mut size = 0;
        loop {
            let chunk = match content.try_next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => break,
                Err(error) => {
                    if let Some(upload) = upload {
                        Upload::abandon(upload).await;
                    }
                    return Err(error);
                }
            };
            size += chunk.len() as u64;
            gathered.extend_from_slice(&chunk);
            // What fills a part exactly may be the last, and then needs no upload in parts.
            while gathered.len() > PART_BYTES {
                let part = gathered.split_to(PART_BYTES).freeze();
                let upload = upload.get_or_insert_with(|| Upload::begin(&self.0, path.clone()));
                upload.part(part).await?;
            }
        }
        drop(content);
        let upload = upload.unwrap_or_else(|| Upload::begin(&self.0, path));
        upload.finish(gathered.freeze()).await?.keep();
        Ok(size)
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>) -> Result<BlobContent> {
        let path = self.path(key)?;
        let failed = |error: object_store::Error| {
            if is_absent(&error) {
                Error::not_found("blob", key)
            } else {
                from_s3("content can't be read", error)
            }
        };
        let beyond = |size| range.as_ref().is_some_and(|range| range.end > size);
        let asked = range.clone().map(|range| {
            // Servers count in signed numbers.
            let end = range.end.min(i64::MAX as u64);
            GetRange::Bounded(range.start.min(end.saturating_sub(1))..end)
        });
        let options = GetOptions { range: asked.clone(), ..GetOptions::default() };
        let found = match self.0.s3.get_opts(&path, options).await {
            Ok(found) => found,
            // A range that begins behind the end isn't answered with the size.
            Err(error)
                if asked.is_some() && !matches!(error, object_store::Error::NotFound { .. }) =>
            {
                let size = self.0.s3.head(&path).await.map_err(failed)?.size;
                return Err(if beyond(size) {
                    Error::range_not_satisfiable(size)
                } else {
                    failed(error)
                });
            }
            Err(error) => return Err(failed(error)),
        };
        let size = found.meta.size;
        if beyond(size) {
            return Err(Error::range_not_satisfiable(size));
        }
        let stream = found.into_stream().map_err(io::Error::other).boxed();
        Ok(BlobContent { size, stream })
    }

    async fn delete(&self, key: &str) -> Result<()> {
        let path = self.path(key)?;
        match self.0.s3.delete(&path).await {
            Err(error) if !is_absent(&error) => Err(from_s3("content can't be removed", error)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn list(&self, prefix: &str) -> BoxStream<'static, Result<BlobInfo>> {
        // What no key begins with isn't looked for: servers refuse some of it.
        let mut words: Vec<_> = prefix.split('/').collect();
        let last = words.pop().unwrap_or_default();
        let possible = words.iter().chain((!last.is_empty()).then_some(&last));
        if possible.into_iter().any(|word| check_blob_key(word).is_err()) {
            return stream::empty().boxed();
        }
        let shared = Arc::clone(&self.0);
        let root = shared.options.prefix.as_ref().map_or(String::new(), |root| format!("{root}/"));
        let whole = format!("{root}{prefix}");
        let pages = stream::try_unfold(Some(None), move |page_token: Option<Option<String>>| {
            let (shared, whole) = (Arc::clone(&shared), whole.clone());
            async move {
                let Some(page_token) = page_token else { return Ok::<_, Error>(None) };
                let options =
                    PaginatedListOptions { page_token, ..PaginatedListOptions::default() };
                let prefix = (!whole.is_empty()).then_some(&*whole);
                let page = shared
                    .s3
                    .list_paginated(prefix, options)
                    .await
                    .map_err(|error| from_s3("content can't be listed", error))?;
                Ok(Some((page.result.objects, page.page_token.map(Some))))
            }
        });
        pages
            .map_ok(move |objects| {
                let root = root.clone();
                stream::iter(objects.into_iter().filter_map(move |object| info(&root, &object)))
                    .map(Ok)
            })
            .try_flatten()
            .boxed()
    }

    async fn check(&self) -> Result<()> {
        let written = match self.try_to_write().await {
            Err(error) if self.0.options.create_bucket && is_bucket_absent(&error) => {
                // The store may have come up after the service.
                self.prepare().await?;
                self.try_to_write().await
            }
            written => written,
        };
        written.map_err(|error| from_s3("storage can't be written to", error))
    }
}

/// What a listing says of an object, unless that isn't a blob.
fn info(root: &str, object: &ObjectMeta) -> Option<BlobInfo> {
    let key = object.location.as_ref().strip_prefix(root)?;
    check_blob_key(key).ok()?;
    let nanoseconds = object.last_modified.timestamp_nanos_opt().map(i128::from)?;
    Some(BlobInfo {
        key: key.to_owned(),
        size: object.size,
        modified_at: OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()?,
    })
}

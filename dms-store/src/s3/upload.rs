//! One object on its way in.

use std::sync::Arc;

use bytes::Bytes;
use dms_core::{Error, ErrorChain, Result};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStore as _, ObjectStoreExt as _, PutMode,
    PutMultipartOptions, PutOptions,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::error::{already_exists, from_s3, is_absent, is_taken, unavailable};
use super::store::Shared;

/// Content larger than this is uploaded in parts of this size: the smallest that S3 takes.
pub(super) const PART_BYTES: usize = 5 << 20;

/// Parts of one object that are on their way at the same time.
const PARTS_MAX: usize = 2;

/// Metadata that tells an object of ours from one that another put has made.
const PUT_ID: &str = "dms-put";

/// An upload that a task works on. Dropping this withdraws it.
pub(super) struct Upload {
    steps: mpsc::Sender<Step>,
    outcome: oneshot::Receiver<Result<Published>>,
}

enum Step {
    Part(Bytes),
    Last(Bytes),
}

impl Upload {
    pub(super) fn begin(shared: &Arc<Shared>, path: Path) -> Self {
        let (steps, next) = mpsc::channel(1);
        let (done, outcome) = oneshot::channel();
        let attempt =
            Attempt { shared: Arc::clone(shared), path, put_id: uuid::Uuid::now_v7().to_string() };
        shared.tasks.spawn(async move {
            // Whatever nobody receives is withdrawn when it's dropped.
            let _ = done.send(attempt.run(next).await);
        });
        Self { steps, outcome }
    }

    /// Gives a part that isn't the last one.
    pub(super) async fn part(&mut self, part: Bytes) -> Result<()> {
        if self.steps.send(Step::Part(part)).await.is_ok() {
            return Ok(());
        }
        // It has ended before it was told to.
        match (&mut self.outcome).await {
            Ok(Err(error)) => Err(error),
            Ok(Ok(_)) | Err(_) => Err(unavailable("upload ended early")),
        }
    }

    /// Gives the last part, which may be empty; then the object is there.
    pub(super) async fn finish(self, last: Bytes) -> Result<Published> {
        // If it has ended before, it says why.
        let _ = self.steps.send(Step::Last(last)).await;
        self.outcome.await.unwrap_or_else(|_| Err(unavailable("upload ended early")))
    }

    /// Withdraws it, and waits until that is done.
    pub(super) async fn abandon(self) {
        drop(self.steps);
        let _ = self.outcome.await;
    }
}

/// An object that is there, or may be. Withdrawn when dropped, unless it's kept.
pub(super) struct Published(Option<Attempt>);

impl Published {
    /// The object stays, or isn't ours.
    pub(super) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        if let Some(attempt) = self.0.take()
            && let Ok(runtime) = Handle::try_current()
        {
            let tasks = attempt.shared.tasks.clone();
            tasks.spawn_on(async move { attempt.withdraw().await }, &runtime);
        }
    }
}

/// One attempt to make an object.
#[derive(Clone)]
struct Attempt {
    shared: Arc<Shared>,
    path: Path,
    put_id: String,
}

impl Attempt {
    async fn run(self, mut steps: mpsc::Receiver<Step>) -> Result<Published> {
        match steps.recv().await {
            Some(Step::Last(whole)) => self.put_whole(whole).await,
            Some(Step::Part(first)) => self.put_in_parts(first, steps).await,
            None => Err(left()),
        }
    }

    fn attributes(&self) -> Attributes {
        Attributes::from_iter([(Attribute::Metadata(PUT_ID.into()), self.put_id.clone())])
    }

    async fn put_whole(&self, whole: Bytes) -> Result<Published> {
        let published = Published(Some(self.clone()));
        let options = PutOptions {
            mode: PutMode::Create,
            attributes: self.attributes(),
            ..PutOptions::default()
        };
        match self.shared.s3.put_opts(&self.path, whole.into(), options).await {
            Ok(_) => Ok(published),
            Err(error) if is_taken(&error) => self.taken(published, error).await,
            Err(error) => Err(from_s3("content can't be stored", error)),
        }
    }

    async fn put_in_parts(
        &self,
        first: Bytes,
        mut steps: mpsc::Receiver<Step>,
    ) -> Result<Published> {
        let options =
            PutMultipartOptions { attributes: self.attributes(), ..PutMultipartOptions::default() };
        let mut upload = self
            .shared
            .s3
            .put_multipart_opts(&self.path, options)
            .await
            .map_err(|error| from_s3("content can't be stored", error))?;
        let outcome = match send_parts(&mut *upload, first, &mut steps).await {
            Ok(size) => self.complete(&mut *upload, size).await,
            Err(error) => Err(error),
        };
        if outcome.is_err()
            && let Err(error) = upload.abort().await
            && !is_absent(&error)
        {
            tracing::warn!(path = %self.path, error = %ErrorChain(&error),
                "parts of content left to the bucket's rules");
        }
        outcome
    }

    async fn complete(&self, upload: &mut dyn MultipartUpload, size: u64) -> Result<Published> {
        let published = Published(Some(self.clone()));
        match upload.complete().await {
            Ok(_) => {}
            // The upload is gone: completed by a request whose answer was lost, or aborted.
            Err(error) if is_taken(&error) || is_absent(&error) => {
                return self.taken(published, error).await;
            }
            Err(error) => return Err(from_s3("content can't be completed", error)),
        }
        let stored = self
            .shared
            .s3
            .head_opts(&self.path)
            .await
            .map_err(|error| from_s3("content can't be checked", error))?;
        if stored.meta.size == size {
            Ok(published)
        } else {
            Err(Error::internal("stored content has another size"))
        }
    }

    /// The key is taken: by this attempt, if the answer to an earlier request was lost.
    async fn taken(&self, published: Published, error: object_store::Error) -> Result<Published> {
        match self.is_ours().await {
            Ok(true) => Ok(published),
            Ok(false) => {
                published.keep();
                let taken = is_taken(&error);
                if taken {
                    Err(already_exists().with_source(error))
                } else {
                    Err(from_s3("content can't be completed", error))
                }
            }
            Err(error) => Err(from_s3("content can't be checked", error)),
        }
    }

    async fn is_ours(&self) -> object_store::Result<bool> {
        match self.shared.s3.head_opts(&self.path).await {
            Ok(object) => {
                let put_id = object.attributes.get(&Attribute::Metadata(PUT_ID.into()));
                Ok(put_id.is_some_and(|put_id| put_id.as_ref() == self.put_id))
            }
            Err(error) if is_absent(&error) => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn withdraw(&self) {
        let withdrawn = async {
            if self.is_ours().await? {
                self.shared.s3.delete(&self.path).await?;
            }
            Ok::<_, object_store::Error>(())
        };
        if let Err(error) = withdrawn.await {
            tracing::warn!(path = %self.path, error = %ErrorChain(&error),
                "content left to the sweeper");
        }
    }
}

fn left() -> Error {
    unavailable("content was given up")
}

/// Sends parts as they come, a few at a time; gives their size together.
async fn send_parts(
    upload: &mut dyn MultipartUpload,
    first: Bytes,
    steps: &mut mpsc::Receiver<Step>,
) -> Result<u64> {
    let mut on_their_way = FuturesUnordered::new();
    let mut size = first.len() as u64;
    let mut last_given = false;
    on_their_way.push(upload.put_part(first.into()));
    loop {
        tokio::select! {
            Some(sent) = on_their_way.next(), if !on_their_way.is_empty() => {
                sent.map_err(|error| from_s3("content can't be stored", error))?;
            }
            step = steps.recv(), if !last_given && on_their_way.len() < PARTS_MAX => {
                let part = match step {
                    Some(Step::Part(part)) => part,
                    Some(Step::Last(part)) => {
                        last_given = true;
                        part
                    }
                    None => return Err(left()),
                };
                size += part.len() as u64;
                if !part.is_empty() {
                    on_their_way.push(upload.put_part(part.into()));
                }
            }
            else => return Ok(size),
        }
    }
}

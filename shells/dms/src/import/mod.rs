//! Uploading files and folders to a running server, again and again without duplicates.
//!
//! What makes two files the same is their title, their content and the creator. The import first asks
//! the server what is there, so that it needs no memory of its own; an idempotency key made of the
//! same three covers the uploads whose answers were lost.

mod identity;
mod report;
mod upload;
mod walk;

use std::error::Error as StdError;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;

use dms_rpc::client::{ClientError, DmsClient, DocumentQuery};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};

pub use identity::{Identity, Known, hash_file};
pub use report::{FileOutcome, ImportCounts, Reporter};
pub use walk::{Candidate, Refused, Selection, guess_content_type, walk};

use upload::{Failure, Uploader};

/// What is imported, from where to where.
#[derive(Debug, Clone)]
pub struct Import {
    /// Files and folders.
    pub paths: Vec<PathBuf>,
    /// Which of the files in them.
    pub selection: Selection,
    /// Where the server is.
    pub url: String,
    /// Bearer token, if the server asks for one.
    pub token: Option<String>,
    /// Creator that the documents get.
    pub created_by: String,
    /// How many files are uploaded at once.
    pub concurrency: usize,
}

/// Why an import ended before all files were tried.
#[derive(Debug)]
pub enum ImportError {
    /// Something it was told can't be used.
    Usage(String),
    /// The server can't be reached, or no longer.
    Unreachable {
        /// What to do.
        message: String,
        /// What happened.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// It was told to stop.
    Stopped(ImportCounts),
}

impl Import {
    /// Uploads what isn't there yet, until everything is or `stop` completes; what is being uploaded
    /// then is finished first. Shows progress and counts.
    ///
    /// # Errors
    /// [`ImportError`]; a file that can't be taken is told, counted, and no error.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<ImportCounts, ImportError> {
        let mut builder = DmsClient::builder(&self.url);
        if let Some(token) = &self.token {
            builder = builder.bearer_token(token);
        }
        let client = builder.build().map_err(|error| {
            ImportError::Usage(format!("--url {:?} can't be used: {error}", self.url))
        })?;
        let known = self.known(&client).await?;
        // The walk is a list of names: bounded by the file system, not by contents.
        let files: Vec<_> =
            walk(&self.paths, &self.selection).map_err(ImportError::Usage)?.collect();
        let mut reporter = Reporter::new(files.len() as u64);
        let uploader = Arc::new(Uploader::new(client, self.created_by.clone(), known));
        let mut outcomes = pin!(
            stream::iter(files)
                .take_until(stop)
                .map(|file| {
                    let uploader = Arc::clone(&uploader);
                    async move {
                        match file {
                            Ok(file) => uploader.take(file).await,
                            Err(Refused { path, reason }) => {
                                Ok(FileOutcome::Failed { path, reason })
                            }
                        }
                    }
                })
                .buffer_unordered(self.concurrency)
        );
        let mut lost = None;
        while let Some(outcome) = outcomes.next().await {
            match outcome {
                Ok(outcome) => reporter.record(outcome),
                Err(Failure(error)) => {
                    lost = Some(error);
                    break;
                }
            }
        }
        let left = reporter.finish();
        match lost {
            Some(error) => Err(self.unreachable(error)),
            None if left > 0 => Err(ImportError::Stopped(reporter.counts())),
            None => Ok(reporter.counts()),
        }
    }

    /// What the server has of this creator.
    async fn known(&self, client: &DmsClient) -> Result<Known, ImportError> {
        let query = DocumentQuery {
            limit: Some(100),
            created_by: Some(self.created_by.clone()),
            ..DocumentQuery::default()
        };
        let documents = client.documents(query);
        let identities = documents
            .map_ok(|document| Identity::new(&document.title, &document.content_sha256))
            .try_collect();
        identities.await.map_err(|error| match error.status() {
            Some(401) => ImportError::Usage(
                "the server asks for a token: give one with --token or DMS_TOKEN".into(),
            ),
            Some(422) => ImportError::Usage(format!("--created-by is refused: {error}")),
            _ => self.unreachable(error),
        })
    }

    fn unreachable(&self, error: ClientError) -> ImportError {
        let message = format!(
            "the server at {} can't be reached: start it with `dms serve`, or name another with \
             --url; then run the same command again",
            self.url
        );
        ImportError::Unreachable { message, source: error.into() }
    }
}

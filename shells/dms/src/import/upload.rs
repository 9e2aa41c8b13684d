//! One file on its way to the server.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use dms_core::Sha256;
use dms_core::use_cases::CreateDocument;
use dms_rpc::client::{ClientError, DmsClient, KEY_HELD_MAX, UploadContent};
use tokio::time::Instant;

use super::identity::{Identity, Known, hash_file};
use super::report::FileOutcome;
use super::walk::{Candidate, guess_content_type};

/// Least pause before an upload is tried again when another one with its key still runs.
const STILL_RUNNING_PAUSE: Duration = Duration::from_millis(500);

/// The server is gone: going on makes no sense.
pub(super) struct Failure(pub(super) ClientError);

pub(super) struct Uploader {
    client: DmsClient,
    created_by: String,
    /// What is there, and what this import is bringing there.
    known: Mutex<HashSet<Identity>>,
}

struct Examined {
    size: u64,
    sha256: Sha256,
    content_type: String,
}

impl Uploader {
    pub(super) fn new(client: DmsClient, created_by: String, known: Known) -> Self {
        Self { client, created_by, known: Mutex::new(known) }
    }

    pub(super) async fn take(&self, file: Candidate) -> Result<FileOutcome, Failure> {
        let failed = |path: PathBuf, reason: String| Ok(FileOutcome::Failed { path, reason });
        let path = file.path.clone();
        let examined = tokio::task::spawn_blocking(move || examine(&path)).await;
        let examined = match examined {
            Ok(Ok(examined)) => examined,
            Ok(Err(error)) => return failed(file.path, error.to_string()),
            Err(panicked) => return failed(file.path, panicked.to_string()),
        };
        let identity = Identity::new(&file.title, &examined.sha256);
        if !self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(identity) {
            return Ok(FileOutcome::AlreadyThere);
        }
        match self.upload(&file, &examined, &identity).await {
            Ok(uploaded) if uploaded == examined.sha256 => {
                Ok(FileOutcome::Imported { bytes: examined.size })
            }
            Ok(_) => failed(file.path, "changed while it was uploaded, run again".into()),
            Err(error @ (ClientError::Unreachable { .. } | ClientError::Timeout(_))) => {
                Err(Failure(error))
            }
            Err(error) => failed(file.path, reason(&error)),
        }
    }

    async fn upload(
        &self,
        file: &Candidate,
        examined: &Examined,
        identity: &Identity,
    ) -> Result<Sha256, ClientError> {
        let fields = CreateDocument {
            title: file.title.clone(),
            created_by: self.created_by.clone(),
            content_type: Some(examined.content_type.clone()),
        };
        let key = identity.idempotency_key(&self.created_by);
        // An import that was killed may have left the key in the hand of a request that died with its
        // server: it is free once the server gives that request up.
        let given_up_at = Instant::now() + KEY_HELD_MAX;
        loop {
            let content = UploadContent::file(&file.path);
            match self.client.upload_document(&fields, content, Some(&key)).await {
                Ok(document) => return Ok(document.content_sha256),
                Err(error)
                    if error.code() == Some("request_in_progress")
                        && Instant::now() < given_up_at =>
                {
                    let pause = error.retry_after().unwrap_or_default();
                    tokio::time::sleep(pause.max(STILL_RUNNING_PAUSE)).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

fn examine(path: &std::path::Path) -> std::io::Result<Examined> {
    let content_type = guess_content_type(path)?;
    let (size, sha256) = hash_file(path)?;
    Ok(Examined { size, sha256, content_type })
}

/// What a person needs to know of a refusal.
fn reason(error: &ClientError) -> String {
    match error.problem() {
        Some(problem) if !problem.fields.is_empty() => {
            let fields: Vec<_> =
                problem.fields.iter().map(|f| format!("{} {}", f.field, f.message)).collect();
            fields.join(", ")
        }
        Some(problem) if !problem.detail.is_empty() => problem.detail.clone(),
        _ => error.to_string(),
    }
}

//! A runner with fakes all around it.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dms_cdc::{Runner, RunnerOptions, RunnerStatus};
use dms_core::fake::{InMemoryChangeLog, RecordingSink, ScriptedChangeSource};
use dms_core::model::change::{Change, Operation, Position, RowChange, SignatureRow};
use dms_core::ports::{Clock, DeadLetter, DeadLetterRepository};
use dms_core::{Error, Result, SignatureId};
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

pub(crate) const CONSUMER: &str = "indexer";

/// Dead letters in memory, which fail on demand.
#[derive(Default)]
pub(crate) struct Letters {
    pub(crate) kept: Mutex<Vec<DeadLetter>>,
    pub(crate) errors: Mutex<VecDeque<Error>>,
}

impl Letters {
    pub(crate) fn positions(&self) -> Vec<String> {
        self.kept.lock().unwrap().iter().map(|letter| letter.position.to_string()).collect()
    }

    pub(crate) fn holds(&self, position: &str) -> bool {
        self.kept.lock().unwrap().iter().any(|letter| letter.position.as_str() == position)
    }

    fn fail(&self) -> Result<()> {
        self.errors.lock().unwrap().pop_front().map_or(Ok(()), Err)
    }
}

#[async_trait]
impl DeadLetterRepository for Letters {
    async fn put_many(&self, letters: &[DeadLetter]) -> Result<()> {
        tokio::task::yield_now().await;
        self.fail()?;
        for letter in letters {
            if !self.holds(letter.position.as_str()) {
                self.kept.lock().unwrap().push(letter.clone());
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    async fn list(&self, _: &str, limit: u32) -> Result<Vec<DeadLetter>> {
        Ok(self.kept.lock().unwrap().iter().take(limit as usize).cloned().collect())
    }

    async fn count(&self, consumer: &str) -> Result<u64> {
        tokio::task::yield_now().await;
        let kept = self.kept.lock().unwrap();
        Ok(kept.iter().filter(|letter| letter.consumer == consumer).count() as u64)
    }

    async fn remove(&self, _: &str, position: &Position) -> Result<bool> {
        let mut kept = self.kept.lock().unwrap();
        let before = kept.len();
        kept.retain(|letter| letter.position != *position);
        Ok(kept.len() < before)
    }
}

/// A clock that always shows the same time.
pub(crate) struct StillClock;

impl Clock for StillClock {
    fn now(&self) -> OffsetDateTime {
        OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(100)
    }
}

pub(crate) struct World {
    pub(crate) log: InMemoryChangeLog,
    pub(crate) source: Arc<ScriptedChangeSource>,
    pub(crate) sink: Arc<RecordingSink>,
    pub(crate) letters: Arc<Letters>,
    pub(crate) stop: CancellationToken,
}

impl World {
    pub(crate) fn new() -> Self {
        let log = InMemoryChangeLog::default();
        let source = Arc::new(ScriptedChangeSource::new(&log, CONSUMER));
        let sink = Arc::new(RecordingSink::new("index"));
        let letters = Arc::new(Letters::default());
        Self { log, source, sink, letters, stop: CancellationToken::new() }
    }

    pub(crate) fn runner(&self, options: RunnerOptions) -> Runner {
        let sinks = vec![self.sink.clone() as _];
        let clock = Arc::new(StillClock);
        Runner::new(self.source.clone(), sinks, self.letters.clone(), clock, options)
    }

    /// Commits changes of these keys, one second before the clock's time.
    pub(crate) fn append(&self, keys: &[u32]) {
        for key in keys {
            let committed_at = StillClock.now() - time::Duration::seconds(1);
            self.log.append(Operation::Create, signature(*key), committed_at);
        }
    }

    /// Drives the runner while `story` goes on, then stops it.
    pub(crate) async fn play(&self, runner: &Runner, story: impl Future<Output = ()>) {
        let story = async {
            let story = tokio::time::timeout(Duration::from_hours(1), story);
            story.await.expect("the story ends");
            self.stop.cancel();
        };
        let (end, ()) = tokio::join!(runner.run(self.stop.clone()), story);
        end.expect("stopped in good order");
    }

    pub(crate) async fn caught_up(&self) {
        self.log.caught_up(CONSUMER).await;
    }
}

pub(crate) fn options() -> RunnerOptions {
    RunnerOptions::new(CONSUMER)
}

/// A row that has nothing but a key.
pub(crate) fn signature(key: u32) -> RowChange {
    let id: SignatureId =
        format!("00000000-0000-0000-0000-{key:012}").parse().expect("a signature id");
    let row = SignatureRow {
        id,
        document_id: "00000000-0000-0000-0000-000000000000".parse().expect("a document id"),
        signer_email: String::new(),
        signer_name: String::new(),
        created_at: OffsetDateTime::UNIX_EPOCH,
    };
    RowChange::Signature { before: None, after: Some(row) }
}

pub(crate) fn unavailable() -> Error {
    Error::unavailable("index", "connection refused")
}

/// Positions of the changes of each call.
pub(crate) fn calls(sink: &RecordingSink) -> Vec<Vec<String>> {
    sink.calls().iter().map(|call| positions(&call.changes)).collect()
}

pub(crate) fn positions(changes: &[Change]) -> Vec<String> {
    changes.iter().map(|change| change.position.to_string()).collect()
}

/// Waits until the runner's status is as wanted.
pub(crate) async fn status(
    runner: &Runner,
    wanted: impl FnMut(&RunnerStatus) -> bool,
) -> RunnerStatus {
    runner.status().wait_for(wanted).await.expect("the runner is there").clone()
}

//! A change log in memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use time::OffsetDateTime;

use super::watched::Watched;
use crate::model::change::{
    Change, Operation, PoisonRecord, Position, Record, RecordBatch, RowChange,
};
use crate::ports::{BatchLimits, ChangeSource, StartAt};
use crate::{Error, ErrorKind, Result};

/// A change log kept in memory, with what each consumer acknowledged. Clones share it.
///
/// Positions are numbers from 1 without gaps. Acknowledgements outlive the sources, as they would
/// outlive a process: a new source for the same consumer resumes where the last one acknowledged.
#[derive(Debug, Clone, Default)]
pub struct InMemoryChangeLog(Arc<Watched<State>>);

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    /// Position of the newest change that was trimmed away; the first entry is the one after.
    trimmed: u64,
    acknowledged: BTreeMap<String, u64>,
}

#[derive(Debug, Clone)]
struct Entry {
    record: Record,
    bytes: usize,
}

impl State {
    fn head(&self) -> u64 {
        self.trimmed + self.entries.len() as u64
    }

    fn after(&self, position: u64) -> impl Iterator<Item = &Entry> {
        let passed = usize::try_from(position.saturating_sub(self.trimmed)).unwrap_or(usize::MAX);
        self.entries.iter().skip(passed)
    }

    fn check(&self, position: u64) -> Result<u64> {
        if position < self.trimmed || position > self.head() {
            return Err(position_lost("the log no longer reaches back to the position"));
        }
        Ok(position)
    }

    fn append(&mut self, bytes: usize, record: impl FnOnce(Position) -> Record) -> Position {
        let position = Position::new((self.head() + 1).to_string());
        self.entries.push_back(Entry { record: record(position.clone()), bytes });
        position
    }
}

fn position_lost(message: &'static str) -> Error {
    Error::new(ErrorKind::Conflict, message).with_code("position_lost")
}

impl InMemoryChangeLog {
    /// Commits a change of a row.
    pub fn append(
        &self,
        operation: Operation,
        row: RowChange,
        committed_at: OffsetDateTime,
    ) -> Position {
        let bytes = size_of(&row);
        self.0.update(|state| {
            state.append(bytes, |position| {
                Record::Change(Box::new(Change { operation, row, position, committed_at }))
            })
        })
    }

    /// Commits a record that can't be decoded.
    pub fn append_poison(&self, raw: &[u8], reason: &str) -> Position {
        self.0.update(|state| {
            state.append(raw.len(), |position| {
                let (raw, reason) = (raw.to_vec(), reason.to_owned());
                Record::Poison(PoisonRecord { position, key: None, raw, reason })
            })
        })
    }

    /// Drops what every consumer has acknowledged; with no consumer, everything.
    pub fn trim(&self) {
        self.0.update(|state| {
            let head = state.head();
            let passed = state.acknowledged.values().copied().min().unwrap_or(head).min(head);
            while state.trimmed < passed {
                state.entries.pop_front();
                state.trimmed += 1;
            }
        });
    }

    /// What a consumer acknowledged last; none if it is unknown.
    pub fn acknowledged(&self, consumer: &str) -> Option<Position> {
        self.0.read(|state| {
            state.acknowledged.get(consumer).map(|position| Position::new(position.to_string()))
        })
    }

    /// Waits until a consumer has acknowledged everything there is.
    pub async fn caught_up(&self, consumer: &str) {
        self.0
            .wait(|state| (state.acknowledged.get(consumer) == Some(&state.head())).then_some(()))
            .await;
    }

    /// A source for a consumer, which is registered once the source is started.
    pub fn source(&self, consumer: &str) -> InMemoryChangeSource {
        InMemoryChangeSource {
            log: self.clone(),
            consumer: consumer.to_owned(),
            cursor: Mutex::new(None),
        }
    }
}

/// Bytes of the rows as JSON, which is how logs keep them.
fn size_of(row: &RowChange) -> usize {
    let size = |json: serde_json::Result<Vec<u8>>| json.map_or(0, |bytes| bytes.len());
    match row {
        RowChange::Document { before, after } => {
            [before, after].into_iter().flatten().map(|row| size(serde_json::to_vec(row))).sum()
        }
        RowChange::Signature { before, after } => {
            [before, after].into_iter().flatten().map(|row| size(serde_json::to_vec(row))).sum()
        }
    }
}

/// A [`ChangeSource`] over an [`InMemoryChangeLog`].
#[derive(Debug)]
pub struct InMemoryChangeSource {
    log: InMemoryChangeLog,
    consumer: String,
    /// Position of the last record delivered; none before the start.
    cursor: Mutex<Option<u64>>,
}

impl InMemoryChangeSource {
    /// The log it reads.
    pub fn log(&self) -> &InMemoryChangeLog {
        &self.log
    }

    fn cursor(&self) -> Result<u64> {
        self.cursor
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .ok_or_else(|| Error::internal("the source was not started"))
    }
}

#[async_trait]
impl ChangeSource for InMemoryChangeSource {
    async fn start(&self, at: StartAt) -> Result<()> {
        let cursor = self.log.0.update(|state| {
            let acknowledged = state.acknowledged.entry(self.consumer.clone()).or_insert(0);
            let cursor = match at {
                StartAt::Acknowledged => *acknowledged,
                StartAt::After(position) => position.as_str().parse().map_err(|e| {
                    position_lost("the position is not one of this log").with_source(e)
                })?,
                StartAt::Now => state.head(),
            };
            state.check(cursor)?;
            state.acknowledged.insert(self.consumer.clone(), cursor);
            Ok(cursor)
        })?;
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = Some(cursor);
        Ok(())
    }

    async fn next_batch(&self, limits: BatchLimits) -> Result<RecordBatch> {
        let cursor = self.cursor()?;
        let records = self
            .log
            .0
            .wait(|state| {
                if let Err(lost) = state.check(cursor) {
                    return Some(Err(lost));
                }
                let mut bytes = 0_usize;
                let records: Vec<_> = state
                    .after(cursor)
                    .take(limits.records_max.max(1))
                    .enumerate()
                    .take_while(|(index, entry)| {
                        bytes = bytes.saturating_add(entry.bytes);
                        *index == 0 || bytes <= limits.bytes_max
                    })
                    .map(|(_, entry)| entry.record.clone())
                    .collect();
                (!records.is_empty()).then_some(Ok(records))
            })
            .await?;
        let cursor = cursor + records.len() as u64;
        *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = Some(cursor);
        Ok(RecordBatch { records, position: Position::new(cursor.to_string()) })
    }

    async fn ack(&self, position: &Position) -> Result<()> {
        let position: u64 = position
            .as_str()
            .parse()
            .map_err(|e| Error::invalid("position", "must be one of this log").with_source(e))?;
        self.log.0.update(|state| {
            let acknowledged = state.acknowledged.entry(self.consumer.clone()).or_insert(0);
            *acknowledged = position.max(*acknowledged);
        });
        Ok(())
    }

    async fn head(&self) -> Result<Position> {
        Ok(Position::new(self.log.0.read(State::head).to_string()))
    }

    async fn lag(&self) -> Result<u64> {
        Ok(self.log.0.read(|state| {
            let acknowledged = state.acknowledged.get(&self.consumer).copied().unwrap_or(0);
            state.head().saturating_sub(acknowledged)
        }))
    }
}

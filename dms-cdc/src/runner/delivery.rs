//! One batch on its way through the sinks, the dead letters and the acknowledgement.

use std::borrow::Cow;

use dms_core::model::change::{Change, PoisonRecord, Position, Record, RecordBatch};
use dms_core::ports::{ChangeSink, DeadLetter, Outcome};
use dms_core::{Error, Result};
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::pass::Pass;
use super::{DEAD_LETTERS, Flow, Runner, RunnerState, unless_stopped};
use crate::RawChange;

/// Label of the metrics for what no sink has seen.
const DECODER: &str = "decoder";

impl Runner {
    /// Takes a batch through all sinks and acknowledges it.
    pub(super) async fn deliver(&self, batch: RecordBatch, stop: &CancellationToken) -> Flow<()> {
        self.meters.batch(batch.records.len());
        let (changes, poison) = split(batch.records);
        if let Some(first) = changes.first() {
            self.behind.comes_next(first.committed_at);
        }
        let mut has_letters = !poison.is_empty();
        if has_letters {
            self.bury_poison(poison, stop).await?;
        }
        for sink in &self.sinks {
            has_letters |= self.apply(&**sink, &changes, &batch.position, stop).await?;
        }
        if has_letters {
            self.hold_while_over_budget(stop).await?;
        }
        self.acknowledge(batch.position, stop).await?;
        if let Some(newest) = changes.iter().map(|change| change.committed_at).max() {
            self.behind.reached(newest);
        }
        Ok(())
    }

    /// Takes changes through one sink until all are done; whether some became dead letters.
    async fn apply(
        &self,
        sink: &dyn ChangeSink,
        changes: &[Change],
        up_to: &Position,
        stop: &CancellationToken,
    ) -> Flow<bool> {
        let mut has_letters = false;
        let mut backoff = Backoff::new(self.options.retry);
        let mut remaining = Cow::Borrowed(changes);
        while !remaining.is_empty() {
            let error = match answers(sink, &remaining, up_to).await {
                Ok(outcomes) => {
                    let pass = Pass::of(&remaining, outcomes);
                    self.count(sink.name(), &remaining, &pass);
                    // Before the sink sees the position again: one that keeps it must not be able
                    // to pass a rejected change that isn't a dead letter yet.
                    has_letters |= self.bury_rejected(sink.name(), &remaining, &pass, stop).await?;
                    if !pass.done.is_empty() {
                        backoff.progressed();
                    }
                    let again = pass.again.iter().map(|&index| remaining[index].clone()).collect();
                    remaining = Cow::Owned(again);
                    let Some(reason) = pass.reason else { break };
                    Error::unavailable(sink.name(), reason)
                }
                Err(error) => {
                    let retried = remaining.len() as u64;
                    self.status.send_modify(|status| status.counts.retried += retried);
                    self.meters.changes(sink.name(), "retried", retried);
                    error
                }
            };
            self.failed(sink.name(), &error, &mut backoff, stop).await?;
        }
        self.enter(RunnerState::Running);
        Ok(has_letters)
    }

    fn count(&self, sink: &'static str, changes: &[Change], pass: &Pass) {
        let (mut applied, mut already_newer, mut skipped, mut rejected) = (0, 0, 0, 0);
        let now = self.clock.now();
        for (index, outcome) in &pass.done {
            match outcome {
                Outcome::Applied => {
                    applied += 1;
                    self.meters.applied(now - changes[*index].committed_at);
                }
                Outcome::AlreadyNewer => already_newer += 1,
                Outcome::Skipped(_) => skipped += 1,
                Outcome::Rejected(_) => rejected += 1,
                Outcome::Retry(_) => {}
            }
        }
        let retried = pass.again.len() as u64;
        self.meters.changes(sink, "applied", applied);
        self.meters.changes(sink, "already_newer", already_newer);
        self.meters.changes(sink, "skipped", skipped);
        self.meters.changes(sink, "rejected", rejected);
        self.meters.changes(sink, "retried", retried);
        self.status.send_modify(|status| {
            status.counts.applied += applied;
            status.counts.already_newer += already_newer;
            status.counts.skipped += skipped;
            status.counts.rejected += rejected;
            status.counts.retried += retried;
        });
    }

    async fn bury_poison(&self, poison: Vec<PoisonRecord>, stop: &CancellationToken) -> Flow<()> {
        let count = poison.len() as u64;
        self.meters.changes(DECODER, "poison", count);
        self.status.send_modify(|status| status.counts.poison += count);
        let created_at = self.clock.now();
        let letter = |poison: PoisonRecord| DeadLetter {
            consumer: self.options.consumer.clone(),
            position: poison.position,
            key: poison.key,
            raw: poison.raw,
            reason: poison.reason,
            created_at,
        };
        self.bury(&poison.into_iter().map(letter).collect::<Vec<_>>(), stop).await
    }

    async fn bury_rejected(
        &self,
        sink: &'static str,
        changes: &[Change],
        pass: &Pass,
        stop: &CancellationToken,
    ) -> Flow<bool> {
        let created_at = self.clock.now();
        let letter = |(index, outcome): &(usize, Outcome)| {
            let Outcome::Rejected(reason) = outcome else { return None };
            let change = &changes[*index];
            Some(DeadLetter {
                consumer: self.options.consumer.clone(),
                position: change.position.clone(),
                key: change.key(),
                raw: RawChange::encode(change).to_json(),
                reason: format!("{sink}: {reason}"),
                created_at,
            })
        };
        let letters: Vec<_> = pass.done.iter().filter_map(letter).collect();
        if letters.is_empty() {
            return Ok(false);
        }
        self.bury(&letters, stop).await?;
        Ok(true)
    }

    /// Makes dead letters durable.
    async fn bury(&self, letters: &[DeadLetter], stop: &CancellationToken) -> Flow<()> {
        for letter in letters {
            tracing::error!(
                consumer = letter.consumer,
                position = letter.position.as_str(),
                key = letter.key.as_deref(),
                reason = letter.reason,
                "change became a dead letter"
            );
        }
        let mut backoff = Backoff::new(self.options.retry);
        while let Err(error) = self.dead_letters.put_many(letters).await {
            self.failed(DEAD_LETTERS, &error, &mut backoff, stop).await?;
        }
        Ok(())
    }

    async fn hold_while_over_budget(&self, stop: &CancellationToken) -> Flow<()> {
        let consumer = self.options.consumer.as_str();
        let budget = self.options.dead_letter_budget.max(1);
        let mut backoff = Backoff::new(self.options.retry);
        loop {
            match self.dead_letters.count(consumer).await {
                Ok(count) => {
                    self.set_dead_letters(count);
                    if count < budget {
                        return Ok(());
                    }
                    let pause = backoff.failed();
                    if backoff.attempts() == 1 {
                        tracing::error!(consumer, count, budget, "dead letter budget reached");
                    }
                    self.enter(RunnerState::DeadLetterBudgetReached { count, budget });
                    unless_stopped(stop, tokio::time::sleep(pause)).await?;
                }
                Err(error) => self.failed(DEAD_LETTERS, &error, &mut backoff, stop).await?,
            }
        }
    }

    async fn acknowledge(&self, position: Position, stop: &CancellationToken) -> Flow<()> {
        let mut backoff = Backoff::new(self.options.retry);
        while let Err(error) = self.source.ack(&position).await {
            self.source_failed(error, &mut backoff, stop).await?;
        }
        let now = self.clock.now();
        self.status.send_modify(|status| {
            status.state = RunnerState::Running;
            status.position = Some(position);
            status.last_progress_at = Some(now);
        });
        Ok(())
    }
}

/// The sink's answers, one for each change.
async fn answers(
    sink: &dyn ChangeSink,
    changes: &[Change],
    up_to: &Position,
) -> Result<Vec<Outcome>> {
    let outcomes = sink.apply(changes, up_to).await?;
    if outcomes.len() == changes.len() {
        return Ok(outcomes);
    }
    let (given, answered) = (changes.len(), outcomes.len());
    Err(Error::internal(format!("the sink answered {answered} times for {given} changes")))
}

fn split(records: Vec<Record>) -> (Vec<Change>, Vec<PoisonRecord>) {
    let mut changes = Vec::with_capacity(records.len());
    let mut poison = Vec::new();
    for record in records {
        match record {
            Record::Change(change) => changes.push(*change),
            Record::Poison(record) => poison.push(record),
        }
    }
    (changes, poison)
}

//! A sink that records what it is given and answers what it is told to.

use std::collections::VecDeque;

use async_trait::async_trait;

use super::watched::Watched;
use crate::model::change::{Change, Position};
use crate::ports::{ChangeSink, Outcome};
use crate::{Error, Result};

/// One call of a [`RecordingSink`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkCall {
    /// The changes, in order.
    pub changes: Vec<Change>,
    /// The position that was given with them.
    pub up_to: Position,
}

/// A sink that records every call. It applies everything, except where an answer was scripted.
#[derive(Debug)]
pub struct RecordingSink {
    name: &'static str,
    state: Watched<State>,
}

#[derive(Debug, Default)]
struct State {
    calls: Vec<SinkCall>,
    answers: VecDeque<Answer>,
}

#[derive(Debug)]
enum Answer {
    Outcomes(Vec<Outcome>),
    Error(Error),
    Never,
}

impl RecordingSink {
    /// A sink of this name that has seen nothing.
    pub fn new(name: &'static str) -> Self {
        Self { name, state: Watched::default() }
    }

    /// Answers the next call that isn't scripted yet with these outcomes.
    pub fn answer(&self, outcomes: Vec<Outcome>) {
        self.state.update(|state| state.answers.push_back(Answer::Outcomes(outcomes)));
    }

    /// Fails the next call that isn't scripted yet.
    pub fn fail(&self, error: Error) {
        self.state.update(|state| state.answers.push_back(Answer::Error(error)));
    }

    /// Never answers the next call that isn't scripted yet.
    pub fn stall(&self) {
        self.state.update(|state| state.answers.push_back(Answer::Never));
    }

    /// Every call so far.
    pub fn calls(&self) -> Vec<SinkCall> {
        self.state.read(|state| state.calls.clone())
    }

    /// Every change so far, repetitions included.
    pub fn changes(&self) -> Vec<Change> {
        self.state.read(|state| {
            state.calls.iter().flat_map(|call| call.changes.iter().cloned()).collect()
        })
    }

    /// Waits until the calls are as wanted.
    pub async fn wait_until(&self, wanted: impl Fn(&[SinkCall]) -> bool) {
        self.state.wait(|state| wanted(&state.calls).then_some(())).await;
    }
}

#[async_trait]
impl ChangeSink for RecordingSink {
    fn name(&self) -> &'static str {
        self.name
    }

    async fn apply(&self, changes: &[Change], up_to: &Position) -> Result<Vec<Outcome>> {
        let answer = self.state.update(|state| {
            state.calls.push(SinkCall { changes: changes.to_vec(), up_to: up_to.clone() });
            state.answers.pop_front()
        });
        match answer {
            None => Ok(vec![Outcome::Applied; changes.len()]),
            Some(Answer::Outcomes(outcomes)) => Ok(outcomes),
            Some(Answer::Error(error)) => Err(error),
            Some(Answer::Never) => std::future::pending().await,
        }
    }
}

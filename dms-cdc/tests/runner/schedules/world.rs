//! What outlives a crash, with what must hold of it at every moment.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::future::poll_fn;
use std::sync::Mutex;
use std::task::Poll;

use dms_core::fake::InMemoryChangeLog;
use dms_core::model::change::{DocumentRow, Operation, Position, RowChange};
use dms_core::{DocumentId, DocumentStatus, Error, Result};
use time::OffsetDateTime;

use super::plan::{Entry, Fate, Plan};
use crate::support::Letters;

/// Counts the steps of the fakes, and stops everything when the next crash is due.
#[derive(Default)]
pub(crate) struct Fuse(pub(crate) Mutex<Option<u32>>);

impl Fuse {
    /// A point at which the process may end.
    pub(crate) async fn step(&self) {
        let mut has_yielded = false;
        poll_fn(|context| {
            if has_yielded {
                return Poll::Ready(());
            }
            let mut left = self.0.lock().unwrap();
            match &mut *left {
                // The driver drops everything; nobody is to go on until then.
                Some(0) => return Poll::Pending,
                Some(left) => *left -= 1,
                None => {}
            }
            has_yielded = true;
            context.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    pub(crate) fn is_blown(&self) -> bool {
        *self.0.lock().unwrap() == Some(0)
    }
}

/// What outlives a crash, with what must hold of it at every moment.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) fuse: Fuse,
    pub(crate) log: InMemoryChangeLog,
    pub(crate) letters: Letters,
    pub(crate) calls: Mutex<Calls>,
    /// Of each sink: version by key, as kept and as written last.
    pub(crate) stores: Vec<Mutex<Store>>,
}

#[derive(Default)]
pub(crate) struct Calls {
    pub(crate) source: VecDeque<bool>,
    pub(crate) sink: VecDeque<bool>,
    pub(crate) letters: VecDeque<bool>,
    pub(crate) ack: VecDeque<bool>,
    pub(crate) rewind: VecDeque<bool>,
}

#[derive(Default)]
pub(crate) struct Store {
    pub(crate) guarded: BTreeMap<DocumentId, i32>,
    /// As in a sink that forgot its versions and simply writes what comes.
    pub(crate) unguarded: BTreeMap<DocumentId, i32>,
    pub(crate) attempts: HashMap<String, u8>,
    pub(crate) answered: HashSet<String>,
    pub(crate) position: Option<Position>,
}

impl World {
    pub(crate) fn new(plan: Plan) -> Self {
        let log = InMemoryChangeLog::default();
        for entry in &plan.entries {
            match entry {
                Entry::Version { key, version, .. } => {
                    let operation =
                        if *version == 1 { Operation::Create } else { Operation::Update };
                    log.append(operation, row(*key, *version), OffsetDateTime::UNIX_EPOCH);
                }
                Entry::Poison => {
                    log.append_poison(b"poison", "broken");
                }
            }
        }
        let queue = |errors: &Vec<bool>| errors.iter().copied().collect();
        let calls = Mutex::new(Calls {
            source: queue(&plan.source_errors),
            sink: queue(&plan.sink_errors),
            letters: queue(&plan.letter_errors),
            ack: queue(&plan.ack_errors),
            rewind: queue(&plan.rewinds),
        });
        let stores = (0..plan.sinks).map(|_| Mutex::default()).collect();
        let (fuse, letters) = (Fuse::default(), Letters::default());
        Self { plan, fuse, log, letters, calls, stores }
    }

    pub(crate) fn fail(&self, kind: impl FnOnce(&mut Calls) -> &mut VecDeque<bool>) -> Result<()> {
        match kind(&mut self.calls.lock().unwrap()).pop_front() {
            Some(true) => Err(Error::unavailable("fake", "scripted")),
            _ => Ok(()),
        }
    }

    pub(crate) fn entry(&self, position: &Position) -> &Entry {
        let position: usize = position.as_str().parse().expect("a number");
        &self.plan.entries[position - 1]
    }

    /// Everything up to `position` must be done for good by now.
    pub(crate) fn check_ack(&self, position: &Position) {
        let acked: usize = position.as_str().parse().expect("a number");
        for index in 1..=acked {
            let position = index.to_string();
            let is_letter = self.letters.holds(&position);
            match self.plan.entries[index - 1] {
                Entry::Poison => assert!(is_letter, "poison {position} acknowledged and lost"),
                Entry::Version { fate: Fate::Rejected { .. }, .. } => {
                    assert!(is_letter, "rejected {position} acknowledged and lost");
                }
                Entry::Version { key, version, fate: Fate::Taken { .. } } => {
                    for store in &self.stores {
                        let kept = store.lock().unwrap().guarded.get(&id(key)).copied();
                        assert!(kept >= Some(version), "{position} acknowledged, kept {kept:?}");
                    }
                }
                Entry::Version { fate: Fate::Skipped, .. } => {
                    for store in &self.stores {
                        assert!(store.lock().unwrap().answered.contains(&position));
                    }
                }
            }
        }
    }

    pub(crate) fn check_end(&self) {
        let mut newest = BTreeMap::new();
        let mut letters = Vec::new();
        for (index, entry) in self.plan.entries.iter().enumerate() {
            match entry {
                Entry::Version { key, version, fate: Fate::Taken { .. } } => {
                    let kept = newest.entry(id(*key)).or_insert(*version);
                    *kept = (*kept).max(*version);
                }
                Entry::Version { fate: Fate::Skipped, .. } => {}
                Entry::Version { fate: Fate::Rejected { .. }, .. } | Entry::Poison => {
                    letters.push((index + 1).to_string());
                }
            }
        }
        for store in &self.stores {
            assert_eq!(store.lock().unwrap().guarded, newest, "each key at its newest version");
        }
        let mut kept = self.letters.positions();
        kept.sort_by_key(|position| position.parse::<usize>().expect("a number"));
        assert_eq!(kept, letters, "dead letters are what can't succeed, each once");
    }
}

pub(crate) fn id(key: u8) -> DocumentId {
    format!("00000000-0000-0000-0000-{key:012}").parse().expect("a document id")
}

fn row(key: u8, version: i32) -> RowChange {
    let row = DocumentRow {
        id: id(key),
        title: String::new(),
        content_type: "text/plain".into(),
        content_size: 0,
        content_sha256: None,
        s3_key: None,
        status: DocumentStatus::Created,
        created_by: String::new(),
        created_at: OffsetDateTime::UNIX_EPOCH,
        updated_at: OffsetDateTime::UNIX_EPOCH,
        version,
        deleted: false,
    };
    RowChange::Document { before: None, after: Some(row) }
}

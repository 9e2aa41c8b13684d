//! What was read of the log, handed out and acknowledged; pure.

use std::collections::VecDeque;

use dms_core::model::change::{Record, RecordBatch};
use dms_core::ports::BatchLimits;

use super::position::{Lsn, WalPosition};

/// What a record weighs beside its bytes in the log.
const RECORD_BYTES: usize = 512;

/// Progress of one consumer, and the records read ahead for it.
///
/// The records are those of complete transactions, and of at most one that is still being read.
#[derive(Debug)]
pub(super) struct Ledger {
    queue: VecDeque<Item>,
    queue_bytes: usize,
    queue_bytes_max: usize,
    /// How many records at the front belong to complete transactions.
    complete: usize,
    /// Read and not yet acknowledged to the end, in the order of their commits.
    transactions: VecDeque<Transaction>,
    delivered: WalPosition,
    acknowledged: WalPosition,
    confirmed: Lsn,
    received: Lsn,
    /// The furthest place known to be in the log.
    known: Lsn,
}

#[derive(Debug)]
struct Item {
    record: Record,
    at: WalPosition,
    bytes: usize,
    /// On the last record of a transaction, once that is complete.
    end: Option<Lsn>,
}

#[derive(Debug)]
struct Transaction {
    /// Where its commit is.
    commit: Lsn,
    records: u64,
    /// Where its commit ends, once it is complete.
    end: Option<Lsn>,
}

impl Transaction {
    fn last(&self) -> WalPosition {
        WalPosition { lsn: self.commit, index: self.records }
    }
}

impl Ledger {
    pub(super) fn new(queue_bytes_max: usize) -> Self {
        Self {
            queue: VecDeque::new(),
            queue_bytes: 0,
            queue_bytes_max,
            complete: 0,
            transactions: VecDeque::new(),
            delivered: WalPosition::default(),
            acknowledged: WalPosition::default(),
            confirmed: Lsn::default(),
            received: Lsn::default(),
            known: Lsn::default(),
        }
    }

    /// Begins anew after `at`, up to where everything counts as acknowledged.
    pub(super) fn begin(&mut self, at: WalPosition) {
        *self = Self { delivered: at, acknowledged: at, ..Self::new(self.queue_bytes_max) };
        if at.index == 0 {
            self.confirmed = at.lsn;
        }
        self.known = at.lsn;
    }

    /// The stream comes again from what was delivered last, as after a broken connection; `confirmed`
    /// is what the server remembers.
    pub(super) fn resume(&mut self, confirmed: Lsn) {
        self.queue.clear();
        self.queue_bytes = 0;
        self.complete = 0;
        let delivered = self.delivered;
        // What was delivered whole doesn't come again.
        self.transactions.retain(|it| it.end.is_some() && it.last() <= delivered);
        self.confirmed = self.confirmed.max(confirmed);
    }

    pub(super) fn begin_transaction(&mut self, commit: Lsn) {
        self.transactions.push_back(Transaction { commit, records: 0, end: None });
    }

    /// Takes the next record of the transaction that is being read.
    pub(super) fn push(&mut self, record: Record, log_bytes: usize) {
        let Some(transaction) = self.transactions.back_mut() else { return };
        transaction.records += 1;
        let at = transaction.last();
        if at > self.delivered {
            let bytes = log_bytes + RECORD_BYTES;
            self.queue_bytes += bytes;
            self.queue.push_back(Item { record, at, bytes, end: None });
        }
    }

    pub(super) fn commit(&mut self, end: Lsn) {
        let Some(mut transaction) = self.transactions.pop_back() else { return };
        transaction.end = Some(end);
        if let Some(item) = self.queue.back_mut().filter(|it| it.at == transaction.last()) {
            item.end = Some(end);
        }
        self.complete = self.queue.len();
        match self.transactions.back_mut() {
            // Nothing of it is for the consumer: it is over with the one before.
            Some(before) if transaction.records == 0 => before.end = Some(end),
            _ => self.transactions.push_back(transaction),
        }
        self.received_up_to(end);
        self.settle();
    }

    /// Everything that commits before `lsn` has been read.
    pub(super) fn received_up_to(&mut self, lsn: Lsn) {
        self.received = self.received.max(lsn);
        self.known(lsn);
    }

    /// The log is known to reach to `lsn`.
    pub(super) fn known(&mut self, lsn: Lsn) {
        self.known = self.known.max(lsn);
    }

    /// Whether no more should be read for now.
    pub(super) fn is_full(&self) -> bool {
        // A second record shows whether the first one ends its transaction.
        self.queue_bytes >= self.queue_bytes_max && self.queue.len() > 1
    }

    /// The next batch, if there is one. It ends with a transaction unless a larger one fills it.
    pub(super) fn take(&mut self, limits: BatchLimits) -> Option<RecordBatch> {
        let count = self.batch_len(limits);
        let last = self.queue.get(count.checked_sub(1)?)?;
        let position = last.end.map_or(last.at, WalPosition::between);
        self.delivered = self.delivered.max(position);
        let mut records = Vec::with_capacity(count);
        for item in self.queue.drain(..count) {
            self.queue_bytes = self.queue_bytes.saturating_sub(item.bytes);
            records.push(item.record);
        }
        self.complete = self.complete.saturating_sub(count);
        Some(RecordBatch { records, position: position.to_position() })
    }

    fn batch_len(&self, limits: BatchLimits) -> usize {
        let mut bytes = 0_usize;
        let fits = |item: &&Item| {
            bytes = bytes.saturating_add(item.bytes);
            bytes <= limits.bytes_max
        };
        let fitting = self.queue.iter().take(limits.records_max).take_while(fits).count();
        let count = fitting.max(1).min(self.queue.len());
        if count <= self.complete || count < self.queue.len() {
            // Complete, or cut in the midst of a transaction, which goes on in the queue.
            count
        } else if self.complete > 0 {
            self.complete
        } else if self.is_full() {
            count - 1
        } else {
            // The rest of the transaction is on its way.
            0
        }
    }

    /// Everything up to `position` is durable.
    pub(super) fn acknowledge(&mut self, position: WalPosition) {
        let position = position.min(WalPosition { lsn: self.known, index: u64::MAX });
        self.acknowledged = self.acknowledged.max(position);
        if position.index == 0 {
            // Nothing that is still being read counts as over.
            let begun = self.transactions.iter().find(|it| it.end.is_none()).map(|it| it.commit);
            let lsn = begun.map_or(position.lsn, |begun| begun.min(position.lsn));
            self.confirmed = self.confirmed.max(lsn);
        }
        self.settle();
    }

    fn settle(&mut self) {
        while let Some(first) = self.transactions.front() {
            let Some(end) = first.end else { break };
            if first.records > 0 && first.last() > self.acknowledged {
                break;
            }
            self.confirmed = self.confirmed.max(end);
            self.transactions.pop_front();
        }
    }

    /// Where everything that was read is acknowledged, if that is so: what the server says of its
    /// log may then be confirmed too.
    pub(super) fn idle_at(&self) -> Option<WalPosition> {
        (self.transactions.is_empty() && self.queue.is_empty()).then_some(self.acknowledged)
    }

    /// Nothing up to `lsn` is for the consumer that it hasn't acknowledged.
    pub(super) fn skip_to(&mut self, lsn: Lsn) {
        self.confirmed = self.confirmed.max(lsn);
    }

    /// The place up to which the server need keep nothing; the end of a commit, or between.
    pub(super) fn confirmed(&self) -> Lsn {
        self.confirmed
    }

    pub(super) fn received(&self) -> Lsn {
        self.received
    }

    /// Everything that was handed out is up to here.
    pub(super) fn delivered(&self) -> WalPosition {
        self.delivered
    }

    /// How many changes were read and not acknowledged.
    pub(super) fn unacknowledged(&self) -> u64 {
        let count = |it: &Transaction| {
            if it.last() <= self.acknowledged {
                0
            } else if it.commit == self.acknowledged.lsn {
                it.records.saturating_sub(self.acknowledged.index)
            } else {
                it.records
            }
        };
        self.transactions.iter().map(count).sum()
    }

    /// Bytes read ahead.
    #[cfg(test)]
    fn queue_bytes(&self) -> usize {
        self.queue_bytes
    }

    /// Most bytes that were asked for at once, for tests.
    pub(super) fn queued(&self) -> (usize, usize) {
        (self.queue.len(), self.queue_bytes)
    }
}

#[cfg(test)]
mod tests {
    use dms_core::model::change::{PoisonRecord, Position};
    use proptest::prelude::*;

    use super::*;

    /// A record that knows its place.
    fn record(transaction: u64, index: u64) -> Record {
        let position = WalPosition { lsn: Lsn(commit_of(transaction)), index }.to_position();
        Record::Poison(PoisonRecord { position, key: None, raw: vec![], reason: String::new() })
    }

    fn commit_of(transaction: u64) -> u64 {
        100 + transaction * 10
    }

    fn end_of(transaction: u64) -> u64 {
        commit_of(transaction) + 7
    }

    fn place(record: &Record) -> WalPosition {
        let Record::Poison(PoisonRecord { position, .. }) = record else { panic!("no poison") };
        WalPosition::parse(position).expect("a place")
    }

    #[derive(Debug, Clone)]
    enum Step {
        /// The server sends this many messages.
        Read(usize),
        Take {
            records_max: usize,
            bytes_max: usize,
        },
        /// Of the batches delivered, how many are acknowledged.
        Ack(usize),
        /// The connection breaks, and the server begins again.
        Break,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (1..20_usize).prop_map(Step::Read),
            4 => (1..8_usize, prop_oneof![Just(1_usize), 500..9_000_usize])
                .prop_map(|(records_max, bytes_max)| Step::Take { records_max, bytes_max }),
            2 => (0..4_usize).prop_map(Step::Ack),
            1 => Just(Step::Break),
        ]
    }

    /// What a server sends: begin, records, commit of each transaction.
    #[derive(Debug, Clone, Copy)]
    enum Message {
        Begin(u64),
        Record(u64, u64),
        Commit(u64),
    }

    fn messages(sizes: &[u64], from: Lsn) -> VecDeque<Message> {
        let mut messages = VecDeque::new();
        for (transaction, size) in (0..).zip(sizes) {
            // As the server decides what to skip.
            if Lsn(commit_of(transaction)) < from {
                continue;
            }
            messages.push_back(Message::Begin(transaction));
            messages.extend((1..=*size).map(|index| Message::Record(transaction, index)));
            messages.push_back(Message::Commit(transaction));
        }
        messages
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

        /// Nothing is missing, doubled or out of order, whatever breaks; only commit ends are
        /// confirmed, and only those before which everything was acknowledged.
        #[test]
        fn every_record_comes_once_in_order(
            sizes in prop::collection::vec(0..12_u64, 1..12),
            steps in prop::collection::vec(step(), 1..120),
        ) {
            let mut ledger = Ledger::new(4_000);
            ledger.begin(WalPosition::between(Lsn(50)));
            let mut server = messages(&sizes, Lsn(50));
            let mut delivered = Vec::new();
            let mut batches = VecDeque::new();
            let mut acknowledged = WalPosition::between(Lsn(50));
            let drain = [Step::Break]
                .into_iter()
                .chain((0..400).flat_map(|_| {
                    [Step::Read(20), Step::Take { records_max: 5, bytes_max: 3_000 }, Step::Ack(9)]
                }));
            for step in steps.into_iter().chain(drain) {
                match step {
                    Step::Read(count) => {
                        for _ in 0..count {
                            if ledger.is_full() {
                                break;
                            }
                            match server.pop_front() {
                                Some(Message::Begin(it)) => {
                                    ledger.begin_transaction(Lsn(commit_of(it)));
                                }
                                Some(Message::Record(it, index)) => {
                                    ledger.push(record(it, index), 100);
                                }
                                Some(Message::Commit(it)) => ledger.commit(Lsn(end_of(it))),
                                None => {}
                            }
                        }
                        // One record may pass the bound, and one shows what follows.
                        prop_assert!(ledger.queue_bytes() <= 4_000 + 2 * (RECORD_BYTES + 100));
                    }
                    Step::Take { records_max, bytes_max } => {
                        let limits = BatchLimits { records_max, bytes_max };
                        if let Some(batch) = ledger.take(limits) {
                            prop_assert!(!batch.records.is_empty());
                            prop_assert!(batch.records.len() <= records_max);
                            let places: Vec<_> = batch.records.iter().map(place).collect();
                            let position = WalPosition::parse(&batch.position).expect("a place");
                            let last = *places.last().expect("a record");
                            let transaction = (last.lsn.0 - 100) / 10;
                            let size = sizes[usize::try_from(transaction).expect("small")];
                            let expected = if last.index == size {
                                WalPosition::between(Lsn(end_of(transaction)))
                            } else {
                                last
                            };
                            prop_assert_eq!(position, expected);
                            delivered.extend(places);
                            batches.push_back(position);
                        }
                    }
                    Step::Ack(count) => {
                        for position in batches.drain(..count.min(batches.len())) {
                            ledger.acknowledge(position);
                            acknowledged = position;
                        }
                    }
                    Step::Break => {
                        let from = ledger.delivered().lsn.max(ledger.confirmed());
                        ledger.resume(ledger.confirmed());
                        server = messages(&sizes, from);
                    }
                }
                let confirmed = ledger.confirmed().0;
                let is_end = (0..).zip(&sizes).any(|(it, _)| confirmed == end_of(it));
                prop_assert!(is_end || confirmed == 50, "{confirmed} is no commit end");
                let open = delivered.iter().find(|place| **place > acknowledged);
                prop_assert!(open.is_none_or(|place| confirmed <= place.lsn.0), "too far");
                let lag = ledger.unacknowledged();
                prop_assert!(lag >= delivered.iter().filter(|it| **it > acknowledged).count() as u64
                    || !server.is_empty());
            }
            let expected: Vec<_> = (0..)
                .zip(&sizes)
                .flat_map(|(it, size)| (1..=*size).map(move |index| place(&record(it, index))))
                .collect();
            prop_assert_eq!(delivered, expected);
            prop_assert_eq!(ledger.unacknowledged(), 0);
            prop_assert!(ledger.idle_at().is_some());
            let last = u64::try_from(sizes.len()).expect("few") - 1;
            prop_assert_eq!(ledger.confirmed(), Lsn(end_of(last)));
        }
    }

    #[test]
    fn an_acknowledgement_beyond_the_log_is_cut_to_what_is_known() {
        let mut ledger = Ledger::new(1_000);
        ledger.begin(WalPosition::between(Lsn(50)));
        ledger.acknowledge(WalPosition::between(Lsn(u64::MAX)));
        assert_eq!(ledger.confirmed(), Lsn(50));
        ledger.known(Lsn(70));
        ledger.acknowledge(WalPosition::between(Lsn(60)));
        ledger.acknowledge(WalPosition::between(Lsn(55)));
        assert_eq!(ledger.confirmed(), Lsn(60));
    }

    #[test]
    fn a_batch_waits_for_the_end_of_a_transaction_that_fits() {
        let mut ledger = Ledger::new(1 << 20);
        ledger.begin(WalPosition::between(Lsn(50)));
        ledger.begin_transaction(Lsn(100));
        ledger.push(record(0, 1), 10);
        ledger.push(record(0, 2), 10);
        let limits = BatchLimits::default();
        assert_eq!(ledger.take(limits), None);
        ledger.commit(Lsn(107));
        let batch = ledger.take(limits).expect("complete");
        assert_eq!((batch.records.len(), batch.position), (2, Position::new("0/6B")));
    }
}

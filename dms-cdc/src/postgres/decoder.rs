//! Messages of `pgoutput` to changes; pure.
//!
//! The messages are those of protocol version 1, with values as text
//! (<https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html>).

use std::collections::HashMap;

use bytes::Bytes;
use dms_core::model::change::{Change, Operation, Position, Record, RowChange};
use pg_walstream::{LogicalReplicationMessage as Message, LogicalReplicationParser, TupleData};
use time::OffsetDateTime;

use super::position::{Lsn, WalPosition};
use super::raw::{self, Unreadable};
use super::row;
use super::tuple::{Relation, Table, Tuple};

/// Microseconds from 1970-01-01 to 2000-01-01, where PostgreSQL counts from.
const EPOCH_MICROS: i64 = 946_684_800_000_000;
/// First byte of a message that describes a table.
const RELATION: u8 = b'R';

/// What a message means to a consumer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decoded {
    /// A transaction begins; its commit is at this byte of the log.
    Begin(u64),
    /// A change of a row, or something that can't be decoded.
    Record(Record),
    /// The transaction is complete; its commit ends before this byte of the log.
    Commit(u64),
}

/// Decodes messages in the order of the stream, one stream from its beginning.
///
/// It never panics, whatever the messages hold. What can't be read within a transaction becomes
/// poison; unknown tables and columns are passed over; a value that an update left alone is taken
/// from the row before, or else the change is poison.
pub struct WalDecoder {
    parser: LogicalReplicationParser,
    /// By object id; none for a table that is passed over.
    relations: HashMap<u32, Option<Relation>>,
    transaction: Option<Transaction>,
}

/// The transaction that is being read.
#[derive(Clone, Copy)]
struct Transaction {
    commit_lsn: u64,
    committed_at: OffsetDateTime,
    /// Changes so far.
    records: u64,
}

impl Transaction {
    /// Counts a change and gives its position.
    fn next(&mut self) -> Position {
        self.records += 1;
        WalPosition { lsn: Lsn(self.commit_lsn), index: self.records }.to_position()
    }
}

impl Default for WalDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl WalDecoder {
    /// A decoder for a stream that is yet to begin.
    pub fn new() -> Self {
        let parser = LogicalReplicationParser::with_protocol_version(1);
        Self { parser, relations: HashMap::new(), transaction: None }
    }

    /// What `message` adds: nothing if it doesn't concern a consumer, several records only if it
    /// truncates several tables.
    ///
    /// # Errors
    /// With the reason, if the stream can't be followed any more: something unreadable, or a change,
    /// outside of any transaction.
    pub fn decode(&mut self, message: &Bytes) -> Result<Vec<Decoded>, String> {
        let parsed = self.parser.parse_wal_message_bytes(message.clone());
        let parsed = match parsed {
            Ok(parsed) => parsed.message,
            Err(error) => {
                if message.first() == Some(&RELATION) {
                    // Rows would be read by a description that no longer holds.
                    self.relations.clear();
                }
                return self.poison(message, error.to_string());
            }
        };
        match parsed {
            Message::Begin { final_lsn, timestamp, .. } => {
                let committed_at = committed_at(timestamp);
                self.transaction =
                    Some(Transaction { commit_lsn: final_lsn, committed_at, records: 0 });
                Ok(vec![Decoded::Begin(final_lsn)])
            }
            Message::Commit { end_lsn, .. } => match self.transaction.take() {
                Some(_) => Ok(vec![Decoded::Commit(end_lsn)]),
                None => Err("a commit outside of a transaction".into()),
            },
            Message::Relation { relation_id, namespace, relation_name, columns, .. } => {
                let table = Table::of(&namespace, &relation_name);
                let relation = table.map(|table| Relation::new(table, &columns));
                self.relations.insert(relation_id, relation);
                Ok(Vec::new())
            }
            Message::Insert { relation_id, tuple } => {
                self.row(message, relation_id, Operation::Create, None, Some(&tuple))
            }
            Message::Update { relation_id, old_tuple, new_tuple, key_type } => {
                // With any other identity than FULL the row before is its key and nulls.
                let before = old_tuple.as_ref().filter(|_| key_type == Some('O'));
                self.row(message, relation_id, Operation::Update, before, Some(&new_tuple))
            }
            Message::Delete { relation_id, old_tuple, key_type } => {
                if key_type == 'O' {
                    self.row(message, relation_id, Operation::Delete, Some(&old_tuple), None)
                } else if self.concerns(relation_id) {
                    self.poison(message, "a removed row without the row before".into())
                } else {
                    Ok(Vec::new())
                }
            }
            Message::Truncate { relation_ids, .. } => self.truncated(&relation_ids),
            Message::Type { .. } | Message::Origin { .. } | Message::Message { .. } => {
                Ok(Vec::new())
            }
            // Never asked for: transactions in progress, two-phase commit.
            _ => Err("a message of another protocol version".into()),
        }
    }

    /// Whether a table is decoded, or not known at all.
    fn concerns(&self, relation_id: u32) -> bool {
        !matches!(self.relations.get(&relation_id), Some(None))
    }

    fn row(
        &mut self,
        message: &[u8],
        relation_id: u32,
        operation: Operation,
        before: Option<&TupleData>,
        after: Option<&TupleData>,
    ) -> Result<Vec<Decoded>, String> {
        let relation = match self.relations.get(&relation_id) {
            Some(Some(relation)) => relation,
            Some(None) => return Ok(Vec::new()),
            None => return self.poison(message, "a row of a table that was not described".into()),
        };
        let transaction = self.transaction.as_mut().ok_or("a change outside of a transaction")?;
        let position = transaction.next();
        let committed_at = transaction.committed_at;
        let after = after.map(|data| Tuple { relation, data, before });
        let before = before.map(|data| Tuple { relation, data, before: None });
        let record = match row_change(relation.table, operation, before.as_ref(), after.as_ref()) {
            Ok(row) => Record::Change(Box::new(Change { operation, row, position, committed_at })),
            Err(reason) => Unreadable {
                position,
                committed_at,
                entity: relation.table.entity(),
                operation: name(operation),
                // An update may lack it, and it may be what can't be read.
                before: before.filter(|_| after.is_none()),
                after,
                reason,
            }
            .into_record(),
        };
        Ok(vec![Decoded::Record(record)])
    }

    fn truncated(&mut self, relation_ids: &[u32]) -> Result<Vec<Decoded>, String> {
        let mut decoded = Vec::new();
        for id in relation_ids {
            let Some(Some(relation)) = self.relations.get(id) else { continue };
            let transaction =
                self.transaction.as_mut().ok_or("a change outside of a transaction")?;
            let unreadable = Unreadable {
                position: transaction.next(),
                committed_at: transaction.committed_at,
                entity: relation.table.entity(),
                operation: "truncate",
                before: None,
                after: None,
                reason: format!("all rows of {}s were removed at once", relation.table.entity()),
            };
            decoded.push(Decoded::Record(unreadable.into_record()));
        }
        Ok(decoded)
    }

    fn poison(&mut self, message: &[u8], reason: String) -> Result<Vec<Decoded>, String> {
        match &mut self.transaction {
            Some(transaction) => {
                let position = transaction.next();
                let at = transaction.committed_at;
                let record = raw::unreadable_message(position, at, message, reason);
                Ok(vec![Decoded::Record(record)])
            }
            None => Err(reason),
        }
    }
}

fn row_change(
    table: Table,
    operation: Operation,
    before: Option<&Tuple<'_>>,
    after: Option<&Tuple<'_>>,
) -> Result<RowChange, String> {
    match table {
        Table::Documents => {
            let (before, after) = images(operation, before, after, row::document, |row| row.id)?;
            Ok(RowChange::Document { before, after })
        }
        Table::Signatures => {
            let (before, after) = images(operation, before, after, row::signature, |row| row.id)?;
            Ok(RowChange::Signature { before, after })
        }
    }
}

/// The rows before and after. The row before may be missing, so one that can't be read, as that
/// before a repair, is left out; only of a removed row there is nothing else.
fn images<T, Id: PartialEq>(
    operation: Operation,
    before: Option<&Tuple<'_>>,
    after: Option<&Tuple<'_>>,
    read: impl Fn(&Tuple<'_>) -> Result<T, String>,
    id: impl Fn(&T) -> Id,
) -> Result<(Option<T>, Option<T>), String> {
    let after = after.map(&read).transpose()?;
    let before = match (operation, before.map(&read)) {
        (Operation::Delete, Some(Err(reason))) => return Err(reason),
        (_, Some(Ok(row))) => Some(row),
        _ => None,
    };
    match (&before, &after) {
        (Some(before), Some(after)) if id(before) != id(after) => {
            Err("the rows before and after have different ids".into())
        }
        _ => Ok((before, after)),
    }
}

/// As [`RawChange`](crate::RawChange) has it.
const fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "create",
        Operation::Update => "update",
        Operation::Delete => "delete",
        Operation::Snapshot => "snapshot",
    }
}

/// Times out of range, which no commit has, count as the epoch.
fn committed_at(micros: i64) -> OffsetDateTime {
    let unix_nanos = (i128::from(micros) + i128::from(EPOCH_MICROS)) * 1_000;
    OffsetDateTime::from_unix_timestamp_nanos(unix_nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

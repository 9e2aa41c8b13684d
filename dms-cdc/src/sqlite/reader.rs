//! Reads of the change log, bounded in rows and bytes.

use dms_core::Result;
use dms_core::model::change::{PoisonRecord, Position, Record, RecordBatch};
use dms_core::ports::BatchLimits;
use sqlx::SqlitePool;

use super::error::{position_lost, query_failed};
use crate::RawChange;

/// Most rows that are looked at for one batch.
const ROWS_MAX: usize = 65_536;
/// Largest row that is loaded. Triggers write rows of a few kilobytes.
const ROW_BYTES_MAX: i64 = 16 << 20;

const HEAD: &str =
    "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0)";

const BOUNDS: &str = "SELECT coalesce((SELECT min(seq) - 1 FROM change_log), head), head FROM (
    SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'change_log'), 0) AS head)";

// A bare parameter after `LIMIT` would make SQLite prepare the statement anew for each value.
// `octet_length` looks at a record's header alone, however large the values are.
const SIZES: &str = "SELECT seq, octet_length(entity) + octet_length(operation)
        + coalesce(octet_length(before), 0) + coalesce(octet_length(after), 0)
        + octet_length(committed_at)
    FROM change_log WHERE seq > $1 ORDER BY seq LIMIT $2 + 0";

// As blobs: text in SQLite may hold anything, a text column even numbers.
const ROWS: &str = "SELECT seq, CAST(entity AS BLOB), CAST(operation AS BLOB),
        CAST(before AS BLOB), CAST(after AS BLOB), CAST(committed_at AS BLOB)
    FROM change_log WHERE seq > $1 AND seq <= $2 ORDER BY seq";

type Row = (i64, Vec<u8>, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, Vec<u8>);

/// The change log, read.
#[derive(Debug, Clone)]
pub(super) struct Reader(pub(super) SqlitePool);

impl Reader {
    /// The newest position, 0 if there never was a change.
    pub(super) async fn head(&self) -> Result<i64> {
        sqlx::query_scalar(HEAD).fetch_one(&self.0).await.map_err(query_failed)
    }

    /// Fails with `position_lost` unless every change after `seq` is still there.
    pub(super) async fn check(&self, seq: i64) -> Result<()> {
        let (trimmed, head): (i64, i64) =
            sqlx::query_as(BOUNDS).fetch_one(&self.0).await.map_err(query_failed)?;
        if seq < trimmed {
            return Err(position_lost("changes after the position were trimmed from the log"));
        }
        if seq > head {
            return Err(position_lost("the position is beyond the newest change"));
        }
        Ok(())
    }

    /// The changes after `seq`, and the position of the last of them; none if there are none.
    ///
    /// # Errors
    /// `Conflict` with code `position_lost` if the changes right after `seq` are gone.
    pub(super) async fn read(
        &self,
        seq: i64,
        limits: BatchLimits,
    ) -> Result<Option<(i64, RecordBatch)>> {
        let rows_max = i64::try_from(limits.records_max.clamp(1, ROWS_MAX)).unwrap_or(1);
        let sizes: Vec<(i64, i64)> = sqlx::query_as(SIZES)
            .bind(seq)
            .bind(rows_max)
            .fetch_all(&self.0)
            .await
            .map_err(query_failed)?;
        let Some(plan) = Plan::of(&sizes, limits.bytes_max) else {
            self.check(seq).await?;
            return Ok(None);
        };
        let (first, last, records) = match plan {
            Plan::Oversized { seq, bytes } => (seq, seq, vec![oversized(seq, bytes)]),
            Plan::Rows { last } => {
                let rows: Vec<Row> = sqlx::query_as(ROWS)
                    .bind(seq)
                    .bind(last)
                    .fetch_all(&self.0)
                    .await
                    .map_err(query_failed)?;
                let Some(&(first, ..)) = rows.first() else {
                    self.check(seq).await?;
                    return Ok(None);
                };
                (first, last, rows.into_iter().map(decode).collect())
            }
        };
        // Usually the next number, and then nothing can be missing.
        if first != seq + 1 {
            self.check(seq).await?;
        }
        Ok(Some((last, RecordBatch { records, position: position(last) })))
    }
}

/// Which rows make up a batch.
#[derive(Debug, PartialEq, Eq)]
enum Plan {
    Rows { last: i64 },
    Oversized { seq: i64, bytes: i64 },
}

impl Plan {
    fn of(sizes: &[(i64, i64)], bytes_max: usize) -> Option<Self> {
        let bytes_max = i64::try_from(bytes_max).unwrap_or(i64::MAX);
        let &(first, bytes) = sizes.first()?;
        if bytes > ROW_BYTES_MAX {
            return Some(Self::Oversized { seq: first, bytes });
        }
        let (mut last, mut total) = (first, bytes);
        for &(seq, bytes) in &sizes[1..] {
            total = total.saturating_add(bytes);
            if total > bytes_max || bytes > ROW_BYTES_MAX {
                break;
            }
            last = seq;
        }
        Some(Self::Rows { last })
    }
}

fn decode((seq, entity, operation, before, after, committed_at): Row) -> Record {
    RawChange { position: position(seq), entity, operation, before, after, committed_at }.decode()
}

/// A row too large to be loaded: only its position is kept.
fn oversized(seq: i64, bytes: i64) -> Record {
    let (entity, operation, committed_at) = (vec![], vec![], vec![]);
    let (before, after) = (None, None);
    let position = position(seq);
    let row = RawChange { position, entity, operation, before, after, committed_at };
    let reason = format!("a row of {bytes} bytes; at most {ROW_BYTES_MAX} are read");
    Record::Poison(PoisonRecord { raw: row.to_json(), position: row.position, key: None, reason })
}

fn position(seq: i64) -> Position {
    Position::new(seq.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_ends_before_the_row_that_exceeds_it() {
        let sizes = [(3, 10), (4, 10), (7, 10)];
        assert_eq!(Plan::of(&sizes, 30), Some(Plan::Rows { last: 7 }));
        assert_eq!(Plan::of(&sizes, 29), Some(Plan::Rows { last: 4 }));
        assert_eq!(Plan::of(&sizes, 0), Some(Plan::Rows { last: 3 }));
        assert_eq!(Plan::of(&[], 30), None);
    }

    #[test]
    fn a_row_too_large_to_load_comes_alone() {
        let huge = ROW_BYTES_MAX + 1;
        let sizes = [(1, 10), (2, huge), (3, 10)];
        assert_eq!(Plan::of(&sizes, usize::MAX), Some(Plan::Rows { last: 1 }));
        let expected = Plan::Oversized { seq: 2, bytes: huge };
        assert_eq!(Plan::of(&sizes[1..], usize::MAX), Some(expected));
    }
}

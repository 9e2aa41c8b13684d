//! Frames: what a live connection sends to a client.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::change::{Change, DocumentRow, Operation, RowChange};
use super::{Document, timestamp};

/// One message of a live connection, as JSON text `{"type","data","timestamp"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    /// `document.snapshot`, `document.created`, `document.updated`, `document.STATUS`,
    /// `document.deleted` or `signature.created`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What happened.
    pub data: Value,
    /// When, in milliseconds since 1970.
    pub timestamp: i64,
}

impl Frame {
    /// The first frame of a connection: the document as it is.
    pub fn snapshot(document: &Document, now: OffsetDateTime) -> Self {
        Self {
            kind: "document.snapshot".into(),
            data: json!(document),
            timestamp: unix_millis(now),
        }
    }

    /// The frames a change gives: none if it changed nothing a client sees, two if status and
    /// title changed at once.
    pub fn of_change(change: &Change) -> Vec<Self> {
        let timestamp = unix_millis(change.committed_at);
        match &change.row {
            RowChange::Document { before, after } => {
                document_frames(change.operation, before.as_ref(), after.as_ref(), timestamp)
            }
            RowChange::Signature { after: Some(row), .. }
                if change.operation == Operation::Create =>
            {
                vec![Self {
                    kind: "signature.created".into(),
                    data: json!({
                        "id": row.id,
                        "document_id": row.document_id,
                        "signer_name": row.signer_name,
                        "signer_email": row.signer_email,
                        "created_at": timestamp::format(row.created_at),
                    }),
                    timestamp,
                }]
            }
            RowChange::Signature { .. } => Vec::new(),
        }
    }

    /// The document version the frame tells of, if it tells of one.
    pub fn version(&self) -> Option<i32> {
        self.data.get("version").and_then(Value::as_i64).and_then(|v| i32::try_from(v).ok())
    }
}

fn document_frames(
    operation: Operation,
    before: Option<&DocumentRow>,
    after: Option<&DocumentRow>,
    timestamp: i64,
) -> Vec<Frame> {
    let frame = |kind: String, row: &DocumentRow| Frame {
        kind,
        data: json!({
            "id": row.id,
            "title": row.title,
            "old_status": before.map(|row| row.status),
            "new_status": row.status,
            "version": row.version,
        }),
        timestamp,
    };
    let Some(after) = after else {
        return before.map(|row| frame("document.deleted".into(), row)).into_iter().collect();
    };
    if after.deleted {
        return match before {
            Some(before) if before.deleted => Vec::new(),
            _ => vec![frame("document.deleted".into(), after)],
        };
    }
    match (operation, before) {
        (Operation::Create, _) => vec![frame("document.created".into(), after)],
        (Operation::Snapshot | Operation::Delete, _) => Vec::new(),
        // Without the row before it can't be told what changed.
        (Operation::Update, None) => vec![frame("document.updated".into(), after)],
        (Operation::Update, Some(before)) => {
            let mut frames = Vec::new();
            if before.title != after.title || before.content_sha256 != after.content_sha256 {
                frames.push(frame("document.updated".into(), after));
            }
            if before.status != after.status {
                frames.push(frame(format!("document.{}", after.status), after));
            }
            frames
        }
    }
}

fn unix_millis(at: OffsetDateTime) -> i64 {
    timestamp::to_unix_micros(at) / 1_000
}

//! A document's history, as the change stream would carry it.

use dms_core::model::change::{Change, DocumentRow, Operation, Position, RowChange, SignatureRow};
use dms_core::{Document, DocumentId, DocumentStatus, Sha256, SignatureId};
use serde_json::Value;
use time::OffsetDateTime;

/// Makes changes of one document, each of the next version.
pub(crate) struct History {
    row: DocumentRow,
}

impl History {
    pub(crate) fn new() -> Self {
        let id = DocumentId::generate();
        let row = DocumentRow {
            id,
            title: "Contract".into(),
            content_type: "text/plain".into(),
            content_size: 5,
            content_sha256: Some(Sha256::of(b"hello")),
            s3_key: Some(Document::content_key(id)),
            status: DocumentStatus::Created,
            created_by: "ann".into(),
            created_at: OffsetDateTime::UNIX_EPOCH,
            updated_at: OffsetDateTime::UNIX_EPOCH,
            version: 1,
            deleted: false,
        };
        Self { row }
    }

    pub(crate) fn id(&self) -> DocumentId {
        self.row.id
    }

    pub(crate) fn version(&self) -> i32 {
        self.row.version
    }

    pub(crate) fn document(&self) -> Document {
        self.row.clone().into_document().expect("a live document")
    }

    fn update(&mut self, update: impl FnOnce(&mut DocumentRow)) -> Change {
        let before = self.row.clone();
        update(&mut self.row);
        self.row.version += 1;
        let row = RowChange::Document { before: Some(before), after: Some(self.row.clone()) };
        change(Operation::Update, row, format!("{}", self.row.version))
    }

    pub(crate) fn set_title(&mut self, title: &str) -> Change {
        self.update(|row| row.title = title.into())
    }

    /// Gives each version another title.
    pub(crate) fn retitle(&mut self) -> Change {
        let title = format!("Contract {}", self.row.version + 1);
        self.set_title(&title)
    }

    pub(crate) fn set_status(&mut self, status: DocumentStatus) -> Change {
        self.update(|row| row.status = status)
    }

    pub(crate) fn set_both(&mut self, title: &str, status: DocumentStatus) -> Change {
        self.update(|row| {
            row.title = title.into();
            row.status = status;
        })
    }

    pub(crate) fn delete(&mut self) -> Change {
        self.update(|row| row.deleted = true)
    }

    /// The row itself is removed: its version stays.
    pub(crate) fn remove(&self) -> Change {
        let row = RowChange::Document { before: Some(self.row.clone()), after: None };
        change(Operation::Delete, row, format!("{}-removed", self.row.version))
    }

    pub(crate) fn sign(&self) -> Change {
        let id = SignatureId::generate();
        let row = SignatureRow {
            id,
            document_id: self.row.id,
            signer_email: "bob@example.org".into(),
            signer_name: "Bob".into(),
            created_at: OffsetDateTime::UNIX_EPOCH,
        };
        let row = RowChange::Signature { before: None, after: Some(row) };
        change(Operation::Create, row, format!("s-{id}"))
    }
}

fn change(operation: Operation, row: RowChange, position: String) -> Change {
    let committed_at = OffsetDateTime::UNIX_EPOCH;
    Change { operation, row, position: Position::new(position), committed_at }
}

pub(crate) fn parse(text: &str) -> Value {
    serde_json::from_str(text).expect("a frame is JSON")
}

/// Type and version of a frame.
pub(crate) fn summary(text: &str) -> (String, Option<i64>) {
    let frame = parse(text);
    let kind = frame["type"].as_str().expect("a frame has a type").to_owned();
    (kind, frame["data"]["version"].as_i64())
}

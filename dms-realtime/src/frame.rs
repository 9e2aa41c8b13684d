//! Frames ready to be sent: serialised once, with what the hub must know of them.

use dms_core::model::change::{Change, RowChange};
use dms_core::{Document, Frame, SignatureId};
use time::OffsetDateTime;

use crate::Text;

/// A frame as JSON text, shared by every connection it goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFrame {
    text: Text,
    version: Option<i32>,
    completes_version: bool,
    deletes: bool,
}

impl LiveFrame {
    /// The first frame of a connection: the document as it is.
    pub fn snapshot(document: &Document, now: OffsetDateTime) -> Self {
        Self::of(&Frame::snapshot(document, now), true)
    }

    fn of(frame: &Frame, last_of_change: bool) -> Self {
        let version = frame.version();
        Self {
            // A frame has string keys and finite numbers only, which always have a JSON form.
            text: Text::from(serde_json::to_string(frame).unwrap_or_default()),
            version,
            completes_version: version.is_some() && last_of_change,
            deletes: frame.kind == "document.deleted",
        }
    }

    /// The JSON text `{"type","data","timestamp"}`.
    pub fn text(&self) -> &Text {
        &self.text
    }

    /// The JSON text.
    pub fn into_text(self) -> Text {
        self.text
    }

    /// The document version it tells of; none for a signature.
    pub fn version(&self) -> Option<i32> {
        self.version
    }

    /// Whether a client that has it knows everything of its version: the last frame of a change.
    pub fn completes_version(&self) -> bool {
        self.completes_version
    }

    /// Whether it says that the document is deleted, after which nothing follows.
    pub fn deletes(&self) -> bool {
        self.deletes
    }
}

/// What a publication is about, as far as order and repetition are concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Document { version: i32, deleted: bool },
    Signature(SignatureId),
}

/// The frames of one change; they are sent together or not at all.
#[derive(Debug)]
pub(crate) struct Publication {
    pub(crate) subject: Subject,
    pub(crate) frames: Vec<LiveFrame>,
}

impl Publication {
    /// None if the change gives no frame.
    pub(crate) fn of_change(change: &Change) -> Option<Self> {
        let frames = Frame::of_change(change);
        let last = frames.len().checked_sub(1)?;
        let frames: Vec<_> =
            frames.iter().enumerate().map(|(i, frame)| LiveFrame::of(frame, i == last)).collect();
        let subject = match &change.row {
            RowChange::Signature { after, before } => {
                Subject::Signature(after.as_ref().or(before.as_ref())?.id)
            }
            RowChange::Document { .. } => Subject::Document {
                version: frames.iter().find_map(LiveFrame::version)?,
                deleted: frames.iter().any(LiveFrame::deletes),
            },
        };
        Some(Self { subject, frames })
    }
}

//! Schemas of what `dms-core` defines, which knows nothing of `OpenAPI`. Tests hold the two together.
#![expect(dead_code, reason = "read by the derived schemas alone")]

use utoipa::ToSchema;

/// A document.
#[derive(ToSchema)]
#[schema(as = Document)]
pub(crate) struct Document {
    /// Its id, a `UUIDv7`.
    pub(crate) id: uuid::Uuid,
    /// 1–500 characters.
    pub(crate) title: String,
    /// Media type of the content.
    pub(crate) content_type: String,
    /// Size of the content in bytes.
    pub(crate) content_size: u64,
    /// SHA-256 of the content, in hexadecimal.
    #[schema(pattern = "^[0-9a-f]{64}$")]
    pub(crate) content_sha256: String,
    /// Where the content is kept: `ID/content`.
    pub(crate) s3_key: String,
    /// Where it stands.
    pub(crate) status: DocumentStatus,
    /// Who created it, 1–320 characters.
    pub(crate) created_by: String,
    /// When it was created, to the microsecond.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: String,
    /// When it was last changed, to the microsecond.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) updated_at: String,
    /// Raised by one on each change; starts at 1.
    #[schema(minimum = 1)]
    pub(crate) version: i32,
}

/// Where a document stands. Any status may follow any other.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum DocumentStatus {
    /// Nobody has acted on it yet.
    Created,
    /// Somebody has opened it.
    Viewed,
    /// Somebody has signed it.
    Signed,
}

/// Somebody's signature under a document.
#[derive(ToSchema)]
#[schema(as = Signature)]
pub(crate) struct Signature {
    /// Its id, a `UUIDv7`.
    pub(crate) id: uuid::Uuid,
    /// The document.
    pub(crate) document_id: uuid::Uuid,
    /// Address of the signer.
    pub(crate) signer_email: String,
    /// Name of the signer.
    pub(crate) signer_name: String,
    /// Where the image is kept: `signatures/ID/image`.
    pub(crate) image_key: String,
    /// Media type of the image, by its first bytes.
    pub(crate) image_content_type: String,
    /// When it was made, to the microsecond.
    #[schema(value_type = String, format = DateTime)]
    pub(crate) created_at: String,
    /// Whether the document has been told.
    pub(crate) document_status: AppliedStatus,
}

/// Whether a document has been told of a signature.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum AppliedStatus {
    /// Recorded; the document will become `signed`.
    Pending,
    /// The document became `signed` because of it.
    Signed,
}

/// A document that matched a search.
#[derive(ToSchema)]
pub(crate) struct SearchHit {
    /// The document.
    #[serde(flatten)]
    pub(crate) document: Document,
    /// How well it matched; 0 without text.
    pub(crate) score: f32,
    /// What matched.
    pub(crate) highlights: Highlights,
}

/// The parts that matched: hits in `<em>`, everything else escaped as HTML.
#[derive(ToSchema)]
pub(crate) struct Highlights {
    /// Of the title.
    #[schema(required = false)]
    pub(crate) title: Vec<String>,
    /// Of the content.
    #[schema(required = false)]
    pub(crate) content: Vec<String>,
}

/// A value and how many documents have it.
#[derive(ToSchema)]
pub(crate) struct Bucket {
    /// The value.
    pub(crate) key: String,
    /// How many documents have it.
    pub(crate) count: u64,
}

/// Creates a document from a form, its file streamed.
#[derive(ToSchema)]
pub(crate) struct CreateDocumentForm {
    /// 1–500 characters, none a control character.
    #[schema(min_length = 1, max_length = 500)]
    pub(crate) title: String,
    /// Who creates it, 1–320 characters.
    #[schema(min_length = 1, max_length = 320)]
    pub(crate) created_by: String,
    /// Media type of the content; if left out, what the file's part says, else `text/plain`.
    #[schema(max_length = 127)]
    pub(crate) content_type: Option<String>,
    /// The content.
    #[schema(value_type = String, format = Binary)]
    pub(crate) file: Vec<u8>,
}

/// A field whose values can be counted.
#[derive(ToSchema)]
#[schema(as = AggregationField, rename_all = "snake_case")]
pub(crate) enum AggregationFieldSchema {
    /// Status.
    Status,
    /// Creator.
    CreatedBy,
    /// Media type.
    ContentType,
}

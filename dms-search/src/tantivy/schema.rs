//! What is kept of a document, and how.

use dms_core::model::change::DocumentRow;
use dms_core::model::search::{AggregationField, IndexEntry};
use dms_core::{Document, Error, Result, Sha256};
use tantivy::schema::{
    BytesOptions, FAST, Field, INDEXED, IndexRecordOption, STORED, Schema, TextFieldIndexing,
    TextOptions, Value as _,
};
use tantivy::{DocId, IndexSettings, SegmentReader, TantivyDocument, Term};
use uuid::Uuid;

/// Raised whenever documents have to be analysed anew though the schema is the same.
const ANALYSIS: u32 = 1;

/// Name of the tokenizer of analysed fields.
pub(super) const WORDS: &str = "words";
/// Name of tantivy's own tokenizer for exact fields.
const EXACT: &str = "raw";

const ID_HIGH: &str = "id_high";
const ID_LOW: &str = "id_low";
const VERSION: &str = "version";

/// Blocks of stored documents, in bytes before compression: one is read for each hit, so a small
/// document should not come with many others.
const STORE_BLOCK_BYTES: usize = 4 << 10;

/// The fields of the schema.
///
/// A mark of a deleted document has an id and a version and nothing else, so that it can't be found
/// by anything.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// The id's 16 bytes, to find a document by.
    id: Field,
    /// The id again as two numbers, to sort by.
    id_high: Field,
    id_low: Field,
    version: Field,
    /// Analysed.
    pub(super) title: Field,
    pub(super) created_by: Field,
    pub(super) content: Field,
    /// Exact.
    pub(super) status_exact: Field,
    pub(super) created_by_exact: Field,
    pub(super) content_type_exact: Field,
    /// 1 for every document that isn't deleted.
    live: Field,
    /// The whole row in JSON: what a hit answers.
    row: Field,
}

impl Fields {
    /// The schema and its fields.
    pub(super) fn new() -> (Schema, Self) {
        let analysed = TextOptions::default().set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer(WORDS)
                .set_index_option(IndexRecordOption::WithFreqsAndPositions),
        );
        let exact = TextOptions::default().set_fast(EXACT).set_indexing_options(
            TextFieldIndexing::default()
                .set_tokenizer(EXACT)
                .set_fieldnorms(false)
                .set_index_option(IndexRecordOption::Basic),
        );
        let mut schema = Schema::builder();
        let fields = Self {
            id: schema.add_bytes_field("id", BytesOptions::default().set_indexed()),
            id_high: schema.add_u64_field(ID_HIGH, FAST),
            id_low: schema.add_u64_field(ID_LOW, FAST),
            version: schema.add_i64_field(VERSION, FAST),
            title: schema.add_text_field("title", analysed.clone()),
            created_by: schema.add_text_field("created_by", analysed.clone()),
            content: schema.add_text_field("content", analysed.set_stored()),
            status_exact: schema
                .add_text_field(exact_name(AggregationField::Status), exact.clone()),
            created_by_exact: schema
                .add_text_field(exact_name(AggregationField::CreatedBy), exact.clone()),
            content_type_exact: schema
                .add_text_field(exact_name(AggregationField::ContentType), exact),
            live: schema.add_u64_field("live", INDEXED),
            row: schema.add_bytes_field("row", STORED),
        };
        (schema.build(), fields)
    }

    /// What tantivy is told to keep of an entry.
    pub(super) fn document(&self, entry: &IndexEntry) -> Result<TantivyDocument> {
        let row = &entry.row;
        let (high, low) = row.id.as_uuid().as_u64_pair();
        let mut document = TantivyDocument::default();
        document.add_bytes(self.id, row.id.as_uuid().as_bytes());
        document.add_u64(self.id_high, high);
        document.add_u64(self.id_low, low);
        document.add_i64(self.version, i64::from(row.version));
        if !row.deleted {
            document.add_text(self.title, &row.title);
            document.add_text(self.created_by, &row.created_by);
            document.add_text(self.content, &entry.text);
            document.add_text(self.status_exact, row.status.as_str());
            document.add_text(self.created_by_exact, &row.created_by);
            document.add_text(self.content_type_exact, &row.content_type);
            document.add_u64(self.live, 1);
            let json = serde_json::to_vec(row)
                .map_err(|e| Error::internal("row can't be written as json").with_source(e))?;
            document.add_bytes(self.row, &json);
        }
        Ok(document)
    }

    /// The document and the text that were kept.
    pub(super) fn hit<'a>(&self, stored: &'a TantivyDocument) -> Result<(Document, &'a str)> {
        let row = stored.get_first(self.row);
        let row = row.as_ref().and_then(tantivy::schema::Value::as_bytes).unwrap_or_default();
        let row: DocumentRow = serde_json::from_slice(row)
            .map_err(|e| Error::internal("stored row can't be read").with_source(e))?;
        let text = stored.get_first(self.content).and_then(|value| value.as_str());
        row.into_document()
            .map(|document| (document, text.unwrap_or_default()))
            .ok_or_else(|| Error::internal("stored row has no content"))
    }

    /// Matches the document with this id, deleted or not.
    pub(super) fn id_term(&self, id: Uuid) -> Term {
        Term::from_field_bytes(self.id, id.as_bytes())
    }

    /// The field of ids.
    pub(super) fn id(&self) -> Field {
        self.id
    }

    /// Matches every document that isn't deleted.
    pub(super) fn live_term(&self) -> Term {
        Term::from_field_u64(self.live, 1)
    }
}

/// Name of the exact field that holds the values of `field`.
pub(super) const fn exact_name(field: AggregationField) -> &'static str {
    match field {
        AggregationField::Status => "status_exact",
        AggregationField::CreatedBy => "created_by_exact",
        AggregationField::ContentType => "content_type_exact",
    }
}

/// How files are written.
pub(super) fn settings() -> IndexSettings {
    IndexSettings {
        docstore_blocksize: STORE_BLOCK_BYTES,
        // A thread for each small batch costs more than it gives.
        docstore_compress_dedicated_thread: false,
        ..IndexSettings::default()
    }
}

/// Tells indexes apart that can't be read as one another.
pub(super) fn fingerprint(schema: &Schema) -> Result<String> {
    let shape = serde_json::to_string(&(schema, settings(), ANALYSIS))
        .map_err(|e| Error::internal("schema can't be written as json").with_source(e))?;
    let mut digest = Sha256::of(shape.as_bytes()).to_string();
    digest.truncate(16);
    Ok(digest)
}

/// Ids of a segment's documents, by their numbers.
pub(super) struct Ids {
    high: tantivy::columnar::Column<u64>,
    low: tantivy::columnar::Column<u64>,
}

impl Ids {
    /// # Errors
    /// If the segment can't be read.
    pub(super) fn open(segment: &SegmentReader) -> tantivy::Result<Self> {
        let fast = segment.fast_fields();
        Ok(Self { high: fast.u64(ID_HIGH)?, low: fast.u64(ID_LOW)? })
    }

    /// The more significant half: in UUIDv7 it holds the time.
    pub(super) fn high(&self, document: DocId) -> u64 {
        self.high.first(document).unwrap_or_default()
    }

    pub(super) fn low(&self, document: DocId) -> u64 {
        self.low.first(document).unwrap_or_default()
    }
}

/// Versions of a segment's documents.
pub(super) fn versions(segment: &SegmentReader) -> tantivy::Result<tantivy::columnar::Column<i64>> {
    segment.fast_fields().i64(VERSION)
}

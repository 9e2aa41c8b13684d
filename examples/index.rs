//! One crate alone: a full-text index of documents that the program keeps itself.

use std::error::Error;

use dms_core::model::change::DocumentRow;
use dms_core::model::search::{IndexEntry, SearchQuery};
use dms_core::ports::{Clock as _, SearchIndex as _, SystemClock};
use dms_core::{DocumentId, DocumentStatus, Sha256};
use dms_search::{TantivyIndex, TantivyOptions};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let index = TantivyIndex::open(folder.path(), TantivyOptions::default())?;
    let now = SystemClock.now();
    let id = DocumentId::generate();
    let text = "The quick brown fox jumps over the lazy dog";
    let row = DocumentRow {
        id,
        title: "Pangram".into(),
        content_type: "text/plain".into(),
        content_size: text.len() as u64,
        content_sha256: Some(Sha256::of(text.as_bytes())),
        s3_key: Some(format!("{id}/content")),
        status: DocumentStatus::Created,
        created_by: "ann@example.org".into(),
        created_at: now,
        updated_at: now,
        version: 1,
        deleted: false,
    };
    index.write(vec![IndexEntry { row, text: text.into() }], None).await?;
    let query = SearchQuery { text: Some("\"brown fox\"".into()), ..SearchQuery::default() };
    for hit in index.search(&query).await?.hits {
        println!("{} ({}): {:?}", hit.document.title, hit.score, hit.highlights.content);
    }
    Ok(())
}

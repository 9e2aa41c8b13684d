//! Code that uses a port, tested on the in-memory fake: no file, no service.

use std::sync::Arc;

use dms_core::fake::{
    InMemoryBlobStore, InMemoryDatabase, InMemoryDocumentCache, InMemoryViewCounter,
};
use dms_core::use_cases::{
    CreateDocument, DocumentLimits, Documents, DocumentsPorts, bytes_stream,
};
use dms_core::{Caller, ListQuery, Result};

/// What somebody builds on the use cases: the titles of a creator's documents.
async fn titles_of(documents: &Documents, creator: &str) -> Result<Vec<String>> {
    let query = ListQuery { created_by: Some(creator.to_owned()), ..ListQuery::default() };
    let page = documents.list(&Caller::system("report"), &query).await?;
    Ok(page.documents.into_iter().map(|document| document.title).collect())
}

/// The use cases on fakes.
fn documents_in_memory() -> Documents {
    let database = InMemoryDatabase::default();
    let ports = DocumentsPorts {
        documents: Arc::new(database.documents()),
        blobs: Arc::new(InMemoryBlobStore::default()),
        cache: Arc::new(InMemoryDocumentCache::new()),
        views: Arc::new(InMemoryViewCounter::new()),
        idempotency: Arc::new(database.idempotency()),
    };
    Documents::new(ports, DocumentLimits::default())
}

#[tokio::main]
async fn main() -> Result<()> {
    println!("{:?}", example().await?);
    Ok(())
}

async fn example() -> Result<Vec<String>> {
    let documents = documents_in_memory();
    for (title, creator) in [("mine", "ann"), ("yours", "bob"), ("mine too", "ann")] {
        let request =
            CreateDocument { title: title.into(), created_by: creator.into(), content_type: None };
        documents.create(&Caller::default(), request, bytes_stream("words"), None).await?;
    }
    titles_of(&documents, "ann").await
}

#[tokio::test]
async fn titles_are_those_of_one_creator_newest_first() {
    assert_eq!(example().await.expect("titles"), ["mine too", "mine"]);
}

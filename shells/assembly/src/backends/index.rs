//! The search index: tantivy, or Elasticsearch.

use std::sync::Arc;

use dms_core::ports::SearchIndex;
use dms_core::{Error, Result};
use dms_runtime::settings::SearchLocation;
use dms_search::{TantivyIndex, TantivyOptions};

pub(crate) async fn open_index(location: &SearchLocation) -> Result<Arc<dyn SearchIndex>> {
    match location {
        SearchLocation::Files(folder) => {
            let folder = folder.clone();
            // Opening maps files and may repair the folder.
            let opened = tokio::task::spawn_blocking(move || {
                TantivyIndex::open(&folder, TantivyOptions::default())
            });
            match opened.await {
                Ok(index) => Ok(Arc::new(index?)),
                Err(panicked) => {
                    Err(Error::internal("opening the index failed").with_source(panicked))
                }
            }
        }
        #[cfg(feature = "engines")]
        SearchLocation::Elasticsearch { url, alias } => {
            super::engines::elasticsearch(url, alias.as_deref())
        }
        other => Err(super::storage::not_built(other)),
    }
}

//! The index in Elasticsearch 8.
//!
//! One index behind an alias, written with external versions: Elasticsearch itself refuses what is
//! older than what it has. Deleted documents stay as marks. The place in the stream isn't kept
//! here, but by whoever feeds the stream.
//!
//! Opening needs no Elasticsearch. While it is away every call fails with `Unavailable` within the
//! bounds of [`ElasticsearchOptions`], and succeeds again once it is back; a write that was refused
//! because the disk is full, or the index is gone, fails as a whole and is to be repeated.

mod bulk;
mod client;
mod error;
mod lifecycle;
mod mapping;
mod options;
mod query;
mod reading;
mod staging;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use dms_core::model::change::Position;
use dms_core::model::search::{
    AggregationQuery, Bucket, IndexEntry, IndexVersion, SearchQuery, SearchResults,
};
use dms_core::ports::{
    IndexProgress, Outcome, SearchIndex, StagedIndex, index_missing, rebuild_running,
};
use dms_core::{DocumentId, Error, Result, validate};
use reqwest::Method;
use serde::Deserialize;
use uuid::Uuid;

use self::client::{Class, Client, Payload};
use self::lifecycle::Lifecycle;
use self::mapping::MAPPING;
pub use self::options::{ElasticsearchOptions, RefreshPolicy};
use self::staging::Staged;

/// Name of the index in errors and readiness.
const DEPENDENCY: &str = "search";

/// A search index in Elasticsearch. Cheap to share behind an [`Arc`]; needs a tokio runtime.
///
/// A future may be dropped at any time: a write may then have been applied or not, in part or
/// whole.
pub struct ElasticsearchIndex {
    shared: Arc<Shared>,
    /// Under which it is read and written.
    alias: String,
    layout: Mutex<Option<Layout>>,
    /// Whether it is known to be built.
    is_built: AtomicBool,
    staged: tokio::sync::Mutex<Weak<Staged>>,
}

/// What an index and the one that is built beside it have in common.
struct Shared {
    client: Client,
    options: ElasticsearchOptions,
    /// Names this process as a builder.
    builder: String,
}

impl Shared {
    fn lifecycle(&self) -> Lifecycle<'_> {
        Lifecycle { client: &self.client, options: &self.options }
    }
}

/// How the present index is written to.
#[derive(Debug, Clone)]
struct Layout {
    alias: String,
    /// Its fields, unless it has all that are sent.
    fields: Option<Arc<HashSet<String>>>,
}

impl ElasticsearchIndex {
    /// An index at an address. Connects at the first call.
    ///
    /// # Errors
    /// `Invalid` for an address, an alias or certificates that can't be used.
    pub fn new(options: ElasticsearchOptions) -> Result<Self> {
        options::check_alias(&options.alias)?;
        let client = Client::new(&options)?;
        let alias = options.alias.clone();
        let builder = Uuid::now_v7().to_string();
        Ok(Self::of(Arc::new(Shared { client, options, builder }), alias))
    }

    fn of(shared: Arc<Shared>, alias: String) -> Self {
        Self {
            shared,
            alias,
            layout: Mutex::default(),
            is_built: AtomicBool::new(false),
            staged: tokio::sync::Mutex::default(),
        }
    }

    fn forget_layout(&self) {
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.is_built.store(false, Ordering::Release);
    }

    /// How the index is laid out; asked for once.
    ///
    /// One of another layout is written to through an alias of its own, which goes with it: what
    /// lacks fields can't get into the index that takes its place.
    async fn layout(&self) -> Result<Layout> {
        let known = self.layout.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(layout) = known {
            return Ok(layout);
        }
        let lifecycle = self.shared.lifecycle();
        let (name, mapping) = lifecycle.mapping(&self.alias).await?.ok_or_else(index_missing)?;
        let is_current = mapping.meta().is_some_and(|meta| meta.mapping == MAPPING);
        let layout = if is_current {
            Layout { alias: self.alias.clone(), fields: None }
        } else {
            let alias = lifecycle.outdated_alias();
            lifecycle.add_alias(&name, &alias).await?;
            Layout { alias, fields: Some(Arc::new(mapping.fields())) }
        };
        *self.layout.lock().unwrap_or_else(PoisonError::into_inner) = Some(layout.clone());
        Ok(layout)
    }

    async fn put(&self, entries: Vec<IndexEntry>) -> Result<Vec<Outcome>> {
        let options = &self.shared.options;
        let layout = self.layout().await?;
        let writing = bulk::Writing {
            alias: layout.alias,
            refresh: match options.refresh {
                RefreshPolicy::Interval => "false",
                RefreshPolicy::WaitFor => "wait_for",
                RefreshPolicy::Immediate => "true",
            },
            fields: layout.fields,
            bytes_max: options.bulk_bytes_max,
            parts_max: options.writes_max,
        };
        bulk::write(&self.shared.client, writing, entries).await
    }
}

impl std::fmt::Debug for ElasticsearchIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ElasticsearchIndex")
            .field("alias", &self.alias)
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl SearchIndex for ElasticsearchIndex {
    async fn search(&self, query: &SearchQuery) -> Result<SearchResults> {
        validate::search(query)?;
        self.find(query).await
    }

    async fn aggregate(&self, query: &AggregationQuery) -> Result<Vec<Bucket>> {
        validate::aggregation(query)?;
        self.values(query).await
    }

    async fn write(
        &self,
        entries: Vec<IndexEntry>,
        up_to: Option<Position>,
    ) -> Result<Vec<Outcome>> {
        let written = async {
            let outcomes = self.put(entries).await?;
            let is_final = |outcome: &Outcome| !matches!(outcome, Outcome::Retry(_));
            if up_to.is_some()
                && outcomes.iter().all(is_final)
                && !self.is_built.load(Ordering::Acquire)
            {
                self.shared.lifecycle().set_built(&self.alias).await?;
                self.is_built.store(true, Ordering::Release);
            }
            Ok(outcomes)
        };
        let result: Result<_> = written.await;
        if result.as_ref().is_err_and(error::is_about_layout) {
            self.forget_layout();
        }
        result
    }

    async fn refresh(&self) -> Result<()> {
        let path = format!("{}/_refresh", self.alias);
        self.shared.lifecycle().change(Method::POST, &path, Payload::Nothing).await
    }

    async fn progress(&self) -> Result<IndexProgress> {
        let found = self.shared.lifecycle().mapping(&self.alias).await?;
        let meta = found.as_ref().and_then(|(_, mapping)| mapping.meta());
        self.forget_layout();
        Ok(match meta {
            None => IndexProgress::New,
            Some(meta) if !meta.built => IndexProgress::New,
            Some(meta) if meta.mapping != MAPPING => IndexProgress::Outdated,
            Some(_) => IndexProgress::Built,
        })
    }

    async fn versions(&self, after: Option<DocumentId>, limit: u32) -> Result<Vec<IndexVersion>> {
        self.versions_after(after, limit).await
    }

    async fn versions_of(&self, ids: &[DocumentId]) -> Result<Vec<IndexVersion>> {
        self.versions_now(ids).await
    }

    async fn stage(&self) -> Result<Option<Arc<dyn StagedIndex>>> {
        let mut staged = self.staged.lock().await;
        if staged.upgrade().is_some_and(|begun| !begun.is_over.load(Ordering::Acquire)) {
            return Err(rebuild_running());
        }
        let begun = Arc::new(Staged::open(Arc::clone(&self.shared)).await?);
        *staged = Arc::downgrade(&begun);
        Ok(Some(begun))
    }

    async fn clear(&self) -> Result<()> {
        if self.alias != self.shared.options.alias {
            return Err(Error::internal("a staged index can't be cleared"));
        }
        self.forget_layout();
        self.shared.lifecycle().start_afresh().await
    }

    async fn count(&self) -> Result<u64> {
        self.number().await
    }

    /// Whether the index serves: its shards are there, too.
    async fn check(&self) -> Result<()> {
        let path = format!("{}/_count?terminate_after=1", self.alias);
        let client = &self.shared.client;
        let counted: Checked =
            client.json(Class::Search, Method::GET, &path, Payload::Nothing).await?;
        if counted.shards.failed > 0 {
            return Err(Error::unavailable(DEPENDENCY, "shards of the search index are missing"));
        }
        Ok(())
    }
}

#[derive(Deserialize)]
struct Checked {
    #[serde(rename = "_shards")]
    shards: CheckedShards,
}

#[derive(Deserialize)]
struct CheckedShards {
    failed: u64,
}

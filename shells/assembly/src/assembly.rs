//! The backends of one program.

use std::sync::Arc;
use std::time::Duration;

use dms_cdc::RunnerState;
use dms_core::ports::{BlobStore, ChangeSource, Clock, DocumentClient, SearchIndex, SystemClock};
use dms_core::{Error, Result};
use dms_rpc::grpc::{GrpcClientConfig, GrpcDocumentClient};
use dms_runtime::settings::{
    CacheLocation, DatabaseLocation, SearchLocation, StorageLocation, StorageSettings,
};
use dms_runtime::{DataDirectory, HealthRegistry, Settings, StartupError, Supervisor};
use tokio_util::sync::CancellationToken;

use crate::Tokens;
use crate::backends::{
    CacheBackend, Closer, Database, Reads, Repositories, open_database, open_index,
    open_index_source, open_live_source, open_storage,
};
use crate::indexing::{INDEX_CONSUMER, IndexState, Indexing, IndexingPorts};
use crate::preparation::Preparations;

/// How often the change log of SQLite is trimmed.
const TRIM_EVERY: Duration = Duration::from_secs(30);

/// How to open an [`Assembly`].
pub struct AssemblyOptions {
    /// Where everything is kept.
    pub locations: StorageSettings,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl AssemblyOptions {
    /// By the clock of the operating system.
    pub fn new(locations: StorageSettings) -> Self {
        Self { locations, clock: Arc::new(SystemClock) }
    }
}

/// The backends of one program, each opened when it is asked for, with a health check each, and the
/// background tasks that need them.
///
/// An engine that is away fails nothing: its port answers `Unavailable` until it is there.
pub struct Assembly {
    locations: StorageSettings,
    clock: Arc<dyn Clock>,
    health: HealthRegistry,
    supervisor: Supervisor,
    preparations: Preparations,
    database: Option<Database>,
    cache: Option<CacheBackend>,
    /// In the order of opening.
    closers: Vec<Closer>,
    // Held to the end: the folder is free for another process after everything is closed.
    directory: Option<DataDirectory>,
}

impl Assembly {
    /// Nothing is open yet. Must be called in a Tokio runtime.
    pub fn new(options: AssemblyOptions) -> Self {
        Self {
            locations: options.locations,
            clock: options.clock,
            health: HealthRegistry::new(),
            supervisor: Supervisor::new(&CancellationToken::new()),
            preparations: Preparations::default(),
            database: None,
            cache: None,
            closers: Vec::new(),
            directory: None,
        }
    }

    /// What is up and what isn't.
    pub fn health(&self) -> &HealthRegistry {
        &self.health
    }

    /// The background tasks.
    pub fn supervisor(&mut self) -> &mut Supervisor {
        &mut self.supervisor
    }

    /// The time.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Takes hold of the data directory, unless it is held already.
    ///
    /// # Errors
    /// Another process holds it, or it can't be written.
    pub fn hold_directory(&mut self) -> Result<(), StartupError> {
        if self.directory.is_none() {
            self.directory = Some(DataDirectory::open(&self.locations.data_dir)?);
        }
        Ok(())
    }

    /// The repositories.
    ///
    /// # Errors
    /// What can't become right by waiting.
    pub async fn repositories(&mut self) -> Result<Repositories, StartupError> {
        if self.database.is_none() {
            let location = used(self.locations.database.clone(), "database")?;
            if matches!(location, DatabaseLocation::Sqlite(_)) {
                self.hold_directory()?;
            }
            let migrate = self.locations.migrate;
            let opened =
                open_database(&location, migrate, &self.clock, &mut self.preparations).await;
            let database = opened.map_err(|error| refused(&location, error))?;
            if let Some(trimmer) = database.trimmer() {
                self.supervisor.spawn("change-log-trimmer", async move |stop| {
                    trimmer.run(TRIM_EVERY, stop).await;
                    Ok(())
                });
            }
            self.database = Some(database);
        }
        let mut repositories = match &self.database {
            Some(database) => database.repositories(),
            None => return Err(defect("database")),
        };
        if self.locations.cache.is_some() {
            repositories.idempotency = self.cache()?.idempotency(repositories.idempotency);
        }
        self.watch_database(&repositories);
        Ok(repositories)
    }

    /// Checks these repositories as the dependency `database`.
    pub fn watch_database(&self, repositories: &Repositories) {
        let documents = Arc::clone(&repositories.documents);
        self.health.add("database", true, move || {
            let documents = Arc::clone(&documents);
            async move { documents.check().await.map_err(Into::into) }
        });
    }

    /// Content.
    ///
    /// # Errors
    /// What can't become right by waiting.
    pub async fn blobs(&mut self) -> Result<Arc<dyn BlobStore>, StartupError> {
        let location = used(self.locations.storage.clone(), "storage")?;
        if self.is_own_folder(&location) {
            self.hold_directory()?;
        }
        let blobs = open_storage(&location, &mut self.preparations)
            .await
            .map_err(|error| refused(&location, error))?;
        self.watch_blobs(&blobs);
        Ok(blobs)
    }

    /// Checks this store as the dependency `storage`.
    pub fn watch_blobs(&self, blobs: &Arc<dyn BlobStore>) {
        let blobs = Arc::clone(blobs);
        self.health.add("storage", true, move || {
            let blobs = Arc::clone(&blobs);
            async move { blobs.check().await.map_err(Into::into) }
        });
    }

    /// Cache and view counters.
    ///
    /// # Errors
    /// What can't become right by waiting.
    pub async fn reads(&mut self) -> Result<Reads, StartupError> {
        let location = used(self.locations.cache.clone(), "cache")?;
        if location == CacheLocation::Memory {
            self.hold_directory()?;
        }
        let opened = self.cache()?.reads(&self.locations.data_dir).await;
        let (reads, closer) = opened.map_err(|error| refused(&location, error))?;
        self.closers.extend(closer);
        Ok(reads)
    }

    /// The cache's backend, one for everything that uses it.
    fn cache(&mut self) -> Result<CacheBackend, StartupError> {
        if let Some(cache) = &self.cache {
            return Ok(cache.clone());
        }
        let location = used(self.locations.cache.clone(), "cache")?;
        let cache = CacheBackend::open(&location).map_err(|error| refused(&location, error))?;
        #[cfg(feature = "engines")]
        if let CacheBackend::Redis(client) = &cache {
            let client = client.clone();
            // Everything goes on without it.
            self.health.add("cache", false, move || {
                let client = client.clone();
                async move { client.check().await.map_err(Into::into) }
            });
        }
        self.cache = Some(cache.clone());
        Ok(cache)
    }

    /// The search index.
    ///
    /// # Errors
    /// What can't become right by waiting.
    pub async fn index(&mut self) -> Result<Arc<dyn SearchIndex>, StartupError> {
        let location = used(self.locations.search.clone(), "search")?;
        if matches!(location, SearchLocation::Files(_)) {
            self.hold_directory()?;
        }
        open_index(&location).await.map_err(|error| refused(&location, error))
    }

    /// Checks this index as the dependency `search`, which requests may be `needed` for.
    pub fn watch_index(&self, index: &Arc<dyn SearchIndex>, needed: bool) {
        let index = Arc::clone(index);
        self.health.add("search", needed, move || {
            let index = Arc::clone(&index);
            async move { index.check().await.map_err(Into::into) }
        });
    }

    /// The change stream as the index of the program `name` follows it. A database that keeps its
    /// own change log must be open.
    ///
    /// # Errors
    /// What can't become right by waiting.
    pub fn index_source(&mut self, name: &str) -> Result<Arc<dyn ChangeSource>, StartupError> {
        let location = used(self.locations.events.clone(), "events")?;
        let consumer = self.locations.consumer_group.as_deref().unwrap_or(name);
        let (source, closer) = open_index_source(&location, self.database.as_ref(), consumer)
            .map_err(|error| StartupError::from_part("DMS_EVENTS_URL", error))?;
        self.closers.extend(closer);
        Ok(source)
    }

    /// What the program `name` needs to fill the index.
    ///
    /// # Errors
    /// What can't become right by waiting.
    pub async fn indexing_ports(&mut self, name: &str) -> Result<IndexingPorts, StartupError> {
        Ok(IndexingPorts {
            index: self.index().await?,
            repositories: self.repositories().await?,
            blobs: self.blobs().await?,
            source: self.index_source(name)?,
        })
    }

    /// The change stream from now on; each call opens another. A database that keeps its own change
    /// log must be open.
    ///
    /// # Errors
    /// What can't become right by waiting.
    pub fn live_source(&self) -> Result<Arc<dyn ChangeSource>, StartupError> {
        let location = used(self.locations.events.clone(), "events")?;
        open_live_source(&location, self.database.as_ref())
            .map_err(|error| StartupError::from_part("DMS_EVENTS_URL", error))
    }

    /// The document service, checked as the dependency `document-service`, which requests may be
    /// `needed` for.
    ///
    /// # Errors
    /// A URL that can't be used.
    pub fn document_client(
        &self,
        settings: &Settings,
        tokens: &Tokens,
        needed: bool,
    ) -> Result<Arc<dyn DocumentClient>, StartupError> {
        let url = used(settings.document_grpc_url.clone(), "document service")?;
        let config = GrpcClientConfig {
            service_token: tokens.service_token.clone(),
            ..GrpcClientConfig::new(url)
        };
        let client = GrpcDocumentClient::new(&config)
            .map_err(|error| StartupError::from_part("DMS_DOCUMENT_GRPC_URL", error))?;
        let client = Arc::new(client);
        let checked = Arc::clone(&client);
        self.health.add("document-service", needed, move || {
            let client = Arc::clone(&checked);
            async move { client.check().await.map_err(Into::into) }
        });
        Ok(client)
    }

    /// Checks that the index follows the stream, which requests may be `needed` for; and that the
    /// stream isn't held up by something that only a hand can mend.
    pub fn watch_indexing(&self, indexing: &Arc<Indexing>, needed: bool) {
        let state = Arc::clone(indexing);
        self.health.add(INDEX_CONSUMER, needed, move || {
            let state = state.state();
            async move {
                match state {
                    IndexState::Starting => Err("starting".into()),
                    IndexState::Rebuilding(progress) => {
                        Err(format!("rebuilding, {} documents so far", progress.rows).into())
                    }
                    IndexState::Following(state) if state.is_running() => Ok(()),
                    IndexState::Following(state) => Err(state.to_string().into()),
                }
            }
        });
        // What only somebody's hand can mend must not go unnoticed.
        let state = Arc::clone(indexing);
        self.health.add("change-stream", true, move || {
            let state = state.state();
            async move {
                match state {
                    IndexState::Following(
                        held @ (RunnerState::Holding { .. }
                        | RunnerState::DeadLetterBudgetReached { .. }),
                    ) => Err(held.to_string().into()),
                    _ => Ok(()),
                }
            }
        });
    }

    /// Does once with each engine what it needs before it can be used. What an engine that is away
    /// can't do yet goes on in the background.
    ///
    /// # Errors
    /// What can't become right by waiting: a schema of another version, a pooler that would mix up
    /// statements.
    pub async fn prepare(&mut self) -> Result<(), StartupError> {
        self.preparations.run(&mut self.supervisor, &self.health).await?;
        self.supervisor.watch(&self.health);
        Ok(())
    }

    /// Comes once each engine has been [prepared](Self::prepare).
    pub(crate) fn prepared(&self) -> impl Future<Output = ()> + Send + use<> {
        self.preparations.done()
    }

    /// Ends every task within `grace`, writes what is still in memory and closes everything.
    ///
    /// # Errors
    /// What couldn't be closed cleanly; nothing acknowledged is lost.
    pub async fn close(self, grace: Duration) -> Result<()> {
        // The supervisor logs what doesn't end in time.
        let _ = self.supervisor.shutdown(grace).await;
        let mut outcome = Ok(());
        for closer in self.closers.into_iter().rev() {
            outcome = outcome.and(closer.run().await);
        }
        if let Some(database) = self.database {
            outcome = outcome.and(database.close().await);
        }
        drop(self.directory);
        outcome
    }

    /// Whether content is kept where the data directory is, so that one process may use it.
    fn is_own_folder(&self, location: &StorageLocation) -> bool {
        matches!(location, StorageLocation::Files(folder) if folder.starts_with(&self.locations.data_dir))
    }
}

fn refused(location: &impl Embedded, error: Error) -> StartupError {
    let what = if location.is_embedded() { "the data folder" } else { location.setting() };
    StartupError::from_part(what, error)
}

fn used<T>(location: Option<T>, part: &str) -> Result<T, StartupError> {
    location.ok_or_else(|| defect(part))
}

/// The program asks for a part that it said it doesn't use.
fn defect(part: &str) -> StartupError {
    let error = Error::internal("the program has no setting for it");
    StartupError::from_part(part, error)
}

/// What to call a place in a message.
trait Embedded {
    fn is_embedded(&self) -> bool;
    fn setting(&self) -> &'static str;
}

impl Embedded for DatabaseLocation {
    fn is_embedded(&self) -> bool {
        matches!(self, Self::Sqlite(_))
    }
    fn setting(&self) -> &'static str {
        "DMS_DATABASE_URL"
    }
}

impl Embedded for StorageLocation {
    fn is_embedded(&self) -> bool {
        matches!(self, Self::Files(_))
    }
    fn setting(&self) -> &'static str {
        "DMS_STORAGE_URL"
    }
}

impl Embedded for CacheLocation {
    fn is_embedded(&self) -> bool {
        matches!(self, Self::Memory)
    }
    fn setting(&self) -> &'static str {
        "DMS_CACHE_URL"
    }
}

impl Embedded for SearchLocation {
    fn is_embedded(&self) -> bool {
        matches!(self, Self::Files(_))
    }
    fn setting(&self) -> &'static str {
        "DMS_SEARCH_URL"
    }
}

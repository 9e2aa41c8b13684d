//! From a folder to a running product.

use std::path::Path;
use std::sync::Arc;

use dms_core::ports::{
    BlobStore, Clock, DocumentCache, SearchIndex, SystemClock, TokenVerifier, ViewCounter,
};
use dms_core::use_cases::DocumentLimits;
use dms_realtime::token::DevelopmentTokens;
use dms_rpc::grpc::ServiceToken;
use dms_runtime::StartupError;

use dms_assembly::{Assembly, AssemblyOptions, ChangeSources, Reads, Repositories, Tokens};
use dms_runtime::settings::{Migrate, StorageSettings};

use crate::Dms;

/// Makes a [`Dms`]; from [`Dms::builder`].
#[must_use = "nothing runs until it is started"]
pub struct DmsBuilder {
    pub(crate) locations: StorageSettings,
    own: OwnPorts,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: DocumentLimits,
    pub(crate) tokens: Tokens,
    pub(crate) trusted_proxies: u8,
}

/// Ports of the caller's own; what is missing is opened from its place.
#[derive(Clone, Default)]
struct OwnPorts {
    database: Option<(Repositories, ChangeSources)>,
    blobs: Option<Arc<dyn BlobStore>>,
    cache: Option<Arc<dyn DocumentCache>>,
    views: Option<Arc<dyn ViewCounter>>,
    index: Option<Arc<dyn SearchIndex>>,
}

/// Every port of a product, open.
pub(crate) struct Ports {
    pub(crate) repositories: Repositories,
    pub(crate) sources: ChangeSources,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) reads: Reads,
    pub(crate) index: Arc<dyn SearchIndex>,
}

impl DmsBuilder {
    pub(crate) fn new(folder: &Path) -> Self {
        Self {
            locations: StorageSettings::embedded(folder),
            own: OwnPorts::default(),
            clock: Arc::new(SystemClock),
            limits: DocumentLimits::default(),
            tokens: Tokens::default(),
            trusted_proxies: 0,
        }
    }

    /// Keeps everything where the settings say, embedded or in engines, instead of below the folder.
    pub fn locations(mut self, locations: StorageSettings) -> Self {
        self.locations = locations;
        self
    }

    /// Keeps rows in a database of the caller's own, and follows its changes. The embedded one isn't
    /// opened then.
    pub fn database(mut self, repositories: Repositories, changes: ChangeSources) -> Self {
        self.own.database = Some((repositories, changes));
        self
    }

    /// Keeps content in a store of the caller's own.
    pub fn blob_store(mut self, blobs: Arc<dyn BlobStore>) -> Self {
        self.own.blobs = Some(blobs);
        self
    }

    /// Caches documents in a cache of the caller's own.
    pub fn document_cache(mut self, cache: Arc<dyn DocumentCache>) -> Self {
        self.own.cache = Some(cache);
        self
    }

    /// Counts views with a counter of the caller's own.
    pub fn view_counter(mut self, views: Arc<dyn ViewCounter>) -> Self {
        self.own.views = Some(views);
        self
    }

    /// Searches an index of the caller's own. It is filled from the change stream, and built from
    /// the rows whenever it has no position.
    pub fn search_index(mut self, index: Arc<dyn SearchIndex>) -> Self {
        self.own.index = Some(index);
        self
    }

    /// Takes the time from a clock of the caller's own.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Bounds of documents.
    pub fn limits(mut self, limits: DocumentLimits) -> Self {
        self.limits = limits;
        self
    }

    /// Checks tokens, and asks for them, as these say.
    pub fn tokens(mut self, tokens: Tokens) -> Self {
        self.tokens = tokens;
        self
    }

    /// Checks tokens with this verifier: of WebSocket connections always, of every other call if
    /// [`require_tokens`](Self::require_tokens) says so. Without one no token is valid.
    pub fn token_verifier(mut self, verifier: Arc<dyn TokenVerifier>) -> Self {
        self.tokens.verifier = Some(verifier);
        self
    }

    /// Gives tokens to whoever asks at `/auth/token`, and accepts them. For programs that nobody
    /// but their own machine can reach.
    pub fn development_tokens(mut self, tokens: Arc<DevelopmentTokens>) -> Self {
        self.tokens = self.tokens.with_development(tokens);
        self
    }

    /// Whether REST and gRPC ask for tokens too.
    pub fn require_tokens(mut self, required: bool) -> Self {
        self.tokens.required = required;
        self
    }

    /// What services of the system may show over gRPC instead of a user's token.
    pub fn service_token(mut self, token: ServiceToken) -> Self {
        self.tokens.service_token = Some(token);
        self
    }

    /// Whether an older schema of the embedded database is migrated (the default) or refused.
    pub fn migrate(mut self, migrate: bool) -> Self {
        self.locations.migrate = if migrate { Migrate::Auto } else { Migrate::Off };
        self
    }

    /// How many proxies in front append to `X-Forwarded-For`; 0 looks at the peer alone.
    pub fn trusted_proxies(mut self, proxies: u8) -> Self {
        self.trusted_proxies = proxies;
        self
    }

    /// Opens everything and starts all but listening. Engines that are away don't fail it: what needs
    /// them answers `Unavailable` until they are there.
    ///
    /// # Errors
    /// With the status a program should end with, and a line that says what to do: another process
    /// has the folder open, it can't be written, what is in it belongs to a newer version.
    pub async fn start(self) -> Result<Dms, StartupError> {
        let options =
            AssemblyOptions { locations: self.locations.clone(), clock: Arc::clone(&self.clock) };
        let mut assembly = Assembly::new(options);
        assembly.hold_directory()?;
        let ports = self.ports(&mut assembly).await?;
        assembly.prepare().await?;
        Dms::run(&self, assembly, ports)
    }

    async fn ports(&self, assembly: &mut Assembly) -> Result<Ports, StartupError> {
        let own = self.own.clone();
        let (repositories, sources) = match own.database {
            Some((repositories, sources)) => {
                assembly.watch_database(&repositories);
                (repositories, sources)
            }
            None => {
                let repositories = assembly.repositories().await?;
                let index = assembly.index_source("dms")?;
                (repositories, ChangeSources { index, live: assembly.live_source()? })
            }
        };
        let reads = match (own.cache, own.views) {
            (Some(cache), Some(views)) => Reads { cache, views },
            (cache, views) => {
                let opened = assembly.reads().await?;
                Reads { cache: cache.unwrap_or(opened.cache), views: views.unwrap_or(opened.views) }
            }
        };
        let blobs = match own.blobs {
            Some(blobs) => {
                assembly.watch_blobs(&blobs);
                blobs
            }
            None => assembly.blobs().await?,
        };
        let index = match own.index {
            Some(index) => index,
            None => assembly.index().await?,
        };
        Ok(Ports { repositories, sources, blobs, reads, index })
    }
}

//! From a folder to a running product.

use std::path::PathBuf;
use std::sync::Arc;

use dms_core::ports::{
    BlobStore, Clock, DocumentCache, SearchIndex, SystemClock, TokenVerifier, ViewCounter,
};
use dms_core::use_cases::DocumentLimits;
use dms_realtime::token::DevelopmentTokens;
use dms_rpc::grpc::ServiceToken;
use dms_runtime::{DataDirectory, StartupError};

use crate::Dms;
use crate::backends::{Backends, DatabasePorts, OwnPorts, Places};

/// Makes a [`Dms`]; from [`Dms::builder`].
#[must_use = "nothing runs until it is started"]
pub struct DmsBuilder {
    pub(crate) folder: PathBuf,
    pub(crate) places: Places,
    own: OwnPorts,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: DocumentLimits,
    migrate: bool,
    pub(crate) tokens: Tokens,
    pub(crate) trusted_proxies: u8,
}

/// What tokens are checked with, and who must show one.
#[derive(Clone, Default)]
pub(crate) struct Tokens {
    pub(crate) verifier: Option<Arc<dyn TokenVerifier>>,
    pub(crate) development: Option<Arc<DevelopmentTokens>>,
    pub(crate) required: bool,
    pub(crate) service_token: Option<ServiceToken>,
}

impl DmsBuilder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self {
            places: Places::below(&folder),
            folder,
            own: OwnPorts::default(),
            clock: Arc::new(SystemClock),
            limits: DocumentLimits::default(),
            migrate: true,
            tokens: Tokens::default(),
            trusted_proxies: 0,
        }
    }

    /// Keeps rows in a database of the caller's own. The embedded one isn't opened then.
    pub fn database(mut self, ports: DatabasePorts) -> Self {
        self.own.database = Some(ports);
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

    /// Checks tokens with this verifier: of WebSocket connections always, of every other call if
    /// [`require_tokens`](Self::require_tokens) says so. Without one no token is valid.
    pub fn token_verifier(mut self, verifier: Arc<dyn TokenVerifier>) -> Self {
        self.tokens.verifier = Some(verifier);
        self
    }

    /// Gives tokens to whoever asks at `/auth/token`, and accepts them. For programs that nobody
    /// but their own machine can reach.
    pub fn development_tokens(mut self, tokens: Arc<DevelopmentTokens>) -> Self {
        self.tokens.verifier = Some(tokens.clone());
        self.tokens.development = Some(tokens);
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
        self.migrate = migrate;
        self
    }

    /// How many proxies in front append to `X-Forwarded-For`; 0 looks at the peer alone.
    pub fn trusted_proxies(mut self, proxies: u8) -> Self {
        self.trusted_proxies = proxies;
        self
    }

    /// Opens the folder and starts everything but listening.
    ///
    /// # Errors
    /// With the status a program should end with, and a line that says what to do: another process
    /// has the folder open, it can't be written, what is in it belongs to a newer version.
    pub async fn start(self) -> Result<Dms, StartupError> {
        let directory = DataDirectory::open(&self.folder)?;
        let backends = Backends::open(&self.places, self.own.clone(), &self.clock, self.migrate)
            .await
            .map_err(|error| StartupError::from_part("the data folder", error))?;
        Dms::run(&self, directory, backends)
    }
}

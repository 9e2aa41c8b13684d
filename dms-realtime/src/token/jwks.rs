//! Keys fetched from an endpoint that is configured, never from one that a token names.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use dms_core::{Error, ErrorChain, Result};
use jsonwebtoken::Algorithm;
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::claims::refused;
use super::key::Key;
use super::key_set::KeySet;

/// How soon fetching is tried again if there are no keys at all, or an attempt was abandoned.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Times and bounds of fetching keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JwksOptions {
    /// How long a fetch may take.
    pub timeout: Duration,
    /// How often keys are fetched at most, however many unknown key ids tokens name.
    pub refresh_interval_min: Duration,
    /// Age from which keys are fetched anew, so that withdrawn ones don't last. While the endpoint
    /// can't be reached the old ones stay in force.
    pub age_max: Duration,
    /// Largest answer, in bytes.
    pub body_bytes_max: usize,
    /// Most keys in an answer.
    pub keys_max: usize,
}

impl Default for JwksOptions {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(5),
            refresh_interval_min: Duration::from_secs(30),
            age_max: Duration::from_mins(10),
            body_bytes_max: 256 << 10,
            keys_max: 100,
        }
    }
}

pub(super) struct JwksCache {
    client: Client,
    url: Url,
    options: JwksOptions,
    state: RwLock<State>,
    /// Held while keys are fetched.
    flight: Mutex<()>,
}

#[derive(Default)]
struct State {
    keys: KeySet,
    fetched_at: Option<Instant>,
    attempt: Option<Attempt>,
}

#[derive(Clone, Copy)]
struct Attempt {
    started_at: Instant,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Under way, or its future was dropped.
    Unfinished,
    Failed,
    Succeeded,
}

impl JwksCache {
    pub(super) fn new(url: &str, options: JwksOptions) -> Result<Self> {
        let refuse = || Error::invalid("jwks_url", "must be an http:// or https:// URL");
        let url = Url::parse(url).map_err(|e| refuse().with_source(e))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(refuse());
        }
        let client = Client::builder()
            .timeout(options.timeout)
            .redirect(Policy::none())
            // Proxies would be read from the environment.
            .no_proxy()
            .build()
            .map_err(|e| Error::internal("no http client for signing keys").with_source(e))?;
        let state = RwLock::default();
        Ok(Self { client, url, options, state, flight: Mutex::new(()) })
    }

    pub(super) async fn check(&self) -> Result<()> {
        if self.read(|state| state.fetched_at.is_some()) {
            return Ok(());
        }
        let _flight = self.flight.lock().await;
        if self.read(|state| state.fetched_at.is_some()) { Ok(()) } else { self.refresh().await }
    }

    /// The key for a token.
    ///
    /// # Errors
    /// `Unauthenticated` if there is none; `Unavailable` if that can't be told.
    pub(super) async fn key(&self, kid: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>> {
        if let Some(key) = self.read(|state| state.keys.find(kid, algorithm)) {
            return self.unless_withdrawn(key, kid, algorithm).await;
        }
        let _flight = self.flight.lock().await;
        // Somebody else may have fetched it meanwhile.
        if let Some(key) = self.read(|state| state.keys.find(kid, algorithm)) {
            return Ok(key);
        }
        match self.resting() {
            None => self.refresh().await?,
            Some(Outcome::Succeeded) => {}
            Some(Outcome::Unfinished | Outcome::Failed) => return Err(unavailable()),
        }
        self.read(|state| state.keys.find(kid, algorithm))
            .ok_or_else(|| refused("key id is unknown"))
    }

    /// Fetches keys anew if they are old; whoever comes while that lasts takes the old one.
    async fn unless_withdrawn(
        &self,
        key: Arc<Key>,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<Key>> {
        let age = self.read(|state| state.fetched_at.map(|at| at.elapsed()));
        if age.is_none_or(|age| age < self.options.age_max) {
            return Ok(key);
        }
        let Ok(_flight) = self.flight.try_lock() else { return Ok(key) };
        if self.resting().is_some() {
            return Ok(key);
        }
        if let Err(error) = self.refresh().await {
            tracing::warn!(error = %ErrorChain(&error), "signing keys not refreshed");
            return Ok(key);
        }
        self.read(|state| state.keys.find(kid, algorithm))
            .ok_or_else(|| refused("key was withdrawn"))
    }

    /// What the last attempt came to, if the next must wait yet.
    fn resting(&self) -> Option<Outcome> {
        self.read(|state| {
            let Attempt { started_at, outcome } = state.attempt?;
            let pause = match outcome {
                Outcome::Unfinished => RETRY_PAUSE,
                Outcome::Failed if state.fetched_at.is_none() => RETRY_PAUSE,
                Outcome::Failed | Outcome::Succeeded => self.options.refresh_interval_min,
            };
            (started_at.elapsed() < pause).then_some(outcome)
        })
    }

    /// To be called with `flight` held.
    async fn refresh(&self) -> Result<()> {
        let started_at = Instant::now();
        let end = |outcome| Some(Attempt { started_at, outcome });
        self.write(|state| state.attempt = end(Outcome::Unfinished));
        match self.fetch().await {
            Ok(keys) => {
                self.write(|state| {
                    state.keys = keys;
                    state.fetched_at = Some(started_at);
                    state.attempt = end(Outcome::Succeeded);
                });
                Ok(())
            }
            Err(error) => {
                self.write(|state| state.attempt = end(Outcome::Failed));
                Err(error)
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet> {
        let failed = |e: reqwest::Error| unavailable().with_source(e.without_url());
        let answer = self.client.get(self.url.clone()).send().await.map_err(failed)?;
        // A redirect isn't followed, so it is no success either.
        let mut answer = answer.error_for_status().map_err(failed)?;
        if !answer.status().is_success() {
            return Err(unavailable().with_source(format!("status {}", answer.status())));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(failed)? {
            if body.len() + chunk.len() > self.options.body_bytes_max {
                return Err(unavailable().with_source("answer is too large"));
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::parse(&body, self.options.keys_max).map_err(|e| unavailable().with_source(e))
    }

    fn read<T>(&self, read: impl FnOnce(&State) -> T) -> T {
        read(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self, write: impl FnOnce(&mut State)) {
        write(&mut self.state.write().unwrap_or_else(PoisonError::into_inner));
    }
}

fn unavailable() -> Error {
    Error::unavailable("jwks", "signing keys can't be fetched")
}

impl fmt::Debug for JwksCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwksCache")
            .field("host", &self.url.host_str())
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

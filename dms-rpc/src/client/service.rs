//! Calls about the system itself.

use serde_json::Value;

use super::transport::{Repeat, read_json};
use super::{ClientError, ClientResult, DmsClient};
use crate::types::TokenBody;

/// Whether a system can do its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Readiness {
    /// Whether everything that is needed is there.
    pub ready: bool,
    /// The state of each dependency, as the system reports it; null if it reports nothing.
    pub report: Value,
}

impl DmsClient {
    /// A token for trying things out, which only a system without a signing key gives, and only
    /// on loopback.
    ///
    /// # Errors
    /// Status 404 from any other.
    pub async fn development_token(&self, user_id: &str, email: &str) -> ClientResult<TokenBody> {
        let query = [("user_id", user_id), ("email", email)];
        self.json(Repeat::Safely, || self.get(&["auth", "token"]).query(&query)).await
    }

    /// Whether the system runs.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] if it doesn't. Not repeated.
    pub async fn health(&self) -> ClientResult<()> {
        self.open(Repeat::Never, || self.get(&["healthz"])).await.map(drop)
    }

    /// Whether the system is ready, and what it lacks. Not repeated.
    ///
    /// # Errors
    /// If it gives no answer.
    pub async fn readiness(&self) -> ClientResult<Readiness> {
        let response = self.get(&["readyz"]).send().await.map_err(ClientError::of_transport)?;
        let ready = response.status().is_success();
        Ok(Readiness { ready, report: read_json(response).await.unwrap_or_default() })
    }
}

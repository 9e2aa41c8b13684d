//! What tokens are checked with, and who must show one.

use std::sync::Arc;

use dms_core::ports::{Clock, TokenVerifier};
use dms_core::{Claims, Error, ErrorKind, Result};
use dms_realtime::token::{DevelopmentTokens, JwksOptions, JwtVerifier, TokenRules};
use dms_rpc::auth::Authentication;
use dms_rpc::grpc::{GrpcAuthentication, ServiceToken};
use dms_rpc::rest::Access;
use dms_runtime::StartupError;
use dms_runtime::settings::{AuthMode, AuthSettings, TokenKey};

/// What tokens are checked with, and who must show one.
#[derive(Clone, Default)]
pub struct Tokens {
    /// Checks tokens; without one no token is valid.
    pub verifier: Option<Arc<dyn TokenVerifier>>,
    /// Gives tokens to whoever asks.
    pub development: Option<Arc<DevelopmentTokens>>,
    /// Whether REST and gRPC ask for tokens too.
    pub required: bool,
    /// What services of the system show each other over gRPC.
    pub service_token: Option<ServiceToken>,
}

impl Tokens {
    /// What the settings say.
    ///
    /// # Errors
    /// With the setting that can't be used as given.
    pub fn from_settings(auth: &AuthSettings, clock: Arc<dyn Clock>) -> Result<Self, StartupError> {
        let rules = TokenRules { issuer: auth.issuer.clone(), audience: auth.audience.clone() };
        let mut tokens = Self { required: auth.mode == AuthMode::Required, ..Self::default() };
        match &auth.key {
            TokenKey::Development(_) => {
                let development = DevelopmentTokens::generate(clock)
                    .map_err(|error| StartupError::from_part("the development key", error))?;
                tokens = tokens.with_development(Arc::new(development));
            }
            TokenKey::Shared(secret) => {
                let verifier = JwtVerifier::with_secret(secret.expose_bytes(), rules, clock)
                    .map_err(|error| refused("DMS_JWT_SECRET", error))?;
                tokens.verifier = Some(Arc::new(verifier));
            }
            TokenKey::PublicPem(pem) => {
                let verifier = JwtVerifier::with_public_key(pem.as_bytes(), rules, clock)
                    .map_err(|error| refused("DMS_JWT_PUBLIC_KEY", error))?;
                tokens.verifier = Some(Arc::new(verifier));
            }
            TokenKey::KeySet(url) => {
                let verifier = JwtVerifier::with_jwks(url, JwksOptions::default(), rules, clock)
                    .map_err(|error| refused("DMS_JWKS_URL", error))?;
                tokens.verifier = Some(Arc::new(verifier));
            }
            _ => {}
        }
        if let Some(token) = &auth.service_token {
            let token = ServiceToken::new(token.expose())
                .map_err(|error| refused("DMS_SERVICE_TOKEN", error))?;
            tokens.service_token = Some(token);
        }
        Ok(tokens)
    }

    /// The same, accepting these tokens and giving them to whoever asks.
    #[must_use]
    pub fn with_development(mut self, tokens: Arc<DevelopmentTokens>) -> Self {
        self.verifier = Some(tokens.clone());
        self.development = Some(tokens);
        self
    }

    /// What checks tokens; one that takes none if nothing was configured.
    pub fn verifier(&self) -> Arc<dyn TokenVerifier> {
        self.verifier.clone().unwrap_or_else(|| Arc::new(NoTokenIsValid))
    }

    /// How REST tells callers apart, behind so many proxies that append to `X-Forwarded-For`.
    pub fn access(&self, trusted_proxies: u8) -> Access {
        let authentication = if self.required {
            Authentication::Required(self.verifier())
        } else {
            Authentication::Off
        };
        Access { authentication, trusted_proxies }
    }

    /// How gRPC tells callers apart.
    pub fn grpc(&self) -> GrpcAuthentication {
        if self.required {
            GrpcAuthentication::Required {
                verifier: self.verifier(),
                service_token: self.service_token.clone(),
            }
        } else {
            GrpcAuthentication::Off
        }
    }
}

fn refused(setting: &str, error: Error) -> StartupError {
    let why = error.fields().first().map_or_else(|| error.to_string(), |f| f.message.clone());
    StartupError::usage(format!("{setting} {why}")).with_source(error)
}

/// Stands in where nothing to check tokens with was given.
struct NoTokenIsValid;

#[async_trait::async_trait]
impl TokenVerifier for NoTokenIsValid {
    async fn verify(&self, _token: &str) -> Result<Claims> {
        let message = "tokens can't be checked: no key is configured";
        Err(Error::new(ErrorKind::Unauthenticated, message).with_code("token_invalid"))
    }
}

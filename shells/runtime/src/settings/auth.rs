//! Who may call, and what proves it.

use super::listen::ListenSettings;
use super::location;
use super::reader::{Given, Reader, shown};
use super::setting::Setting;
use crate::{Secret, StartupError};

const HEADING: &str = "Who may call";

/// Shortest key of HMAC-SHA256 in bytes (RFC 7518, section 3.2).
pub const JWT_SECRET_BYTES_MIN: usize = 32;

/// Shortest service token in characters.
pub const SERVICE_TOKEN_CHARS_MIN: usize = 16;

/// `DMS_AUTH`: whether calls need a token.
pub const AUTH: Setting = Setting {
    name: "DMS_AUTH",
    heading: HEADING,
    value_name: "off|required",
    default: "off while only this machine can reach the program; otherwise it has to be given",
    help: "Whether REST and gRPC ask for a bearer token\n\n\
        off: whoever reaches the program may do everything. required: every call except health and \
        metrics needs a valid token. A WebSocket always needs one.",
    from_file: false,
};

/// `DMS_JWT_SECRET`: the shared key of HS256 tokens.
pub const JWT_SECRET: Setting = Setting {
    name: "DMS_JWT_SECRET",
    heading: HEADING,
    value_name: "SECRET",
    default: "none: while only this machine can reach the program, a random key that ends with it",
    help: "Shared key of HS256 tokens, at least 32 bytes\n\n\
        One of this, --jwt-public-key and --jwks-url. The command line is visible to other users \
        of the machine: prefer the variable or the file.",
    from_file: true,
};

/// `DMS_JWT_PUBLIC_KEY`: the public key of signed tokens.
pub const JWT_PUBLIC_KEY: Setting = Setting {
    name: "DMS_JWT_PUBLIC_KEY",
    heading: HEADING,
    value_name: "PEM",
    default: "none",
    help: "Public key of RS256, ES256 or EdDSA tokens, as PEM\n\n\
        In a variable, line ends may be written as \\n.",
    from_file: true,
};

/// `DMS_JWKS_URL`: where public keys are published.
pub const JWKS_URL: Setting = Setting {
    name: "DMS_JWKS_URL",
    heading: HEADING,
    value_name: "URL",
    default: "none",
    help: "Where the issuer publishes its public keys (a JWK set)\n\n\
        https, or http on this machine.",
    from_file: false,
};

/// `DMS_JWT_ISSUER`: the `iss` a token must have.
pub const JWT_ISSUER: Setting = Setting {
    name: "DMS_JWT_ISSUER",
    heading: HEADING,
    value_name: "TEXT",
    default: "any",
    help: "Issuer (iss) a token must have",
    from_file: false,
};

/// `DMS_JWT_AUDIENCE`: the `aud` a token must have.
pub const JWT_AUDIENCE: Setting = Setting {
    name: "DMS_JWT_AUDIENCE",
    heading: HEADING,
    value_name: "TEXT",
    default: "any",
    help: "Audience (aud) a token must have",
    from_file: false,
};

/// `DMS_SERVICE_TOKEN`: what services show each other over gRPC.
pub const SERVICE_TOKEN: Setting = Setting {
    name: "DMS_SERVICE_TOKEN",
    heading: HEADING,
    value_name: "SECRET",
    default: "none",
    help: "Token that services show each other over gRPC when --auth is required\n\n\
        At least 16 visible ASCII characters.",
    from_file: true,
};

/// The settings of this file, in the order of `--help`.
pub(super) const ALL: &[Setting] =
    &[AUTH, JWT_SECRET, JWT_PUBLIC_KEY, JWKS_URL, JWT_ISSUER, JWT_AUDIENCE, SERVICE_TOKEN];

/// Whether calls need a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// Whoever reaches the program may do everything.
    Off,
    /// Every call except health and metrics needs a valid token.
    Required,
}

/// What verifies tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenKey {
    /// Nothing was configured and only this machine can reach the program: a key made at start,
    /// which the program may hand tokens out for.
    Development(Secret),
    /// The shared key of HS256 tokens, at least [`JWT_SECRET_BYTES_MIN`] bytes.
    Shared(Secret),
    /// A public key in PEM, of `RS256`, `ES256` or `EdDSA`.
    PublicPem(String),
    /// Where public keys are published; `https`, or `http` on this machine.
    KeySet(String),
    /// Nothing was configured and other machines can reach the program (with
    /// [`AuthMode::Off`]): no token is valid.
    Nothing,
}

/// Who may call, and what proves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthSettings {
    /// See [`AUTH`].
    pub mode: AuthMode,
    /// What verifies tokens.
    pub key: TokenKey,
    /// See [`JWT_ISSUER`].
    pub issuer: Option<String>,
    /// See [`JWT_AUDIENCE`].
    pub audience: Option<String>,
    /// See [`SERVICE_TOKEN`].
    pub service_token: Option<Secret>,
}

impl AuthSettings {
    pub(super) fn read(reader: &Reader<'_>, listen: &ListenSettings) -> Result<Self, StartupError> {
        let key = key(reader)?;
        let exposed = listen.off_loopback();
        let mode = match (mode(reader)?, exposed) {
            (Some(AuthMode::Required), Some((name, address))) if key.is_none() => {
                return Err(StartupError::usage(format!(
                    "DMS_AUTH is required and {name} is {address}, which other machines can reach, \
                     but nothing verifies tokens: set DMS_JWT_SECRET, DMS_JWT_PUBLIC_KEY or \
                     DMS_JWKS_URL"
                )));
            }
            (Some(mode), _) => mode,
            (None, Some((name, address))) => {
                return Err(StartupError::usage(format!(
                    "{name} is {address}, which other machines can reach: decide who may call and \
                     set DMS_AUTH to required (calls need a token) or to off (everybody who \
                     reaches it may do everything)"
                )));
            }
            (None, None) => AuthMode::Off,
        };
        let key = match (key, exposed) {
            (Some(key), _) => key,
            (None, None) => TokenKey::Development(Secret::random()),
            (None, Some(_)) => TokenKey::Nothing,
        };
        Ok(Self {
            mode,
            key,
            issuer: reader.text(&JWT_ISSUER)?.map(|given| given.value),
            audience: reader.text(&JWT_AUDIENCE)?.map(|given| given.value),
            service_token: service_token(reader)?,
        })
    }

    /// Whether the program may hand out tokens to whoever asks (`/auth/token`): only while no key is
    /// configured and every address is loopback.
    pub fn serves_development_tokens(&self) -> bool {
        matches!(self.key, TokenKey::Development(_))
    }
}

fn mode(reader: &Reader<'_>) -> Result<Option<AuthMode>, StartupError> {
    let Some(given) = reader.text(&AUTH)? else { return Ok(None) };
    match given.value.as_str() {
        "off" => Ok(Some(AuthMode::Off)),
        "required" => Ok(Some(AuthMode::Required)),
        _ => Err(given.refuse_value("off or required")),
    }
}

fn key(reader: &Reader<'_>) -> Result<Option<TokenKey>, StartupError> {
    let secret = reader.secret(&JWT_SECRET)?;
    let public = reader.secret(&JWT_PUBLIC_KEY)?;
    let set = reader.text(&JWKS_URL)?;
    let given: Vec<&str> = [
        secret.as_ref().map(|given| given.origin.as_str()),
        public.as_ref().map(|given| given.origin.as_str()),
        set.as_ref().map(|given| given.origin.as_str()),
    ]
    .into_iter()
    .flatten()
    .collect();
    if given.len() > 1 {
        return Err(StartupError::usage(format!(
            "{} are given together, tokens are verified by one of them only",
            given.join(" and ")
        )));
    }
    if let Some(given) = secret {
        if given.value.expose_bytes().len() < JWT_SECRET_BYTES_MIN {
            return Err(
                given.refuse("is shorter than 32 bytes; `openssl rand -hex 32` makes a good one")
            );
        }
        return Ok(Some(TokenKey::Shared(given.value)));
    }
    if let Some(given) = public {
        return public_pem(&given).map(|pem| Some(TokenKey::PublicPem(pem)));
    }
    set.map(|given| key_set(&given).map(TokenKey::KeySet)).transpose()
}

fn public_pem(given: &Given<Secret>) -> Result<String, StartupError> {
    let pem = given.value.expose().trim().replace("\\n", "\n");
    if pem.contains("PRIVATE KEY") {
        return Err(given.refuse("holds a private key, expected the public one"));
    }
    if !pem.starts_with("-----BEGIN ") || !pem.contains("\n-----END ") {
        return Err(
            given.refuse("is not PEM, expected -----BEGIN PUBLIC KEY----- and what follows")
        );
    }
    Ok(pem)
}

fn key_set(given: &Given) -> Result<String, StartupError> {
    const EXPECTED: &str = "https://HOST/PATH, or http:// on this machine";
    let uri: axum::http::Uri = given
        .value
        .parse()
        .map_err(|_| given.refuse(format!("is not a URL, expected {EXPECTED}")))?;
    let authority = uri.authority().map_or("", |authority| authority.as_str());
    if authority.contains('@') {
        return Err(given.refuse("holds a user name or password, which is not supported"));
    }
    // A password with a slash in it, perhaps, and the @ behind that.
    if !location::ports_are_numbers(authority) {
        return Err(given.refuse(format!("has a port that is no number, expected {EXPECTED}")));
    }
    let host = uri.host().unwrap_or_default();
    let local = host == "localhost"
        || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") if !host.is_empty() => Ok(given.value.clone()),
        Some("http") if local => Ok(given.value.clone()),
        scheme => Err(given.refuse(format!(
            "`{}://{}` is not acceptable, expected {EXPECTED}",
            shown(scheme.unwrap_or_default()),
            shown(host)
        ))),
    }
}

fn service_token(reader: &Reader<'_>) -> Result<Option<Secret>, StartupError> {
    let Some(given) = reader.secret(&SERVICE_TOKEN)? else { return Ok(None) };
    let token = given.value.expose();
    if token.len() < SERVICE_TOKEN_CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(given.refuse("is not a token, expected at least 16 visible ASCII characters"));
    }
    Ok(Some(given.value))
}

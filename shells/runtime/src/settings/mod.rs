//! Everything an operator can decide: read once, from options over variables over defaults.
//!
//! Each concern has a file with its settings as constants (name, default, help) and a struct with
//! their values. Nothing else in the program reads the environment.

mod auth;
mod flags;
mod limits;
mod listen;
mod location;
mod log;
mod reader;
mod services;
mod setting;
mod source;
mod storage;

use std::net::SocketAddr;

pub use auth::{AuthMode, AuthSettings, JWT_SECRET_BYTES_MIN, SERVICE_TOKEN_CHARS_MIN, TokenKey};
pub use flags::SettingFlags;
pub(crate) use flags::long_help;
pub use limits::LimitSettings;
pub use listen::{ListenSettings, reachable};
pub use log::{LogFormat, LogSettings};
pub use setting::Setting;
pub use source::{ProcessEnvironment, Source};
pub use storage::{
    Backends, CacheLocation, DatabaseLocation, EventsLocation, Migrate, S3Location, SearchLocation,
    StorageLocation, StorageSettings,
};

use reader::Reader;

use crate::{Program, StartupError};

/// The settings themselves, by the variable's name without `DMS_`.
pub mod names {
    pub use super::auth::{
        AUTH, JWKS_URL, JWT_AUDIENCE, JWT_ISSUER, JWT_PUBLIC_KEY, JWT_SECRET, SERVICE_TOKEN,
    };
    pub use super::limits::{MAX_CONTENT_BYTES, SHUTDOWN_GRACE_S};
    pub use super::listen::{GRPC_ADDR, HTTP_ADDR, TRUSTED_PROXIES};
    pub use super::log::{LOG, LOG_FORMAT};
    pub use super::services::DOCUMENT_GRPC_URL;
    pub use super::storage::s3::{
        AWS_ACCESS_KEY_ID, AWS_ENDPOINT_URL, AWS_REGION, AWS_SECRET_ACCESS_KEY,
    };
    pub use super::storage::{
        CACHE_URL, CONSUMER_GROUP, DATA_DIR, DATABASE_DIRECT_URL, DATABASE_REPLICA_URL,
        DATABASE_URL, EVENTS_URL, MIGRATE, SEARCH_URL, STORAGE_URL,
    };
}

/// Every setting, in the order of `--help`.
pub fn all() -> impl Iterator<Item = Setting> {
    let in_order = [
        listen::ALL,
        storage::ALL,
        storage::s3::ALL,
        services::ALL,
        auth::ALL,
        limits::ALL,
        log::ALL,
    ];
    in_order.into_iter().flatten().copied()
}

/// Everything an operator can decide, checked. `Debug` shows no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where the program listens.
    pub listen: ListenSettings,
    /// Where everything is kept.
    pub storage: StorageSettings,
    /// Where the document service serves gRPC; none if the program doesn't call it.
    pub document_grpc_url: Option<String>,
    /// Who may call, and what proves it.
    pub auth: AuthSettings,
    /// Bounds.
    pub limits: LimitSettings,
    /// What is logged, and how.
    pub log: LogSettings,
    /// Variables that start with `DMS_` and mean nothing to this build, sorted: most often a typing
    /// error, so worth a warning. Bounded to 20.
    pub unknown_variables: Vec<String>,
}

impl Settings {
    /// The settings of `program`: options win over variables of `source`, those over defaults.
    ///
    /// ```
    /// use std::collections::BTreeMap;
    /// use dms_runtime::settings::Backends;
    /// use dms_runtime::{Program, SettingFlags, Settings};
    ///
    /// let program = Program {
    ///     name: "dms",
    ///     version: "1.0.0",
    ///     http_port: 8000,
    ///     grpc_port: None,
    ///     backends: Backends::EMBEDDED,
    /// };
    /// let variables = BTreeMap::from([("DMS_HTTP_ADDR", "[::1]:9000"), ("DMS_LOG", "warn")]);
    /// let options = SettingFlags::default().with("log", "debug");
    /// let settings = Settings::read(&program, &options, &variables)?;
    /// assert_eq!(settings.listen.http.port(), 9000);
    /// assert_eq!(settings.log.filter, "debug");
    /// # Ok::<(), dms_runtime::StartupError>(())
    /// ```
    ///
    /// # Errors
    /// [`ExitStatus::Usage`](crate::ExitStatus::Usage), with one line that names the variable, what
    /// was given (never a secret) and what is accepted.
    pub fn read(
        program: &Program,
        flags: &SettingFlags,
        source: &dyn Source,
    ) -> Result<Self, StartupError> {
        let reader = Reader::new(flags, source);
        let listen = ListenSettings::read(program, &reader)?;
        Ok(Self {
            storage: StorageSettings::read(&reader, &program.backends)?,
            document_grpc_url: program
                .backends
                .document_service
                .then(|| services::document_grpc_url(&reader))
                .transpose()?,
            auth: AuthSettings::read(&reader, &listen)?,
            limits: LimitSettings::read(&reader)?,
            log: LogSettings::read(&reader)?,
            unknown_variables: unknown_variables(source),
            listen,
        })
    }

    /// Logs what is allowed and yet worth a second look. Call it once logging has started.
    pub fn log_warnings(&self) {
        for variable in &self.unknown_variables {
            tracing::warn!(variable, "variable means nothing to this build");
        }
        if let (Some((variable, address)), AuthMode::Off) =
            (self.listen.off_loopback(), self.auth.mode)
        {
            tracing::warn!(variable, %address, "whoever reaches the address may do everything");
        }
        if self.auth.key == TokenKey::Nothing {
            tracing::warn!("no key is configured, so no token is valid");
        }
    }

    /// The HTTP address alone: what `healthcheck` needs, whatever else is wrong.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn http_address(
        program: &Program,
        flags: &SettingFlags,
        source: &dyn Source,
    ) -> Result<SocketAddr, StartupError> {
        listen::http(program, &Reader::new(flags, source))
    }
}

const UNKNOWN_MAX: usize = 20;

fn unknown_variables(source: &dyn Source) -> Vec<String> {
    let known: Vec<String> =
        all().flat_map(|one| [Some(one.name.to_owned()), one.file_name()]).flatten().collect();
    let mut unknown: Vec<String> = source
        .names()
        .into_iter()
        .filter(|name| name.starts_with("DMS_") && !known.contains(name))
        .map(|name| reader::shown(&name))
        .collect();
    unknown.sort();
    unknown.truncate(UNKNOWN_MAX);
    unknown
}

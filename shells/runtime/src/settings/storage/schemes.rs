//! Which backends a program can use, by the schemes of their URLs.

/// The schemes that a program accepts for each part. A part with none isn't used: the program has no
/// setting for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backends {
    /// Of `DMS_DATABASE_URL`: `sqlite`, `postgres`.
    pub database: &'static [&'static str],
    /// Of `DMS_STORAGE_URL`: `file`, `s3`.
    pub storage: &'static [&'static str],
    /// Of `DMS_CACHE_URL`: `memory`, `redis`.
    pub cache: &'static [&'static str],
    /// Of `DMS_EVENTS_URL`: `sqlite`, `postgres`, `kafka`.
    pub events: &'static [&'static str],
    /// Of `DMS_SEARCH_URL`: `file`, `http`.
    pub search: &'static [&'static str],
    /// Whether the program calls the document service over gRPC.
    pub document_service: bool,
    /// What to do to have the schemes that aren't accepted, if anything can be done.
    pub hint: Option<&'static str>,
}

impl Backends {
    /// Nothing at all.
    pub const NONE: Self = Self {
        database: &[],
        storage: &[],
        cache: &[],
        events: &[],
        search: &[],
        document_service: false,
        hint: None,
    };

    /// What needs no engine.
    pub const EMBEDDED: Self = Self {
        database: &["sqlite"],
        storage: &["file"],
        cache: &["memory"],
        events: &["sqlite"],
        search: &["file"],
        ..Self::NONE
    };

    /// What needs no engine, and every engine.
    pub const ALL: Self = Self {
        database: &["sqlite", "postgres"],
        storage: &["file", "s3"],
        cache: &["memory", "redis"],
        events: &["sqlite", "postgres", "kafka"],
        search: &["file", "http"],
        ..Self::NONE
    };

    /// Whether anything is kept in the data directory unless it is put elsewhere.
    pub const fn keeps_files(&self) -> bool {
        !self.database.is_empty() || !self.storage.is_empty() || !self.search.is_empty()
    }
}

/// How a URL of a scheme is written.
pub(super) fn example(scheme: &str) -> &'static str {
    match scheme {
        "sqlite" => "sqlite://PATH",
        "file" => "file://PATH",
        "memory" => "memory:",
        "postgres" => "postgres://USER:PASSWORD@HOST:PORT/DATABASE",
        "s3" => "s3://BUCKET or s3://BUCKET/PREFIX",
        "redis" => "redis://HOST:PORT or redis://HOST:PORT/NUMBER",
        "kafka" => "kafka://HOST:PORT,HOST:PORT or kafka://HOST:PORT/PREFIX",
        "http" => "http(s)://HOST:PORT or http(s)://HOST:PORT/ALIAS",
        _ => "",
    }
}

/// The scheme in `accepted` that a written one means: some have two spellings, or one for TLS.
pub(super) fn canonical(written: &str) -> &str {
    match written {
        "postgresql" => "postgres",
        "rediss" => "redis",
        "https" => "http",
        other => other,
    }
}

//! Where a part of the product is, as far as the settings tell.

use std::path::PathBuf;

use crate::Secret;

/// Where documents and signatures are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatabaseLocation {
    /// A `SQLite` file, absolute or relative to the working directory. It and its folder may not
    /// exist yet.
    Sqlite(PathBuf),
    /// A `PostgreSQL` server.
    Postgres {
        /// For everything; there may be a pooler between.
        url: Secret,
        /// For migrations and replication: no pooler between.
        direct_url: Secret,
        /// For lists that needn't be the newest.
        replica_url: Option<Secret>,
    },
}

/// Where content and images are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageLocation {
    /// A folder, absolute or relative to the working directory. It may not exist yet.
    Files(PathBuf),
    /// A bucket of S3, or of what speaks its protocol.
    S3(S3Location),
}

/// A bucket, and who may use it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Location {
    /// Its name.
    pub bucket: String,
    /// What every key begins with, without slashes at its ends; may be none.
    pub prefix: Option<String>,
    /// Where the service is; none for that of Amazon.
    pub endpoint: Option<String>,
    /// The region.
    pub region: String,
    /// Public part of the credentials.
    pub access_key_id: Secret,
    /// Secret part of the credentials.
    pub secret_access_key: Secret,
}

/// Where cached documents are, and views are counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheLocation {
    /// In this process; views in a file of the data directory.
    Memory,
    /// A Redis server.
    Redis(Secret),
}

/// Where changes come from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventsLocation {
    /// The change log of the `SQLite` database.
    Database,
    /// The write-ahead log of a `PostgreSQL` server: no pooler between.
    Postgres(Secret),
    /// Topics that Debezium writes to.
    Kafka {
        /// `HOST:PORT`, at least one.
        brokers: Vec<String>,
        /// The topics are `PREFIX.documents` and `PREFIX.signatures`; none for `cdc`.
        topic_prefix: Option<String>,
    },
}

/// Where the search index is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchLocation {
    /// A folder, absolute or relative to the working directory. It may not exist yet.
    Files(PathBuf),
    /// An Elasticsearch server.
    Elasticsearch {
        /// Its address, with the path of a proxy in front if there is one.
        url: Secret,
        /// The name that the index is found under; none for `documents`.
        alias: Option<String>,
    },
}

/// What happens to an older schema at start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Migrate {
    /// Migrations are applied.
    #[default]
    Auto,
    /// The program refuses to start.
    Off,
}

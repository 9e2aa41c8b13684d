//! Where everything is kept: the data directory and the five URLs.

mod locations;
mod parts;
pub(super) mod s3;
mod schemes;

use std::path::{Path, PathBuf};

pub use locations::{
    CacheLocation, DatabaseLocation, EventsLocation, Migrate, S3Location, SearchLocation,
    StorageLocation,
};
pub use schemes::Backends;

use self::parts::Parts;
use super::location;
use super::reader::Reader;
use super::setting::Setting;
use crate::StartupError;

const HEADING: &str = "Where everything is kept";

/// `DMS_DATA_DIR`: where embedded backends keep everything.
pub const DATA_DIR: Setting = Setting {
    name: "DMS_DATA_DIR",
    heading: HEADING,
    value_name: "PATH",
    default: "./dms-data",
    help: "Folder of everything that is stored\n\n\
        It is created if it is missing. One process uses it at a time. The URLs below can put \
        parts of it elsewhere.",
    from_file: false,
};

/// `DMS_DATABASE_URL`: documents and signatures.
pub const DATABASE_URL: Setting = Setting {
    name: "DMS_DATABASE_URL",
    heading: HEADING,
    value_name: "URL",
    default: "sqlite://DATA_DIR/dms.db",
    help: "Database of documents and signatures\n\n\
        sqlite://PATH is relative to the working directory, sqlite:///PATH is absolute. \
        postgres://USER:PASSWORD@HOST:PORT/DATABASE is a server, also behind PgBouncer 1.21 or newer.",
    from_file: true,
};

/// `DMS_DATABASE_DIRECT_URL`: the database without a pooler between.
pub const DATABASE_DIRECT_URL: Setting = Setting {
    name: "DMS_DATABASE_DIRECT_URL",
    heading: HEADING,
    value_name: "URL",
    default: "that of the database",
    help: "The same PostgreSQL without a pooler between\n\n\
        Migrations and replication need it.",
    from_file: true,
};

/// `DMS_DATABASE_REPLICA_URL`: a replica to list from.
pub const DATABASE_REPLICA_URL: Setting = Setting {
    name: "DMS_DATABASE_REPLICA_URL",
    heading: HEADING,
    value_name: "URL",
    default: "none",
    help: "A replica of PostgreSQL\n\n\
        Lists are read from it, and may lack what was written a moment ago. Nothing else is.",
    from_file: true,
};

/// `DMS_STORAGE_URL`: content and signature images.
pub const STORAGE_URL: Setting = Setting {
    name: "DMS_STORAGE_URL",
    heading: HEADING,
    value_name: "URL",
    default: "file://DATA_DIR/blobs",
    help: "Content of documents and images of signatures\n\n\
        file://PATH is relative to the working directory, file:///PATH is absolute. s3://BUCKET is \
        a bucket, see the settings of S3; s3://BUCKET/PREFIX keeps to the keys below it.",
    from_file: false,
};

/// `DMS_CACHE_URL`: the document cache and the view counters.
pub const CACHE_URL: Setting = Setting {
    name: "DMS_CACHE_URL",
    heading: HEADING,
    value_name: "URL",
    default: "memory:",
    help: "Cache of documents, and counters of views\n\n\
        memory: keeps the cache in this process and the counters in the data directory. \
        redis://HOST:PORT is a server that several processes share, and a number as its path, \
        redis://HOST:PORT/1, another of its databases.",
    from_file: true,
};

/// `DMS_EVENTS_URL`: the change stream.
pub const EVENTS_URL: Setting = Setting {
    name: "DMS_EVENTS_URL",
    heading: HEADING,
    value_name: "URL",
    default: "the database's own change log",
    help: "Stream of changes that feeds search and live updates\n\n\
        Leave it out to follow the database: the change log of SQLite, the write-ahead log of \
        PostgreSQL. kafka://HOST:PORT,HOST:PORT reads the topics that Debezium writes: \
        cdc.documents and cdc.signatures, or those of another prefix, kafka://HOST:PORT/PREFIX.",
    from_file: true,
};

/// `DMS_SEARCH_URL`: the search index.
pub const SEARCH_URL: Setting = Setting {
    name: "DMS_SEARCH_URL",
    heading: HEADING,
    value_name: "URL",
    default: "file://DATA_DIR/index",
    help: "Search index\n\n\
        file://PATH is relative to the working directory, file:///PATH is absolute. \
        http(s)://HOST:PORT is Elasticsearch, with the index `documents` or that of another name, \
        http(s)://HOST:PORT/ALIAS. It is built anew from the database if it is missing.",
    from_file: true,
};

/// `DMS_MIGRATE`: whether the database's schema is brought up to date at start.
pub const MIGRATE: Setting = Setting {
    name: "DMS_MIGRATE",
    heading: HEADING,
    value_name: "auto|off",
    default: "auto",
    help: "Whether the database's schema is brought up to date at start\n\n\
        off: refuse to start on an older schema.",
    from_file: false,
};

/// `DMS_CONSUMER_GROUP`: who this program is to the change stream.
pub const CONSUMER_GROUP: Setting = Setting {
    name: "DMS_CONSUMER_GROUP",
    heading: HEADING,
    value_name: "NAME",
    default: "the program's name",
    help: "Name under which the change stream remembers how far the search index is\n\n\
        The group of Kafka, the replication slot of PostgreSQL. Programs with one name share the \
        work.",
    from_file: false,
};

/// The settings of this file, in the order of `--help`.
pub(super) const ALL: &[Setting] = &[
    DATA_DIR,
    DATABASE_URL,
    DATABASE_DIRECT_URL,
    DATABASE_REPLICA_URL,
    STORAGE_URL,
    CACHE_URL,
    EVENTS_URL,
    SEARCH_URL,
    MIGRATE,
    CONSUMER_GROUP,
];

/// Where everything is kept; none for what the program doesn't use. The content and index folders are
/// apart, and neither holds the database file by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// Folder of embedded backends, see [`DATA_DIR`]; also holds the lock against a second process.
    pub data_dir: PathBuf,
    /// See [`DATABASE_URL`].
    pub database: Option<DatabaseLocation>,
    /// See [`STORAGE_URL`].
    pub storage: Option<StorageLocation>,
    /// See [`CACHE_URL`].
    pub cache: Option<CacheLocation>,
    /// See [`EVENTS_URL`].
    pub events: Option<EventsLocation>,
    /// See [`SEARCH_URL`].
    pub search: Option<SearchLocation>,
    /// See [`MIGRATE`].
    pub migrate: Migrate,
    /// See [`CONSUMER_GROUP`].
    pub consumer_group: Option<String>,
}

impl StorageSettings {
    /// Everything in files below `data_dir`, and nothing elsewhere.
    pub fn embedded(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_owned(),
            database: Some(DatabaseLocation::Sqlite(data_dir.join("dms.db"))),
            storage: Some(StorageLocation::Files(data_dir.join("blobs"))),
            cache: Some(CacheLocation::Memory),
            events: Some(EventsLocation::Database),
            search: Some(SearchLocation::Files(data_dir.join("index"))),
            migrate: Migrate::Auto,
            consumer_group: None,
        }
    }

    pub(super) fn read(reader: &Reader<'_>, backends: &Backends) -> Result<Self, StartupError> {
        let data_dir = data_dir(reader)?;
        let parts = Parts { reader, backends, data_dir: &data_dir };
        let database = parts.database()?;
        let settings = Self {
            storage: parts.storage()?,
            cache: parts.cache()?,
            events: parts.events(database.as_ref())?,
            search: parts.search()?,
            migrate: migrate(reader)?,
            consumer_group: consumer_group(reader)?,
            data_dir,
            database,
        };
        settings.check_apart()?;
        Ok(settings)
    }

    /// Sweeping orphaned content or rebuilding the index must not delete what isn't theirs.
    fn check_apart(&self) -> Result<(), StartupError> {
        let database = match &self.database {
            Some(DatabaseLocation::Sqlite(file)) => Some((file, "the file of DMS_DATABASE_URL")),
            _ => None,
        };
        let storage = match &self.storage {
            Some(StorageLocation::Files(folder)) => Some((folder, "the folder of DMS_STORAGE_URL")),
            _ => None,
        };
        let search = match &self.search {
            Some(SearchLocation::Files(folder)) => Some((folder, "the folder of DMS_SEARCH_URL")),
            _ => None,
        };
        for (one, other) in [(storage, search), (database, storage), (database, search)] {
            let (Some((one, its)), Some((other, name))) = (one, other) else { continue };
            if location::overlap(one, other) {
                return Err(StartupError::usage(format!(
                    "{its} and {name} lie in one another, keep them apart"
                )));
            }
        }
        Ok(())
    }
}

fn data_dir(reader: &Reader<'_>) -> Result<PathBuf, StartupError> {
    let Some(given) = reader.text(&DATA_DIR)? else { return Ok(PathBuf::from("dms-data")) };
    if given.value.contains("://") || given.value.contains('\0') {
        return Err(given.refuse_value("a path"));
    }
    if given.value.starts_with('~') {
        return Err(given.refuse_value("a path without ~, which only a shell understands"));
    }
    Ok(PathBuf::from(given.value))
}

fn migrate(reader: &Reader<'_>) -> Result<Migrate, StartupError> {
    let Some(given) = reader.text(&MIGRATE)? else { return Ok(Migrate::Auto) };
    match given.value.as_str() {
        "auto" => Ok(Migrate::Auto),
        "off" => Ok(Migrate::Off),
        _ => Err(given.refuse_value("auto or off")),
    }
}

/// The name must suit a replication slot as well as a Kafka group.
fn consumer_group(reader: &Reader<'_>) -> Result<Option<String>, StartupError> {
    let Some(given) = reader.text(&CONSUMER_GROUP)? else { return Ok(None) };
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || b"-_".contains(&c);
    if given.value.len() > 40 || !given.value.bytes().all(plain) {
        return Err(given.refuse_value("at most 40 of a to z, 0 to 9, - and _"));
    }
    Ok(Some(given.value))
}

//! Where everything is kept: the data directory and the five URLs.

use std::path::{Path, PathBuf};

use super::location;
use super::reader::{Given, Reader};
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
        sqlite://PATH is relative to the working directory, sqlite:///PATH is absolute.",
    from_file: false,
};

/// `DMS_STORAGE_URL`: content and signature images.
pub const STORAGE_URL: Setting = Setting {
    name: "DMS_STORAGE_URL",
    heading: HEADING,
    value_name: "URL",
    default: "file://DATA_DIR/blobs",
    help: "Content of documents and images of signatures\n\n\
        file://PATH is relative to the working directory, file:///PATH is absolute.",
    from_file: false,
};

/// `DMS_CACHE_URL`: the document cache and the view counters' front.
pub const CACHE_URL: Setting = Setting {
    name: "DMS_CACHE_URL",
    heading: HEADING,
    value_name: "URL",
    default: "memory:",
    help: "Cache of documents\n\nmemory: keeps it in this process.",
    from_file: false,
};

/// `DMS_EVENTS_URL`: the change stream.
pub const EVENTS_URL: Setting = Setting {
    name: "DMS_EVENTS_URL",
    heading: HEADING,
    value_name: "URL",
    default: "the database's own change log",
    help: "Stream of changes that feeds search and live updates\n\n\
        Leave it out, or give the same URL as for the database.",
    from_file: false,
};

/// `DMS_SEARCH_URL`: the search index.
pub const SEARCH_URL: Setting = Setting {
    name: "DMS_SEARCH_URL",
    heading: HEADING,
    value_name: "URL",
    default: "file://DATA_DIR/index",
    help: "Search index\n\n\
        file://PATH is relative to the working directory, file:///PATH is absolute. It is built \
        anew from the database if it is missing.",
    from_file: false,
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

/// The settings of this file, in the order of `--help`.
pub(super) const ALL: &[Setting] =
    &[DATA_DIR, DATABASE_URL, STORAGE_URL, CACHE_URL, EVENTS_URL, SEARCH_URL, MIGRATE];

/// Where documents and signatures are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatabaseLocation {
    /// A `SQLite` file, absolute or relative to the working directory. It and its folder may not
    /// exist yet.
    Sqlite(PathBuf),
}

/// Where content and images are.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageLocation {
    /// A folder, absolute or relative to the working directory. It may not exist yet.
    Files(PathBuf),
}

/// Where cached documents are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CacheLocation {
    /// In this process.
    Memory,
}

/// Where changes come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EventsLocation {
    /// The database's own change stream.
    Database,
}

/// Where the search index is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SearchLocation {
    /// A folder, absolute or relative to the working directory. It may not exist yet.
    Files(PathBuf),
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

/// Where everything is kept. The content and index folders are apart, and neither holds the database
/// file by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageSettings {
    /// Folder of embedded backends, see [`DATA_DIR`]; also holds the lock against a second process.
    pub data_dir: PathBuf,
    /// See [`DATABASE_URL`].
    pub database: DatabaseLocation,
    /// See [`STORAGE_URL`].
    pub storage: StorageLocation,
    /// See [`CACHE_URL`].
    pub cache: CacheLocation,
    /// See [`EVENTS_URL`].
    pub events: EventsLocation,
    /// See [`SEARCH_URL`].
    pub search: SearchLocation,
    /// See [`MIGRATE`].
    pub migrate: Migrate,
}

impl StorageSettings {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Self, StartupError> {
        let data_dir = data_dir(reader)?;
        let database = database(reader, &data_dir)?;
        let storage = folder(reader, &STORAGE_URL, data_dir.join("blobs"))?;
        let search = folder(reader, &SEARCH_URL, data_dir.join("index"))?;
        let settings = Self {
            cache: cache(reader)?,
            events: events(reader, &database)?,
            migrate: migrate(reader)?,
            data_dir,
            database,
            storage: StorageLocation::Files(storage),
            search: SearchLocation::Files(search),
        };
        settings.check_apart()?;
        Ok(settings)
    }

    /// Sweeping orphaned content or rebuilding the index must not delete what isn't theirs.
    fn check_apart(&self) -> Result<(), StartupError> {
        let DatabaseLocation::Sqlite(database) = &self.database;
        let StorageLocation::Files(storage) = &self.storage;
        let SearchLocation::Files(search) = &self.search;
        let apart = |one: &Path, other: &Path, what: &str| {
            if location::overlap(one, other) {
                return Err(StartupError::usage(format!(
                    "{what} lie in one another, keep them apart"
                )));
            }
            Ok(())
        };
        apart(storage, search, "the folders of DMS_STORAGE_URL and DMS_SEARCH_URL")?;
        apart(database, storage, "the file of DMS_DATABASE_URL and the folder of DMS_STORAGE_URL")?;
        apart(database, search, "the file of DMS_DATABASE_URL and the folder of DMS_SEARCH_URL")
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

const SQLITE_ONLY: &str = "sqlite://PATH";
const FILES_ONLY: &str = "file://PATH";

fn sqlite(given: &Given) -> Result<PathBuf, StartupError> {
    match location::split(&given.value) {
        Some((scheme, rest)) if scheme == "sqlite" => {
            if rest.ends_with('/') {
                return Err(given.refuse("names a folder, expected the path of a file"));
            }
            location::path(given, rest)
        }
        _ => Err(location::refuse(given, SQLITE_ONLY)),
    }
}

fn database(reader: &Reader<'_>, data_dir: &Path) -> Result<DatabaseLocation, StartupError> {
    let path = match reader.text(&DATABASE_URL)? {
        Some(given) => sqlite(&given)?,
        None => data_dir.join("dms.db"),
    };
    Ok(DatabaseLocation::Sqlite(path))
}

fn folder(
    reader: &Reader<'_>,
    setting: &Setting,
    default: PathBuf,
) -> Result<PathBuf, StartupError> {
    let Some(given) = reader.text(setting)? else { return Ok(default) };
    match location::split(&given.value) {
        Some((scheme, rest)) if scheme == "file" => location::path(&given, rest),
        _ => Err(location::refuse(&given, FILES_ONLY)),
    }
}

fn cache(reader: &Reader<'_>) -> Result<CacheLocation, StartupError> {
    let Some(given) = reader.text(&CACHE_URL)? else { return Ok(CacheLocation::Memory) };
    match location::split(&given.value) {
        Some((scheme, "" | "//")) if scheme == "memory" => Ok(CacheLocation::Memory),
        _ => Err(location::refuse(&given, "memory:")),
    }
}

fn events(
    reader: &Reader<'_>,
    database: &DatabaseLocation,
) -> Result<EventsLocation, StartupError> {
    let Some(given) = reader.text(&EVENTS_URL)? else { return Ok(EventsLocation::Database) };
    let DatabaseLocation::Sqlite(database) = database;
    match location::split(&given.value) {
        Some((scheme, _)) if scheme == "sqlite" => {
            if location::normal(&sqlite(&given)?) == location::normal(database) {
                return Ok(EventsLocation::Database);
            }
            Err(given
                .refuse("is not the database of DMS_DATABASE_URL, leave it out or give the same"))
        }
        _ => Err(location::refuse(&given, "the URL of the database, or nothing")),
    }
}

fn migrate(reader: &Reader<'_>) -> Result<Migrate, StartupError> {
    let Some(given) = reader.text(&MIGRATE)? else { return Ok(Migrate::Auto) };
    match given.value.as_str() {
        "auto" => Ok(Migrate::Auto),
        "off" => Ok(Migrate::Off),
        _ => Err(given.refuse_value("auto or off")),
    }
}

//! Where everything is kept: the data directory and the five URLs.

mod locations;
pub(super) mod s3;
mod schemes;

use std::path::{Path, PathBuf};

pub use locations::{
    CacheLocation, DatabaseLocation, EventsLocation, Migrate, S3Location, SearchLocation,
    StorageLocation,
};
pub use schemes::Backends;

use super::location;
use super::reader::{Given, Reader};
use super::setting::Setting;
use crate::{Secret, StartupError};

const HEADING: &str = "Where everything is kept";

/// Longest alias: what makes indices of it is within Elasticsearch's bound.
const ALIAS_BYTES_MAX: usize = 200;
/// Longest prefix of topics: with their names it is within Kafka's bound.
const TOPIC_PREFIX_BYTES_MAX: usize = 200;

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

/// A URL, the scheme it means and what follows it.
struct Url {
    given: Given,
    scheme: &'static str,
    rest: String,
}

/// Reads one URL after the other.
struct Parts<'a> {
    reader: &'a Reader<'a>,
    backends: &'a Backends,
    data_dir: &'a Path,
}

impl Parts<'_> {
    /// The URL that was given, if its scheme is accepted.
    fn url(
        &self,
        setting: &Setting,
        accepted: &'static [&'static str],
    ) -> Result<Option<Url>, StartupError> {
        let Some(given) = self.reader.secret(setting)? else { return Ok(None) };
        let given = Given { value: given.value.expose().trim().to_owned(), origin: given.origin };
        let split = location::split(&given.value)
            .map(|(scheme, rest)| (schemes::canonical(&scheme).to_owned(), rest.to_owned()));
        let found = split.and_then(|(written, rest)| {
            let scheme = accepted.iter().copied().find(|scheme| *scheme == written)?;
            Some((scheme, rest))
        });
        match found {
            Some((scheme, rest)) => Ok(Some(Url { given, scheme, rest })),
            None => Err(location::refuse(&given, &self.accepted(accepted))),
        }
    }

    fn accepted(&self, schemes: &[&str]) -> String {
        let examples: Vec<&str> = schemes.iter().map(|scheme| schemes::example(scheme)).collect();
        let mut text = examples.join(" or ");
        if let Some(hint) = self.backends.hint {
            text.push_str("; ");
            text.push_str(hint);
        }
        text
    }

    /// What applies when nothing was given: `embedded` if it is accepted.
    fn default_of<T>(
        &self,
        setting: &Setting,
        accepted: &[&str],
        scheme: &str,
        embedded: T,
    ) -> Result<Option<T>, StartupError> {
        if accepted.is_empty() {
            return Ok(None);
        }
        if accepted.contains(&scheme) {
            return Ok(Some(embedded));
        }
        Err(StartupError::usage(format!(
            "{}: is not given, expected {}",
            setting.name,
            self.accepted(accepted)
        )))
    }

    fn database(&self) -> Result<Option<DatabaseLocation>, StartupError> {
        let accepted = self.backends.database;
        let embedded = DatabaseLocation::Sqlite(self.data_dir.join("dms.db"));
        let Some(url) = self.url_if_used(&DATABASE_URL, accepted)? else {
            return self.default_of(&DATABASE_URL, accepted, "sqlite", embedded);
        };
        let direct = self.postgres_url(&DATABASE_DIRECT_URL)?;
        let replica = self.postgres_url(&DATABASE_REPLICA_URL)?;
        if url.scheme == "sqlite" {
            if let Some((setting, _)) =
                [(DATABASE_DIRECT_URL, direct), (DATABASE_REPLICA_URL, replica)]
                    .into_iter()
                    .find(|(_, given)| given.is_some())
            {
                return Err(StartupError::usage(format!(
                    "{}: is given, but DMS_DATABASE_URL is no postgres://; leave it out",
                    setting.name
                )));
            }
            return sqlite(&url).map(|path| Some(DatabaseLocation::Sqlite(path)));
        }
        server(&url, "postgres")?;
        let main = Secret::new(url.given.value);
        Ok(Some(DatabaseLocation::Postgres {
            direct_url: direct.unwrap_or_else(|| main.clone()),
            replica_url: replica,
            url: main,
        }))
    }

    fn postgres_url(&self, setting: &Setting) -> Result<Option<Secret>, StartupError> {
        if !self.backends.database.contains(&"postgres") {
            return Ok(None);
        }
        let Some(url) = self.url(setting, &["postgres"])? else { return Ok(None) };
        server(&url, "postgres")?;
        Ok(Some(Secret::new(url.given.value)))
    }

    fn url_if_used(
        &self,
        setting: &Setting,
        accepted: &'static [&'static str],
    ) -> Result<Option<Url>, StartupError> {
        if accepted.is_empty() { Ok(None) } else { self.url(setting, accepted) }
    }

    fn storage(&self) -> Result<Option<StorageLocation>, StartupError> {
        let accepted = self.backends.storage;
        let embedded = StorageLocation::Files(self.data_dir.join("blobs"));
        match self.url_if_used(&STORAGE_URL, accepted)? {
            None => self.default_of(&STORAGE_URL, accepted, "file", embedded),
            Some(url) if url.scheme == "s3" => s3::location(self.reader, &url.given, &url.rest)
                .map(|s3| Some(StorageLocation::S3(s3))),
            Some(url) => {
                location::path(&url.given, &url.rest).map(|path| Some(StorageLocation::Files(path)))
            }
        }
    }

    fn cache(&self) -> Result<Option<CacheLocation>, StartupError> {
        let accepted = self.backends.cache;
        match self.url_if_used(&CACHE_URL, accepted)? {
            None => self.default_of(&CACHE_URL, accepted, "memory", CacheLocation::Memory),
            Some(url) if url.scheme == "redis" => {
                server(&url, "redis")?;
                Ok(Some(CacheLocation::Redis(Secret::new(url.given.value))))
            }
            Some(url) if matches!(url.rest.as_str(), "" | "//") => Ok(Some(CacheLocation::Memory)),
            Some(url) => Err(location::refuse(&url.given, &self.accepted(accepted))),
        }
    }

    fn search(&self) -> Result<Option<SearchLocation>, StartupError> {
        let accepted = self.backends.search;
        let embedded = SearchLocation::Files(self.data_dir.join("index"));
        match self.url_if_used(&SEARCH_URL, accepted)? {
            None => self.default_of(&SEARCH_URL, accepted, "file", embedded),
            Some(url) if url.scheme == "http" => elasticsearch(&url).map(Some),
            Some(url) => {
                location::path(&url.given, &url.rest).map(|path| Some(SearchLocation::Files(path)))
            }
        }
    }

    /// The stream follows the database unless it is told otherwise.
    fn events(
        &self,
        database: Option<&DatabaseLocation>,
    ) -> Result<Option<EventsLocation>, StartupError> {
        let accepted = self.backends.events;
        let Some(url) = self.url_if_used(&EVENTS_URL, accepted)? else {
            return match database {
                _ if accepted.is_empty() => Ok(None),
                Some(DatabaseLocation::Postgres { direct_url, .. }) => {
                    Ok(Some(EventsLocation::Postgres(direct_url.clone())))
                }
                Some(DatabaseLocation::Sqlite(_)) | None => {
                    self.default_of(&EVENTS_URL, accepted, "sqlite", EventsLocation::Database)
                }
            };
        };
        match (url.scheme, database) {
            ("sqlite", Some(DatabaseLocation::Sqlite(file)))
                if location::normal(&sqlite(&url)?) == location::normal(file) =>
            {
                Ok(Some(EventsLocation::Database))
            }
            ("sqlite", _) => Err(url
                .given
                .refuse("is not the database of DMS_DATABASE_URL, leave it out or give the same")),
            (_, Some(DatabaseLocation::Sqlite(_))) => Err(url.given.refuse(
                "is not where the changes of DMS_DATABASE_URL, which is sqlite://, go to; leave it out",
            )),
            ("kafka", _) => kafka(&url).map(Some),
            _ => {
                server(&url, "postgres")?;
                Ok(Some(EventsLocation::Postgres(Secret::new(url.given.value))))
            }
        }
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

fn sqlite(url: &Url) -> Result<PathBuf, StartupError> {
    if url.rest.ends_with('/') {
        return Err(url.given.refuse("names a folder, expected the path of a file"));
    }
    location::path(&url.given, &url.rest)
}

/// Whether the URL names a host; what else is in it is for the client of the engine to judge.
fn server(url: &Url, scheme: &str) -> Result<(), StartupError> {
    let rest = url.rest.strip_prefix("//").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let sound = !host.is_empty() && !host.starts_with(':') && !host.contains(char::is_whitespace);
    if sound {
        return Ok(());
    }
    let shown = location::redacted(&url.given.value);
    Err(url.given.refuse(format!("`{shown}` names no host, expected {}", schemes::example(scheme))))
}

/// What follows the last slash of the path is the alias; what is before it is the way through a proxy.
fn elasticsearch(url: &Url) -> Result<SearchLocation, StartupError> {
    server(url, "http")?;
    let refuse = |why: &str| {
        let shown = location::redacted(&url.given.value);
        let expected = schemes::example("http");
        Err(url.given.refuse(format!("`{shown}` {why}, expected {expected}")))
    };
    if url.rest.contains(['?', '#']) {
        return refuse("takes no parameters");
    }
    let (_, after) = url.given.value.split_once("://").unwrap_or_default();
    let alias = after.rsplit_once('/').map_or("", |(_, alias)| alias);
    if alias.is_empty() {
        let url = Secret::new(url.given.value.clone());
        return Ok(SearchLocation::Elasticsearch { url, alias: None });
    }
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    let starts = alias.starts_with(|c: char| c.is_ascii_lowercase());
    if alias.len() > ALIAS_BYTES_MAX || !starts || !alias.bytes().all(plain) {
        return refuse("names no alias of a to z, 0 to 9 and -, a letter first");
    }
    let base = url.given.value.strip_suffix(alias).unwrap_or_default();
    Ok(SearchLocation::Elasticsearch {
        url: Secret::new(base.to_owned()),
        alias: Some(alias.to_owned()),
    })
}

fn kafka(url: &Url) -> Result<EventsLocation, StartupError> {
    let refuse = |why: &str| {
        let shown = location::redacted(&url.given.value);
        url.given.refuse(format!("`{shown}` {why}, expected {}", schemes::example("kafka")))
    };
    let rest = url.rest.strip_prefix("//").unwrap_or_default();
    let (brokers, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if rest.contains(['?', '#', '@']) {
        return Err(refuse("holds more than brokers and a prefix"));
    }
    let word = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
    if prefix.len() > TOPIC_PREFIX_BYTES_MAX || !prefix.bytes().all(word) {
        return Err(refuse("has a prefix that isn't made of letters, digits, '.', '_' and '-'"));
    }
    let brokers: Vec<String> = brokers.split(',').map(|broker| broker.trim().to_owned()).collect();
    let sound = |broker: &String| {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.[]:".contains(c);
        let port =
            broker.rsplit_once(':').map(|(host, port)| (host.is_empty(), port.parse::<u16>()));
        broker.chars().all(plain) && matches!(port, Some((false, Ok(1..))))
    };
    if !brokers.iter().all(sound) {
        return Err(refuse("names no broker"));
    }
    let topic_prefix = (!prefix.is_empty()).then(|| prefix.to_owned());
    Ok(EventsLocation::Kafka { brokers, topic_prefix })
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

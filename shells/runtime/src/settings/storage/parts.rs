//! Each part by its URL: whether the program takes its scheme, and what the rest of it says.

use std::path::{Path, PathBuf};

use super::locations::{
    CacheLocation, DatabaseLocation, EventsLocation, SearchLocation, StorageLocation,
};
use super::schemes::{self, Backends};
use super::{
    CACHE_URL, DATABASE_DIRECT_URL, DATABASE_REPLICA_URL, DATABASE_URL, EVENTS_URL, SEARCH_URL,
    STORAGE_URL, s3,
};
use crate::settings::location;
use crate::settings::reader::{Given, Reader};
use crate::settings::setting::Setting;
use crate::{Secret, StartupError};

/// Longest alias: what makes indices of it is within Elasticsearch's bound.
const ALIAS_BYTES_MAX: usize = 200;
/// Longest prefix of topics: with their names it is within Kafka's bound.
const TOPIC_PREFIX_BYTES_MAX: usize = 200;

/// A URL, the scheme it means and what follows it.
struct Url {
    given: Given,
    scheme: &'static str,
    rest: String,
}

/// Reads one URL after the other.
pub(super) struct Parts<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) backends: &'a Backends,
    pub(super) data_dir: &'a Path,
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

    pub(super) fn database(&self) -> Result<Option<DatabaseLocation>, StartupError> {
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

    pub(super) fn storage(&self) -> Result<Option<StorageLocation>, StartupError> {
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

    pub(super) fn cache(&self) -> Result<Option<CacheLocation>, StartupError> {
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

    pub(super) fn search(&self) -> Result<Option<SearchLocation>, StartupError> {
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
    pub(super) fn events(
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

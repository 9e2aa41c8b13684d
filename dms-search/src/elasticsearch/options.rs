//! How an Elasticsearch index is reached and bounded.

use std::fmt;
use std::time::Duration;

use dms_core::{Error, Result};
use percent_encoding::percent_decode_str;
use reqwest::Url;

/// When what is written becomes visible to searches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RefreshPolicy {
    /// With the index's next refresh: within [`ElasticsearchOptions::refresh_interval`]. A write
    /// doesn't wait for it.
    #[default]
    Interval,
    /// A write returns after the next refresh.
    WaitFor,
    /// A write forces a refresh of its own: for tests, since it costs a lot.
    Immediate,
}

/// Where an [`ElasticsearchIndex`](super::ElasticsearchIndex) is, and its bounds.
///
/// `Debug` doesn't show the URL's user information.
#[derive(Clone, PartialEq, Eq)]
pub struct ElasticsearchOptions {
    /// Address, `http://HOST:PORT` or `https://…`, with a path if Elasticsearch is behind one. The
    /// user information is `USER:PASSWORD@`, or `:KEY@` for an API key in the form that
    /// Elasticsearch calls encoded; percent-encoded where it has to be.
    pub url: String,
    /// Name under which the index is found: `documents`. The index itself is `ALIAS-vN`, one that
    /// is being built `ALIAS-staged`. Lower-case letters, digits and hyphens, a letter first.
    pub alias: String,
    /// Certificates to trust besides the system's, in PEM.
    pub root_certificates: Vec<u8>,
    /// Shards of a new index.
    pub shards: u32,
    /// Copies of each shard of a new index; unless set, one as soon as there is a second node.
    pub replicas: Option<u32>,
    /// How often a new index shows what was written.
    pub refresh_interval: Duration,
    /// What writes wait for.
    pub refresh: RefreshPolicy,
    /// How long making a connection may take.
    pub connect_timeout: Duration,
    /// How long a search may wait and run.
    pub search_time_max: Duration,
    /// How long a part of a write, or a change of the index itself, may wait and run.
    pub write_time_max: Duration,
    /// Searches and counts that run at once.
    pub searches_max: usize,
    /// Parts of writes that run at once.
    pub writes_max: usize,
    /// Bytes of one part of a write; a single larger document still goes alone.
    pub bulk_bytes_max: usize,
    /// How long somebody else's unfinished build is watched for a sign of life before it is taken
    /// over. At least twice as long as the pause between two calls of
    /// [`StagedIndex::keep`](dms_core::ports::StagedIndex::keep).
    pub build_lease: Duration,
}

impl ElasticsearchOptions {
    /// The defaults for an address.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            alias: "documents".to_owned(),
            root_certificates: Vec::new(),
            shards: 1,
            replicas: None,
            refresh_interval: Duration::from_secs(1),
            refresh: RefreshPolicy::default(),
            connect_timeout: Duration::from_secs(1),
            search_time_max: Duration::from_secs(2),
            write_time_max: Duration::from_secs(30),
            searches_max: 64,
            writes_max: 2,
            bulk_bytes_max: 4 << 20,
            build_lease: Duration::from_secs(15),
        }
    }
}

impl fmt::Debug for ElasticsearchOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ElasticsearchOptions")
            .field("url", &redacted(&self.url))
            .field("alias", &self.alias)
            .field("shards", &self.shards)
            .field("replicas", &self.replicas)
            .field("refresh_interval", &self.refresh_interval)
            .field("refresh", &self.refresh)
            .field("connect_timeout", &self.connect_timeout)
            .field("search_time_max", &self.search_time_max)
            .field("write_time_max", &self.write_time_max)
            .field("searches_max", &self.searches_max)
            .field("writes_max", &self.writes_max)
            .field("bulk_bytes_max", &self.bulk_bytes_max)
            .field("build_lease", &self.build_lease)
            .finish_non_exhaustive()
    }
}

/// The address without its user information; nothing of one that can't be read.
fn redacted(url: &str) -> String {
    match address(url) {
        Ok(Address { url, .. }) => url.to_string(),
        Err(_) => "(not a URL)".to_owned(),
    }
}

/// How requests prove who sends them.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Credentials {
    None,
    Basic { user: String, password: String },
    ApiKey(String),
}

/// An address taken apart.
pub(super) struct Address {
    /// Without user information; ends in a slash.
    pub(super) url: Url,
    pub(super) credentials: Credentials,
}

/// Takes an address apart.
///
/// # Errors
/// `Invalid` for anything that isn't one. What was given is not part of the error: it may hold a
/// password.
pub(super) fn address(text: &str) -> Result<Address> {
    let refused = || Error::invalid("url", "must be http://HOST:PORT or https://HOST:PORT");
    let mut url = Url::parse(text).map_err(|_| refused())?;
    let is_plain = url.query().is_none() && url.fragment().is_none();
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || !is_plain {
        return Err(refused());
    }
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let user = decoded(url.username());
    let password = url.password().map(decoded);
    let credentials = match (user.is_empty(), password) {
        (true, None) => Credentials::None,
        (true, Some(key)) => Credentials::ApiKey(key),
        (false, password) => Credentials::Basic { user, password: password.unwrap_or_default() },
    };
    url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| refused())?;
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(Address { url, credentials })
}

/// Checks the name of an alias.
///
/// # Errors
/// `Invalid`.
pub(super) fn check_alias(alias: &str) -> Result<()> {
    let is_first = |c: char| c.is_ascii_lowercase();
    let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if alias.len() <= 200 && alias.starts_with(is_first) && alias.chars().all(is_fine) {
        return Ok(());
    }
    Err(Error::invalid("alias", "must be lower-case letters, digits and hyphens, a letter first"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        let plain = address("http://127.0.0.1:9200").unwrap();
        assert_eq!(plain.url.as_str(), "http://127.0.0.1:9200/");
        assert!(plain.credentials == Credentials::None);
        let basic = address("https://elastic:p%40ss@search.example.org/es").unwrap();
        assert_eq!(basic.url.as_str(), "https://search.example.org/es/");
        let expected = Credentials::Basic { user: "elastic".into(), password: "p@ss".into() };
        assert!(basic.credentials == expected);
        let key = address("https://:a2V5OnNlY3JldA%3D%3D@search.example.org").unwrap();
        assert!(key.credentials == Credentials::ApiKey("a2V5OnNlY3JldA==".into()));
        for bad in ["", "search", "ftp://host", "http://", "http://host/?pretty", "http://h/#x"] {
            assert!(address(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nothing_secret_is_shown() {
        let url = "https://elastic:hunter2@search.example.org";
        let shown = format!("{:?}", ElasticsearchOptions::new(url));
        assert!(shown.contains("https://search.example.org/"), "{shown}");
        assert!(!shown.contains("hunter2") && !shown.contains("elastic:"), "{shown}");
        let broken = ElasticsearchOptions::new("https://elastic:hunter2@[");
        assert!(!format!("{broken:?}").contains("hunter2"));
        let error = address("ftp://elastic:hunter2@host").err().map(|e| format!("{e:?} {e}"));
        assert!(error.is_some_and(|error| !error.contains("hunter2")));
    }

    #[test]
    fn aliases_are_simple_names() {
        assert!(check_alias("documents").is_ok() && check_alias("d2-test").is_ok());
        for bad in ["", "Documents", "a/b", "a,b", "*", "_all", "-a", "2a", "ä", "a b"] {
            assert!(check_alias(bad).is_err(), "{bad}");
        }
    }
}

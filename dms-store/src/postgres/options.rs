//! Where the database is, and how it is used.

use std::fmt;
use std::str::FromStr as _;
use std::time::Duration;

use dms_core::{Error, Result};
use sqlx::ConnectOptions as _;
use sqlx::postgres::PgConnectOptions;

/// How to reach and use a [`PostgresDatabase`](super::PostgresDatabase). The defaults suit a
/// service.
///
/// URLs are `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`, special characters
/// percent-encoded. What a URL leaves out is taken from where libpq takes it.
#[derive(Clone)]
pub struct PostgresOptions {
    /// The database, straight or through a pooler.
    pub url: String,
    /// The same database without a pooler between, for migrations; `url` if there is none.
    pub direct_url: Option<String>,
    /// A replica that may lag, for lists of documents; if it doesn't answer, `url` is asked.
    pub replica_url: Option<String>,
    /// Applies missing migrations when preparing; otherwise an older schema is refused.
    pub migrate: bool,
    /// Connections, and thus statements that run at once; 16, and as many to the replica.
    pub connections_max: u32,
    /// Calls that may wait for a connection; 1,024. More are refused at once.
    pub waiting_max: usize,
    /// How long a call waits for a connection, a new one being made included; 1 s.
    pub acquire_timeout: Duration,
    /// How long a statement may take; 1.5 s. The server is told, unless a pooler is between.
    pub statement_timeout: Duration,
    /// How long preparing may take, with migrations, and waiting for another's; 30 s.
    pub prepare_timeout: Duration,
}

impl PostgresOptions {
    /// The database at `url`, everything else by default.
    pub fn new(url: &str) -> Self {
        Self {
            url: url.to_owned(),
            direct_url: None,
            replica_url: None,
            migrate: true,
            connections_max: 16,
            waiting_max: 1_024,
            acquire_timeout: Duration::from_secs(1),
            statement_timeout: Duration::from_millis(1_500),
            prepare_timeout: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("url", &Address(&self.url))
            .field("direct_url", &self.direct_url.as_deref().map(Address))
            .field("replica_url", &self.replica_url.as_deref().map(Address))
            .field("migrate", &self.migrate)
            .field("connections_max", &self.connections_max)
            .field("waiting_max", &self.waiting_max)
            .field("acquire_timeout", &self.acquire_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("prepare_timeout", &self.prepare_timeout)
            .finish()
    }
}

/// What may be shown of a URL: host, port and database.
struct Address<'a>(&'a str);

impl fmt::Debug for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match parse("url", self.0) {
            Ok(options) => {
                let database = options.get_database().unwrap_or_default();
                write!(f, "postgres://{}:{}/{database}", options.get_host(), options.get_port())
            }
            Err(_) => f.write_str("(not a URL)"),
        }
    }
}

/// Where `url` leads; `field` names the option in the error.
///
/// # Errors
/// `Invalid`, without the URL: it may hold a password.
pub(super) fn parse(field: &'static str, url: &str) -> Result<PgConnectOptions> {
    let accepted = "must be postgres://USER:PASSWORD@HOST:PORT/DATABASE, special characters \
                    percent-encoded";
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(Error::invalid(field, accepted));
    }
    let options = PgConnectOptions::from_str(url)
        .map_err(|e| Error::invalid(field, accepted).with_source(e))?;
    let named = options.get_application_name().is_some();
    let options = if named { options } else { options.application_name("dms") };
    // PgBouncer refuses a parameter it doesn't know, and no number here is a fraction.
    Ok(options.extra_float_digits(None).disable_statement_logging())
}

#[cfg(test)]
mod tests {
    use dms_core::{ErrorChain, ErrorKind};

    use super::*;

    #[test]
    fn a_url_is_read_into_its_parts() {
        let options = parse(
            "url",
            "postgres://us%40er:p%2Fw@db.example.org:6432/d%20b?sslmode=require&application_name=x",
        )
        .unwrap();
        assert_eq!(options.get_username(), "us@er");
        assert_eq!((options.get_host(), options.get_port()), ("db.example.org", 6432));
        assert_eq!(options.get_database(), Some("d b"));
        assert_eq!(options.get_application_name(), Some("x"));
        assert!(matches!(options.get_ssl_mode(), sqlx::postgres::PgSslMode::Require));
        let options = parse("url", "postgresql://u@h/d").unwrap();
        assert_eq!(options.get_application_name(), Some("dms"));
    }

    #[test]
    fn what_is_no_url_is_refused_without_being_repeated() {
        for url in [
            "",
            "sqlite://dms.db",
            "mysql://u:hunter2@h/d",
            "postgres://u:hunter2@h:hunter2/d",
            "postgres://u:hunter2@[h/d",
            "postgres://u:hunter2@h/d?sslmode=hunter3",
            "postgres:hunter2",
        ] {
            let error = parse("replica_url", url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid, "{url}");
            assert_eq!(error.fields()[0].field, "replica_url", "{url}");
            let said = format!("{error:?} {}", ErrorChain(&error));
            assert!(!said.contains("hunter2"), "{said}");
        }
    }

    #[test]
    fn debug_shows_where_and_no_secret() {
        let mut options = PostgresOptions::new("postgres://owner:hunter2@h:1/d");
        options.direct_url = Some("postgres://owner:hunter2@direct/d?password=hunter2".into());
        options.replica_url = Some("hunter2".into());
        let shown = format!("{options:?}");
        assert!(!shown.contains("hunter2"), "{shown}");
        assert!(shown.contains("postgres://h:1/d") && shown.contains("direct"), "{shown}");
    }
}

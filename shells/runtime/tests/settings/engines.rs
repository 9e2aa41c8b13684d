//! URLs of engines.

use dms_runtime::settings::{
    Backends, CacheLocation, DatabaseLocation, EventsLocation, SearchLocation, StorageLocation,
};
use dms_runtime::{Program, SettingFlags, Settings};

use crate::support::{PROGRAM, environment};

/// A program that takes every engine.
fn read_all(pairs: &[(&'static str, &str)]) -> Result<Settings, String> {
    let program = Program { backends: Backends::ALL, ..PROGRAM };
    let settings = Settings::read(&program, &SettingFlags::default(), &environment(pairs));
    settings.map_err(|error| {
        let report = error.report();
        assert_eq!(report.lines().count(), 1, "{report}");
        assert!(!report.contains("hunter2"), "{report}");
        report
    })
}

const ENGINES: [(&str, &str); 4] = [
    ("DMS_DATABASE_URL", "postgres://docs:hunter2@db:6432/docs"),
    ("AWS_ACCESS_KEY_ID", "key"),
    ("AWS_SECRET_ACCESS_KEY", "hunter2"),
    ("AWS_ENDPOINT_URL", "http://s3:9000"),
];

fn with_engines(name: &'static str, value: &str) -> Result<Settings, String> {
    let given = (name, value.to_owned());
    let mut pairs: Vec<_> = ENGINES.to_vec();
    pairs.retain(|(name, _)| *name != given.0);
    pairs.push((given.0, &given.1));
    read_all(&pairs)
}

#[test]
fn urls_of_engines() {
    for (url, expected_alias, expected_base) in [
        ("http://es:9200", None, "http://es:9200"),
        ("http://es:9200/", None, "http://es:9200/"),
        ("https://u:hunter2@es:9200/tenant-1", Some("tenant-1"), "https://u:hunter2@es:9200/"),
        ("https://proxy/es/", None, "https://proxy/es/"),
        ("https://proxy/es/papers", Some("papers"), "https://proxy/es/"),
    ] {
        let settings = with_engines("DMS_SEARCH_URL", url).expect(url);
        let Some(SearchLocation::Elasticsearch { url: base, alias }) = &settings.storage.search
        else {
            panic!("{url} is {:?}", settings.storage.search)
        };
        assert_eq!((alias.as_deref(), base.expose()), (expected_alias, expected_base), "{url}");
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
    for (url, expected_brokers, expected_prefix) in [
        ("kafka://a:9092", &["a:9092"][..], None),
        ("kafka://a:9092,b:9093/", &["a:9092", "b:9093"], None),
        ("kafka://a:9092,[::1]:9092/tenant_1.cdc", &["a:9092", "[::1]:9092"], Some("tenant_1.cdc")),
    ] {
        let settings = with_engines("DMS_EVENTS_URL", url).expect(url);
        let Some(EventsLocation::Kafka { brokers, topic_prefix }) = &settings.storage.events else {
            panic!("{url} is {:?}", settings.storage.events)
        };
        assert_eq!(
            (&brokers[..], topic_prefix.as_deref()),
            (
                &expected_brokers.iter().map(|broker| (*broker).to_owned()).collect::<Vec<_>>()[..],
                expected_prefix
            )
        );
    }
    for (url, bucket, prefix) in
        [("s3://papers", "papers", None), ("s3://papers/a/b/", "papers", Some("a/b"))]
    {
        let settings = with_engines("DMS_STORAGE_URL", url).expect(url);
        let Some(StorageLocation::S3(location)) = &settings.storage.storage else {
            panic!("{url} is {:?}", settings.storage.storage)
        };
        assert_eq!((location.bucket.as_str(), location.prefix.as_deref()), (bucket, prefix));
        assert!(!format!("{settings:?}").contains("hunter2"));
    }
    let settings = with_engines("DMS_CACHE_URL", "redis://:hunter2@cache:6379/3").expect("a URL");
    assert!(matches!(settings.storage.cache, Some(CacheLocation::Redis(_))));
    let direct = with_engines("DMS_DATABASE_DIRECT_URL", "postgresql://docs:hunter2@db/docs");
    let Some(DatabaseLocation::Postgres { direct_url, .. }) =
        direct.expect("a URL").storage.database
    else {
        panic!("no PostgreSQL")
    };
    assert_eq!(direct_url.expose(), "postgresql://docs:hunter2@db/docs");
}

#[test]
fn urls_of_engines_that_cannot_be_meant_are_refused() {
    for (name, accepted, urls) in [
        (
            "DMS_DATABASE_URL",
            "postgres://USER:PASSWORD@HOST:PORT/DATABASE",
            &["postgres://", "postgres://u:hunter2@/db", "mysql://u:hunter2@h/d"][..],
        ),
        ("DMS_DATABASE_DIRECT_URL", "postgres://USER", &["redis://:hunter2@h", "postgres:///db"]),
        (
            "DMS_STORAGE_URL",
            "s3://BUCKET/PREFIX",
            &["s3://", "s3://Upper", "s3://b", "s3://key:hunter2@bucket", "s3://papers/a b"],
        ),
        ("DMS_CACHE_URL", "redis://HOST:PORT", &["redis://", "redis://:hunter2@", "http://h:1"]),
        (
            "DMS_EVENTS_URL",
            "kafka://HOST:PORT",
            &[
                "kafka://",
                "kafka://a",
                "kafka://a:0",
                "kafka://u:hunter2@a:9092",
                "kafka://a:9092?group=hunter2",
                "kafka://a:9092/one/two",
                "kafka://a:9092/with space",
            ],
        ),
        (
            "DMS_SEARCH_URL",
            "http(s)://HOST:PORT/ALIAS",
            &[
                "http://",
                "http://es:9200/Upper",
                "http://es:9200/1st",
                "http://es:9200/a_b",
                "http://u:hunter2@es:9200/a?b=hunter2",
            ],
        ),
    ] {
        for url in urls {
            let error = with_engines(name, url).err();
            let error = error.unwrap_or_else(|| panic!("{name}={url} is accepted"));
            assert!(error.starts_with(name), "{error}");
            assert!(error.contains(accepted), "{accepted} is missing in: {error}");
            let scheme = url.split("://").next().unwrap_or_default();
            assert!(error.contains(scheme), "{url} isn't shown in: {error}");
        }
    }
    let missing = [ENGINES[0], ENGINES[1], ("DMS_STORAGE_URL", "s3://papers")];
    let error = read_all(&missing).expect_err("no secret");
    assert!(error.starts_with("AWS_SECRET_ACCESS_KEY: is not given"), "{error}");
}

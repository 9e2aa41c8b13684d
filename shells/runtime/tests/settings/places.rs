//! The data directory, and what is embedded in it.

use std::path::PathBuf;

use dms_runtime::settings::{
    DatabaseLocation, EventsLocation, Migrate, SearchLocation, StorageLocation,
};

use crate::support::{good, read, refused};

#[test]
fn everything_follows_the_data_directory() {
    for (given, root) in [("/srv/dms", "/srv/dms"), ("./data", "./data"), ("my data", "my data")] {
        let storage = good(&[("DMS_DATA_DIR", given)]).storage;
        let root = PathBuf::from(root);
        assert_eq!(storage.data_dir, root);
        assert_eq!(storage.database, Some(DatabaseLocation::Sqlite(root.join("dms.db"))));
        assert_eq!(storage.storage, Some(StorageLocation::Files(root.join("blobs"))));
        assert_eq!(storage.search, Some(SearchLocation::Files(root.join("index"))));
    }
    refused(&[("DMS_DATA_DIR", "~/data")], &["DMS_DATA_DIR", "~"]);
    refused(&[("DMS_DATA_DIR", "file://data")], &["DMS_DATA_DIR", "a path"]);
}

#[test]
fn one_part_can_be_elsewhere() {
    let storage = good(&[
        ("DMS_DATA_DIR", "data"),
        ("DMS_DATABASE_URL", "sqlite:///fast/dms.db"),
        ("DMS_STORAGE_URL", "FILE://big/blobs"),
    ])
    .storage;
    assert_eq!(storage.database, Some(DatabaseLocation::Sqlite("/fast/dms.db".into())));
    assert_eq!(storage.storage, Some(StorageLocation::Files("big/blobs".into())));
    assert_eq!(storage.search, Some(SearchLocation::Files("data/index".into())));
}

#[test]
fn engines_that_this_build_lacks_are_refused_with_what_it_has() {
    for (name, accepted, urls) in [
        (
            "DMS_DATABASE_URL",
            "sqlite://PATH",
            &["postgres://u:hunter2@host/db", "mysql://h/d", "file://a", "memory:", "dms.db"][..],
        ),
        (
            "DMS_STORAGE_URL",
            "file://PATH",
            &["s3://bucket", "sqlite://a", "memory:", "/srv/blobs", "blobs"],
        ),
        (
            "DMS_CACHE_URL",
            "memory:",
            &["redis://:hunter2@host", "memory://host", "file://a", "off"],
        ),
        ("DMS_EVENTS_URL", "sqlite://PATH", &["kafka://a:9092,b:9092", "postgres://h/d"]),
        (
            "DMS_SEARCH_URL",
            "file://PATH",
            &["http://elastic:hunter2@es:9200", "https://es:9200", "memory:", "carrier-pigeon://x"],
        ),
    ] {
        for url in urls {
            refused(&[(name, url)], &[name, accepted, "this build accepts"]);
            let error = read(&[(name, url)]).expect_err("refused");
            assert!(!error.contains("hunter2"), "{error}");
            let scheme = url.split("://").next().unwrap_or(url);
            assert!(error.contains(scheme), "{error}");
        }
    }
    refused(&[("DMS_DATABASE_URL", "sqlite://data/")], &["DMS_DATABASE_URL", "a file"]);
}

#[test]
fn events_come_from_the_database_or_not_at_all() {
    let same = good(&[
        ("DMS_DATABASE_URL", "sqlite://data/dms.db"),
        ("DMS_EVENTS_URL", "sqlite:./data/dms.db"),
    ]);
    assert_eq!(same.storage.events, Some(EventsLocation::Database));
    good(&[("DMS_EVENTS_URL", "sqlite://dms-data/dms.db")]);
    refused(&[("DMS_EVENTS_URL", "sqlite://other.db")], &["DMS_EVENTS_URL", "DMS_DATABASE_URL"]);
}

#[test]
fn folders_that_lie_in_one_another_are_refused() {
    refused(
        &[("DMS_STORAGE_URL", "file://dms-data")],
        &["DMS_STORAGE_URL", "DMS_SEARCH_URL", "apart"],
    );
    refused(
        &[("DMS_STORAGE_URL", "file:///a"), ("DMS_SEARCH_URL", "file:///a/./index")],
        &["DMS_STORAGE_URL", "DMS_SEARCH_URL"],
    );
    refused(
        &[("DMS_STORAGE_URL", "file:///a"), ("DMS_DATABASE_URL", "sqlite:///a/dms.db")],
        &["DMS_STORAGE_URL", "DMS_DATABASE_URL"],
    );
}

#[test]
fn migrate_is_auto_or_off() {
    assert_eq!(good(&[("DMS_MIGRATE", "off")]).storage.migrate, Migrate::Off);
    assert_eq!(good(&[("DMS_MIGRATE", "auto")]).storage.migrate, Migrate::Auto);
    refused(&[("DMS_MIGRATE", "yes")], &["DMS_MIGRATE", "yes", "auto or off"]);
}

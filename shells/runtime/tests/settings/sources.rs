//! Defaults, variables and options: which of them wins, and which mean nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dms_runtime::settings::{
    AuthMode, CacheLocation, DatabaseLocation, EventsLocation, Migrate, SearchLocation,
    StorageLocation,
};
use dms_runtime::{Program, SettingFlags, Settings};

use crate::support::{KEY, PROGRAM, environment, good, read_with};

#[test]
fn without_anything_it_is_one_process_on_loopback() {
    let settings = good(&[]);
    assert_eq!(settings.listen.http, "127.0.0.1:8000".parse().expect("an address"));
    assert_eq!(settings.listen.grpc, Some("127.0.0.1:50051".parse().expect("an address")));
    let storage = settings.storage;
    assert_eq!(storage.data_dir, PathBuf::from("dms-data"));
    assert_eq!(storage.database, Some(DatabaseLocation::Sqlite("dms-data/dms.db".into())));
    assert_eq!(storage.storage, Some(StorageLocation::Files("dms-data/blobs".into())));
    assert_eq!(storage.search, Some(SearchLocation::Files("dms-data/index".into())));
    assert_eq!(storage.cache, Some(CacheLocation::Memory));
    assert_eq!(storage.events, Some(EventsLocation::Database));
    assert_eq!(storage.migrate, Migrate::Auto);
    assert_eq!(settings.auth.mode, AuthMode::Off);
    assert!(settings.auth.serves_development_tokens());
    assert_eq!(settings.auth.service_token, None);
    assert_eq!(settings.limits.content_bytes_max, 26_214_400);
    assert_eq!(settings.limits.shutdown_grace, Duration::from_secs(20));
    assert_eq!(settings.log.filter, "info");
    assert_eq!(settings.log.format, None);
    assert!(settings.unknown_variables.is_empty());
}

#[test]
fn a_program_without_grpc_ignores_its_address() {
    let program = Program { http_port: 8003, grpc_port: None, ..PROGRAM };
    let source = environment(&[("DMS_GRPC_ADDR", "0.0.0.0:50051")]);
    let settings = Settings::read(&program, &SettingFlags::default(), &source).expect("accepted");
    assert_eq!(settings.listen.http.port(), 8003);
    assert_eq!(settings.listen.grpc, None);
}

#[test]
fn options_win_over_variables_and_both_over_defaults() {
    let variable = [("DMS_SHUTDOWN_GRACE_S", "5")];
    assert_eq!(good(&variable).limits.shutdown_grace, Duration::from_secs(5));
    let flags = SettingFlags::default().with("shutdown-grace-s", "7");
    let settings = read_with(&flags, &variable).expect("accepted");
    assert_eq!(settings.limits.shutdown_grace, Duration::from_secs(7));
}

#[test]
fn options_after_a_subcommand_win_over_those_before() {
    let outer = SettingFlags::default().with("log", "warn").with("migrate", "off");
    let inner = SettingFlags::default().with("log", "debug");
    let settings = read_with(&inner.or(&outer), &[]).expect("accepted");
    assert_eq!(settings.log.filter, "debug");
    assert_eq!(settings.storage.migrate, Migrate::Off);
}

#[test]
fn a_refusal_names_the_option_that_was_given() {
    let flags = SettingFlags::default().with("migrate", "maybe");
    let error = read_with(&flags, &[]).expect_err("refused");
    assert!(error.starts_with("--migrate (DMS_MIGRATE): `maybe`"), "{error}");
}

#[test]
fn an_empty_variable_is_unset_and_an_empty_option_refused() {
    let settings = good(&[("DMS_SEARCH_URL", ""), ("DMS_JWT_SECRET", ""), ("DMS_LOG", "  ")]);
    assert_eq!(settings, Settings { auth: settings.auth.clone(), ..good(&[]) });
    let flags = SettingFlags::default().with("search-url", "");
    let error = read_with(&flags, &[]).expect_err("refused");
    assert!(error.starts_with("--search-url (DMS_SEARCH_URL): is empty"), "{error}");
}

#[test]
fn values_that_are_not_text_are_refused() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;
    let source = BTreeMap::from([("DMS_LOG", OsString::from_vec(vec![0xff]))]);
    let error = Settings::read(&PROGRAM, &SettingFlags::default(), &source).expect_err("refused");
    assert_eq!(error.report(), "DMS_LOG: is not valid UTF-8");
}

#[test]
fn variables_that_mean_nothing_are_listed() {
    let settings = good(&[
        ("DMS_JWT_SECERT", KEY),
        ("DMS_HTTP_ADDR", "127.0.0.1:1"),
        ("DMS_JWT_SECRET_FILE", ""),
        ("PATH", "/bin"),
        ("DMS_CONSUMER_GRUOP", "x"),
    ]);
    assert_eq!(settings.unknown_variables, ["DMS_CONSUMER_GRUOP", "DMS_JWT_SECERT"]);
}

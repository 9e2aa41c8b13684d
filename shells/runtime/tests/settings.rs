//! Every setting with good and bad values, and which source wins.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use dms_runtime::settings::{
    AuthMode, Backends, CacheLocation, DatabaseLocation, EventsLocation, LogFormat, Migrate,
    SearchLocation, StorageLocation, TokenKey,
};
use dms_runtime::{ExitStatus, Program, SettingFlags, Settings};

const PROGRAM: Program = Program {
    name: "dms",
    version: "1.2.3",
    http_port: 8000,
    grpc_port: Some(50051),
    backends: Backends::EMBEDDED,
};

const KEY: &str = "0123456789abcdef0123456789abcdef";
const PEM: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----";

fn environment(pairs: &[(&'static str, &str)]) -> BTreeMap<&'static str, String> {
    pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn read(pairs: &[(&'static str, &str)]) -> Result<Settings, String> {
    read_with(&SettingFlags::default(), pairs)
}

fn read_with(flags: &SettingFlags, pairs: &[(&'static str, &str)]) -> Result<Settings, String> {
    Settings::read(&PROGRAM, flags, &environment(pairs)).map_err(|error| {
        assert_eq!(error.exit(), ExitStatus::Usage);
        assert_eq!(error.exit().code(), 64);
        let report = error.report();
        assert_eq!(report.lines().count(), 1, "{report}");
        report
    })
}

fn good(pairs: &[(&'static str, &str)]) -> Settings {
    read(pairs).unwrap_or_else(|error| panic!("{pairs:?} is refused: {error}"))
}

/// The settings are refused with a line that holds every one of `words`.
fn refused(pairs: &[(&'static str, &str)], words: &[&str]) {
    let error = read(pairs).err().unwrap_or_else(|| panic!("{pairs:?} is accepted"));
    for word in words {
        assert!(error.contains(word), "{word} is missing in: {error}");
    }
}

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
fn addresses() {
    for (given, expected) in [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("[::1]:8000", "[::1]:8000"),
        ("localhost:9000", "127.0.0.1:9000"),
        (" 127.0.0.2:80 ", "127.0.0.2:80"),
        ("[::ffff:127.0.0.1]:80", "[::ffff:127.0.0.1]:80"),
    ] {
        let settings = good(&[("DMS_HTTP_ADDR", given)]);
        assert_eq!(settings.listen.http, expected.parse().expect("an address"));
        assert_eq!(settings.listen.off_loopback(), None, "{given}");
    }
    for given in ["8000", ":8000", "127.0.0.1", "example.org:80", "127.0.0.1:65536", "http://a:1"] {
        refused(&[("DMS_HTTP_ADDR", given)], &["DMS_HTTP_ADDR", given, "127.0.0.1:8000"]);
        refused(&[("DMS_GRPC_ADDR", given)], &["DMS_GRPC_ADDR", given]);
    }
    refused(&[("DMS_HTTP_ADDR", "127.0.0.1:50051")], &["DMS_HTTP_ADDR", "DMS_GRPC_ADDR"]);
    good(&[("DMS_HTTP_ADDR", "127.0.0.1:0"), ("DMS_GRPC_ADDR", "127.0.0.1:0")]);
}

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

#[test]
fn numbers_have_bounds() {
    let settings = good(&[("DMS_MAX_CONTENT_BYTES", "1"), ("DMS_SHUTDOWN_GRACE_S", "0")]);
    assert_eq!(settings.limits.content_bytes_max, 1);
    assert_eq!(settings.limits.shutdown_grace, Duration::ZERO);
    for given in ["0", "-1", "+5", "25MiB", "1e6", "99999999999999999999", "1099511627777"] {
        refused(
            &[("DMS_MAX_CONTENT_BYTES", given)],
            &["DMS_MAX_CONTENT_BYTES", given, "from 1 to"],
        );
    }
    for given in ["3601", "20s", "1.5"] {
        refused(&[("DMS_SHUTDOWN_GRACE_S", given)], &["DMS_SHUTDOWN_GRACE_S", given, "0 to 3600"]);
    }
}

#[test]
fn logging() {
    for given in ["debug", "WARN", "off", "info,dms_search=debug", "warn,tower::layer=trace"] {
        assert_eq!(good(&[("DMS_LOG", given)]).log.filter, given);
    }
    for given in ["inof", "info,", "dms=loud", "info,nothing"] {
        refused(&[("DMS_LOG", given)], &["DMS_LOG", given]);
    }
    assert_eq!(good(&[("DMS_LOG_FORMAT", "json")]).log.format, Some(LogFormat::Json));
    assert_eq!(good(&[("DMS_LOG_FORMAT", "text")]).log.format, Some(LogFormat::Text));
    refused(&[("DMS_LOG_FORMAT", "xml")], &["DMS_LOG_FORMAT", "xml", "text or json"]);
}

#[test]
fn off_loopback_somebody_has_to_decide_who_may_call() {
    for exposed in [
        ("DMS_HTTP_ADDR", "0.0.0.0:8000"),
        ("DMS_HTTP_ADDR", "[::]:8000"),
        ("DMS_GRPC_ADDR", "10.0.0.1:1"),
    ] {
        refused(&[exposed], &[exposed.0, exposed.1, "DMS_AUTH", "required", "off"]);
        refused(&[exposed, ("DMS_JWT_SECRET", KEY)], &["DMS_AUTH"]);
        refused(
            &[exposed, ("DMS_AUTH", "required")],
            &["DMS_AUTH", "DMS_JWT_SECRET", "DMS_JWKS_URL"],
        );
        let open = good(&[exposed, ("DMS_AUTH", "off")]).auth;
        assert_eq!((open.mode, &open.key), (AuthMode::Off, &TokenKey::Nothing));
        assert!(!open.serves_development_tokens());
        let closed = good(&[exposed, ("DMS_AUTH", "required"), ("DMS_JWT_SECRET", KEY)]).auth;
        assert_eq!(closed.mode, AuthMode::Required);
        assert!(!closed.serves_development_tokens());
    }
}

#[test]
fn on_loopback_a_key_is_made_up_unless_one_is_configured() {
    let required = good(&[("DMS_AUTH", "required")]).auth;
    assert_eq!(required.mode, AuthMode::Required);
    assert!(required.serves_development_tokens());
    assert_ne!(required.key, good(&[("DMS_AUTH", "required")]).auth.key);
    let configured = good(&[("DMS_JWT_SECRET", KEY)]).auth;
    assert_eq!(configured.mode, AuthMode::Off);
    assert!(!configured.serves_development_tokens());
    refused(&[("DMS_AUTH", "on")], &["DMS_AUTH", "on", "off or required"]);
}

#[test]
fn keys() {
    let key = |pairs: &[(&'static str, &str)]| good(pairs).auth.key;
    assert!(
        matches!(key(&[("DMS_JWT_SECRET", KEY)]), TokenKey::Shared(secret) if secret.matches(KEY))
    );
    assert_eq!(key(&[("DMS_JWT_PUBLIC_KEY", PEM)]), TokenKey::PublicPem(PEM.to_owned()));
    assert_eq!(
        key(&[("DMS_JWT_PUBLIC_KEY", &PEM.replace('\n', "\\n"))]),
        TokenKey::PublicPem(PEM.to_owned())
    );
    for url in ["https://issuer.example/keys", "http://localhost:9/keys", "http://[::1]:9/keys"] {
        assert_eq!(key(&[("DMS_JWKS_URL", url)]), TokenKey::KeySet(url.to_owned()));
    }
    let auth = good(&[("DMS_JWT_ISSUER", "me"), ("DMS_JWT_AUDIENCE", "you")]).auth;
    assert_eq!((auth.issuer.as_deref(), auth.audience.as_deref()), (Some("me"), Some("you")));
}

#[test]
fn keys_that_cannot_be_meant_are_refused() {
    refused(
        &[("DMS_JWT_SECRET", "0123456789abcdef0123456789abcde")],
        &["DMS_JWT_SECRET", "32 bytes"],
    );
    refused(&[("DMS_JWT_PUBLIC_KEY", "abc")], &["DMS_JWT_PUBLIC_KEY", "PEM"]);
    let private = PEM.replace("PUBLIC", "PRIVATE");
    refused(&[("DMS_JWT_PUBLIC_KEY", &private)], &["DMS_JWT_PUBLIC_KEY", "private key"]);
    for url in
        ["http://issuer.example/keys", "issuer.example", "ftp://a/b", "https://u:hunter2@a/b"]
    {
        refused(&[("DMS_JWKS_URL", url)], &["DMS_JWKS_URL"]);
    }
    for (one, other) in [
        (("DMS_JWT_SECRET", KEY), ("DMS_JWT_PUBLIC_KEY", PEM)),
        (("DMS_JWT_SECRET", KEY), ("DMS_JWKS_URL", "https://a/b")),
        (("DMS_JWT_PUBLIC_KEY", PEM), ("DMS_JWKS_URL", "https://a/b")),
    ] {
        refused(&[one, other], &[one.0, other.0, "one of them"]);
    }
}

#[test]
fn a_service_token_fits_a_header() {
    let auth = good(&[("DMS_SERVICE_TOKEN", "0123456789abcdef")]).auth;
    assert!(auth.service_token.expect("a token").matches("0123456789abcdef"));
    for token in ["short", "0123456789 abcdef", "0123456789äbcdef"] {
        refused(&[("DMS_SERVICE_TOKEN", token)], &["DMS_SERVICE_TOKEN"]);
    }
}

#[test]
fn secrets_come_from_files_without_their_line_ending() {
    let folder = tempfile::tempdir().expect("a folder");
    for (content, expected) in [
        (format!("{KEY}\n"), KEY.to_owned()),
        (format!("{KEY}\r\n"), KEY.to_owned()),
        (KEY.to_owned(), KEY.to_owned()),
        (format!(" {KEY}\n\n"), format!(" {KEY}\n")),
    ] {
        let path = folder.path().join("secret");
        std::fs::write(&path, content).expect("written");
        let path = path.to_str().expect("text");
        let auth = good(&[("DMS_JWT_SECRET_FILE", path)]).auth;
        assert!(matches!(auth.key, TokenKey::Shared(secret) if secret.matches(&expected)));
    }
    let path = folder.path().join("key.pem");
    std::fs::write(&path, PEM).expect("written");
    let auth = good(&[("DMS_JWT_PUBLIC_KEY_FILE", path.to_str().expect("text"))]).auth;
    assert_eq!(auth.key, TokenKey::PublicPem(PEM.to_owned()));
}

#[test]
fn files_that_hold_no_secret_are_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, content: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).expect("written");
        path.to_str().expect("text").to_owned()
    };
    let missing = folder.path().join("missing").to_str().expect("text").to_owned();
    let directory = folder.path().to_str().expect("text").to_owned();
    for (path, why) in [
        (missing, "cannot be read"),
        (directory, "cannot be read"),
        (file("empty", b""), "is empty"),
        (file("newline", b"\n"), "is empty"),
        (file("binary", b"\xff\xfe0123456789abcdef0123456789abcdef"), "is not text"),
        (file("huge", &vec![b'x'; 70_000]), "larger than 64 KiB"),
    ] {
        for name in ["DMS_JWT_SECRET_FILE", "DMS_SERVICE_TOKEN_FILE"] {
            refused(&[(name, &path)], &[name, &path, why]);
        }
    }
}

#[test]
fn a_secret_is_given_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("secret");
    std::fs::write(&path, KEY.to_uppercase()).expect("written");
    let path = path.to_str().expect("text");
    refused(
        &[("DMS_JWT_SECRET", KEY), ("DMS_JWT_SECRET_FILE", path)],
        &["DMS_JWT_SECRET and DMS_JWT_SECRET_FILE", "both"],
    );
    let both = SettingFlags::default().with("jwt-secret", KEY).with("jwt-secret-file", path);
    let error = read_with(&both, &[]).expect_err("refused");
    assert!(error.contains("--jwt-secret ") && error.contains("--jwt-secret-file"), "{error}");
    // an option and a variable are no contradiction: the option wins
    let file = SettingFlags::default().with("jwt-secret-file", path);
    let auth = read_with(&file, &[("DMS_JWT_SECRET", KEY)]).expect("accepted").auth;
    assert!(matches!(auth.key, TokenKey::Shared(secret) if secret.matches(&KEY.to_uppercase())));
}

#[test]
fn no_secret_shows_in_debug_or_in_any_refusal() {
    const MARK: &str = "hunter2";
    let long = format!("{MARK}-0123456789abcdef0123456789abcdef");
    let settings = good(&[("DMS_JWT_SECRET", &long), ("DMS_SERVICE_TOKEN", &long)]);
    assert!(!format!("{settings:?} {settings:#?}").contains(MARK));
    let development = good(&[]);
    if let TokenKey::Development(secret) = &development.auth.key {
        assert!(!format!("{development:?}").contains(secret.expose()));
    }
    let flags = SettingFlags::default().with("jwt-secret", MARK).with("service-token", MARK);
    assert!(!format!("{flags:?}").contains(MARK));
    let mut refusals = vec![read_with(&flags, &[]).expect_err("too short")];
    for name in ["DMS_JWT_SECRET", "DMS_JWT_PUBLIC_KEY", "DMS_SERVICE_TOKEN"] {
        refusals.push(read(&[(name, MARK)]).expect_err("refused"));
    }
    refusals.push(
        read(&[("DMS_JWT_SECRET", &long), ("DMS_JWT_PUBLIC_KEY", &long)]).expect_err("refused"),
    );
    for name in
        ["DMS_DATABASE_URL", "DMS_STORAGE_URL", "DMS_CACHE_URL", "DMS_EVENTS_URL", "DMS_SEARCH_URL"]
    {
        let url = format!("postgres://user:{MARK}@host/db?password={MARK}");
        refusals.push(read(&[(name, &url)]).expect_err("refused"));
    }
    refusals
        .push(read(&[("DMS_JWKS_URL", &format!("https://u:{MARK}@h/k"))]).expect_err("refused"));
    for refusal in refusals {
        assert!(!refusal.contains(MARK), "{refusal}");
    }
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

//! Secrets come from files too, are given once, and are never shown.

use dms_runtime::SettingFlags;
use dms_runtime::settings::TokenKey;

use crate::support::{KEY, PEM, good, read, read_with, refused};

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

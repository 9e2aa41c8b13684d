//! What is wrong at start ends the program at once, with a status and one line that helps.

mod support;

use std::net::TcpListener;
use std::path::Path;
use std::process::Output;

use support::{Server, dms, run};

fn failed(arguments: &[&str], data: &Path) -> (i32, String) {
    failed_with(arguments, data, &[])
}

fn failed_with(arguments: &[&str], data: &Path, variables: &[(&str, &str)]) -> (i32, String) {
    let Output { status, stdout, stderr } = run(dms()
        .args(["--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--log", "warn"])
        .arg("--data-dir")
        .arg(data)
        .args(arguments)
        .envs(variables.iter().copied()));
    assert!(!status.success(), "{arguments:?} started: {}", String::from_utf8_lossy(&stdout));
    let stderr = String::from_utf8_lossy(&stderr).trim().to_owned();
    assert_eq!(stderr.lines().count(), 1, "one line, not: {stderr}");
    (status.code().expect("an exit status"), stderr)
}

#[test]
fn a_scheme_that_is_not_known_is_refused_with_what_is_accepted() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    for (flag, variable, value, accepted) in [
        ("--database-url", "DMS_DATABASE_URL", "mysql://host/db", "sqlite:"),
        ("--storage-url", "DMS_STORAGE_URL", "ftp://bucket", "file:"),
        ("--cache-url", "DMS_CACHE_URL", "memcached://host", "memory:"),
        ("--search-url", "DMS_SEARCH_URL", "nonsense", "file:"),
        ("--events-url", "DMS_EVENTS_URL", "nats://broker", "sqlite:"),
    ] {
        let (status, line) = failed(&[flag, value], &data);
        assert_eq!(status, 64, "{line}");
        for part in [variable, value, accepted] {
            assert!(line.contains(part), "{line:?} lacks {part}");
        }
        let (status, from_variable) = failed_with(&[], &data, &[(variable, value)]);
        assert_eq!(status, 64, "{from_variable}");
        for part in [variable, value, accepted] {
            assert!(from_variable.contains(part), "{from_variable:?} lacks {part}");
        }
    }
    assert!(!data.exists(), "nothing is made before the settings are in order");
}

/// An engine's URL without the engines names what a build needs for it.
#[cfg(not(feature = "engines"))]
#[test]
fn an_engine_that_was_left_out_is_refused_with_the_features_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (flag, value) in [
        ("--database-url", "postgres://host/db"),
        ("--storage-url", "s3://bucket"),
        ("--cache-url", "redis://host"),
        ("--events-url", "kafka://broker:9092"),
        ("--search-url", "http://host:9200"),
    ] {
        let (status, line) = failed(&[flag, value], folder.path());
        assert_eq!(status, 64, "{line}");
        assert!(line.contains("--features engines"), "{line:?} doesn't say how to have it");
    }
}

#[test]
fn a_password_in_a_refused_url_is_not_repeated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_, line) =
        failed(&["--database-url", "mysql://docs:hunter2@host/db"], &folder.path().join("data"));
    assert!(!line.contains("hunter2"), "{line}");
}

#[test]
fn a_data_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    std::fs::write(&file, "not a folder").expect("a file");
    let data = file.join("data");
    let (status, line) = failed(&[], &data);
    assert_eq!(status, 73, "{line}");
    assert!(line.contains(data.to_str().expect("a readable path")), "{line}");
    assert!(line.contains("DMS_DATA_DIR"), "{line}");
}

#[tokio::test]
async fn a_folder_that_another_process_has_open_is_left_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let server = Server::start(&data);
    let id = server.create("t", "c").await;
    for command in [&[][..], &["reindex"], &["check"]] {
        let output = run(dms().args(command).arg("--data-dir").arg(&data).args([
            "--http-addr",
            "127.0.0.1:0",
            "--grpc-addr",
            "127.0.0.1:0",
        ]));
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{command:?}: {line}");
        assert!(line.contains(&server.pid().to_string()), "{line} lacks the other's pid");
        assert!(line.contains("DMS_DATA_DIR"), "{line}");
    }
    assert_eq!(server.get(&format!("/documents/{id}")).await.0, 200);
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    for (http, grpc, variable) in
        [(&*address, "127.0.0.1:0", "DMS_HTTP_ADDR"), ("127.0.0.1:0", &address, "DMS_GRPC_ADDR")]
    {
        let output = run(dms()
            .args(["--http-addr", http, "--grpc-addr", grpc])
            .arg("--data-dir")
            .arg(folder.path().join("data")));
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{line}");
        assert!(line.contains(&address) && line.contains(variable), "{line}");
    }
}

#[test]
fn off_loopback_authentication_must_be_decided() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    for flag in ["--http-addr", "--grpc-addr"] {
        let output = run(dms().args([flag, "0.0.0.0:0"]).arg("--data-dir").arg(&data));
        let line = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(64), "{line}");
        assert!(line.contains("DMS_AUTH"), "{line}");
    }
    let required = &[("DMS_AUTH", "required")];
    let output = run(dms()
        .args(["--http-addr", "0.0.0.0:0"])
        .envs(required.iter().copied())
        .arg("--data-dir")
        .arg(&data));
    let line = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(64), "no default key off loopback: {line}");
    assert!(line.contains("DMS_JWT_SECRET"), "{line}");
}

#[test]
fn secrets_are_refused_without_being_repeated() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let (status, line) = failed_with(&[], &data, &[("DMS_JWT_SECRET", "tooshort-hunter2")]);
    assert_eq!(status, 64, "{line}");
    assert!(line.contains("DMS_JWT_SECRET") && line.contains("32"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
    let missing = [("DMS_JWT_SECRET_FILE", "/nowhere/secret")];
    let (status, line) = failed_with(&[], &data, &missing);
    assert_eq!(status, 64, "{line}");
    assert!(line.contains("DMS_JWT_SECRET_FILE") && line.contains("/nowhere/secret"), "{line}");
}

#[test]
fn help_names_every_setting_and_no_secret() {
    let secret = "0123456789abcdef0123456789abcdef-hunter2";
    let output = run(dms().args(["serve", "--help"]).env("DMS_JWT_SECRET", secret));
    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success());
    for variable in [
        "DMS_DATA_DIR",
        "DMS_DATABASE_URL",
        "DMS_STORAGE_URL",
        "DMS_CACHE_URL",
        "DMS_EVENTS_URL",
        "DMS_SEARCH_URL",
        "DMS_HTTP_ADDR",
        "DMS_GRPC_ADDR",
        "DMS_AUTH",
        "DMS_JWT_SECRET",
        "DMS_JWT_PUBLIC_KEY",
        "DMS_JWKS_URL",
        "DMS_JWT_ISSUER",
        "DMS_JWT_AUDIENCE",
        "DMS_SERVICE_TOKEN",
        "DMS_MAX_CONTENT_BYTES",
        "DMS_LOG",
        "DMS_LOG_FORMAT",
        "DMS_SHUTDOWN_GRACE_S",
        "DMS_MIGRATE",
    ] {
        assert!(help.contains(variable), "--help lacks {variable}");
    }
    assert!(!help.contains("hunter2"));
}

#[tokio::test]
async fn check_and_healthcheck_tell_by_their_status() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let check = |arguments: &[&str]| {
        run(dms()
            .args(arguments)
            .args(["--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(&data))
    };
    for arguments in [&["check"][..], &["--check"], &["serve", "--check"]] {
        let output = check(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let server = Server::start(&data);
    let address = server.http.to_string();
    let output = run(dms().args(["healthcheck", "--http-addr", &address]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    server.kill();
    let output = run(dms().args(["healthcheck", "--http-addr", &address]));
    assert_eq!(output.status.code(), Some(1));
}

//! No secret shows in help, refusals, logs or health, whatever is away or wrong.

mod support;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use support::engines::{curl, wait_for};
use support::{DMS, run};

const SERVICES: [&str; 5] = [
    "document-service",
    "signature-service",
    "search-service",
    "websocket-service",
    "event-processor",
];

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

/// Engines that nobody is behind, each with a secret.
fn variables() -> [(&'static str, String); 11] {
    let with = |text: &str| text.replace("SECRET", SECRET);
    [
        ("DMS_DATABASE_URL", with("postgres://docs:SECRET@127.0.0.1:1/docs")),
        ("DMS_DATABASE_DIRECT_URL", with("postgres://docs:SECRET@127.0.0.1:1/docs")),
        ("DMS_STORAGE_URL", "s3://documents".to_owned()),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1".to_owned()),
        ("AWS_ACCESS_KEY_ID", with("SECRET")),
        ("AWS_SECRET_ACCESS_KEY", with("SECRET")),
        ("DMS_CACHE_URL", with("redis://:SECRET@127.0.0.1:1/1")),
        ("DMS_EVENTS_URL", "kafka://127.0.0.1:1/tenant".to_owned()),
        ("DMS_SEARCH_URL", with("http://elastic:SECRET@127.0.0.1:1/tenant")),
        ("DMS_JWT_SECRET", with("SECRET")),
        ("DMS_SERVICE_TOKEN", with("SECRET")),
    ]
}

fn service(name: &str) -> Command {
    let mut command = Command::new(Path::new(DMS).with_file_name(name));
    command.env_clear().envs(variables()).stdin(Stdio::null());
    command.env("DMS_LOG", "debug").env("DMS_HTTP_ADDR", "127.0.0.1:0");
    command.env("DMS_GRPC_ADDR", "127.0.0.1:0");
    command
}

#[track_caller]
fn is_clean(what: &str, text: &str) {
    assert!(!text.contains("hunter2"), "{what} shows a secret: {text}");
}

fn told(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

#[test]
#[ignore = "needs the programs of the services"]
fn help_and_refusals_show_none() {
    for name in SERVICES {
        let help = run(service(name).arg("--help"));
        assert!(help.status.success(), "{name}");
        is_clean(name, &told(&help));
    }
    for (name, variable, value) in [
        ("document-service", "DMS_DATABASE_URL", "postgres://docs:hunter2@"),
        ("document-service", "DMS_CACHE_URL", "rediss://:hunter2@/1"),
        ("signature-service", "DMS_STORAGE_URL", "s3://key:hunter2@documents"),
        ("search-service", "DMS_SEARCH_URL", "http://u:hunter2@es:9200/Upper"),
        ("websocket-service", "DMS_EVENTS_URL", "kafka://u:hunter2@kafka:9092"),
        ("event-processor", "DMS_DATABASE_DIRECT_URL", "mysql://docs:hunter2@db/docs"),
        ("document-service", "DMS_SERVICE_TOKEN", "hunter2"),
        ("document-service", "DMS_JWT_SECRET", "hunter2"),
    ] {
        let refused = run(service(name).env(variable, value));
        assert_eq!(refused.status.code(), Some(64), "{variable}={value}");
        let told = told(&refused);
        assert!(told.contains(variable), "{variable} isn't named: {told}");
        is_clean(variable, &told);
    }
}

#[test]
#[ignore = "needs the programs of the services"]
fn logs_and_health_show_none_while_every_engine_is_away() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in SERVICES {
        let log = folder.path().join(name);
        let file = std::fs::File::create(&log).expect("a log file");
        let out = folder.path().join(format!("{name}.out"));
        let mut command = service(name);
        command.env("DMS_DATA_DIR", folder.path().join("data"));
        command.stderr(file).stdout(std::fs::File::create(&out).expect("a file"));
        let mut child = command.spawn().expect("the program starts");
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let address = wait_for(name, || {
            let printed = read(&out);
            let (_, address) = printed.split_once("http://")?;
            address.contains('\n').then(|| address.trim().to_owned())
        });
        let mut health = String::new();
        // Down, and logged as such.
        wait_for("what is away to be told", || {
            let (status, body) = curl("GET", &format!("http://{address}/readyz"), &[]);
            health = body;
            (status == 503 && read(&log).contains("dependency is down")).then_some(())
        });
        let (_, metrics) = curl("GET", &format!("http://{address}/metrics"), &[]);
        child.kill().expect("SIGKILL");
        child.wait().expect("its end");
        for (what, text) in [("health", &health), ("metrics", &metrics), ("log", &read(&log))] {
            is_clean(&format!("{what} of {name}"), text);
        }
    }
}

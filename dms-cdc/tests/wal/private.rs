//! A server of the test's own, for what mustn't be done to one that others use.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use dms_core::ports::{ChangeSource, StartAt};
use sqlx::{Connection as _, PgConnection};
use tempfile::TempDir;

use crate::database::{Database, eventually, ids, read};

struct Server {
    process: Child,
    url: String,
    // Removed with everything in it after the server has ended.
    _directory: TempDir,
}

impl Server {
    /// A server that keeps next to nothing of its log for a slot.
    async fn start() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let data = directory.path().join("data");
        std::fs::create_dir(&data).expect("directory");
        if is_root() {
            let owned =
                Command::new("chown").arg("-R").arg("postgres").arg(directory.path()).status();
            assert!(owned.expect("chown").success());
        }
        let initialized = program("initdb")
            .arg("--pgdata")
            .arg(&data)
            .args(["--username=postgres", "--auth=trust", "--no-sync", "--encoding=UTF8"])
            .stdout(Stdio::null())
            .status();
        assert!(initialized.expect("initdb runs").success());
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("port");
        let port = listener.local_addr().expect("address").port();
        drop(listener);
        let settings = [
            "listen_addresses=127.0.0.1",
            "unix_socket_directories=",
            "wal_level=logical",
            "max_slot_wal_keep_size=16MB",
            "min_wal_size=32MB",
            "max_wal_size=32MB",
            "fsync=off",
        ];
        let process = program("postgres")
            .arg("-D")
            .arg(&data)
            .args(["-p", &port.to_string()])
            .args(settings.iter().flat_map(|setting| ["-c", setting]))
            .stderr(Stdio::null())
            .spawn()
            .expect("postgres runs");
        let url = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let server = Self { process, url, _directory: directory };
        eventually("server up", async || PgConnection::connect(&server.url).await.is_ok()).await;
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // At once, and with all its processes.
        let pid = self.process.id().to_string();
        let told = Command::new("kill").args(["-QUIT", &pid]).status();
        drop((told, self.process.wait()));
    }
}

/// A program of PostgreSQL, which doesn't run as root.
fn program(name: &str) -> Command {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let path = versions
        .map(|version| version.path().join("bin").join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| PathBuf::from(name));
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(path);
    command
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout.trim_ascii() == b"0"
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs PostgreSQL"]
async fn a_slot_whose_log_the_server_threw_away_is_made_anew() {
    let server = Server::start().await;
    let database = Database::on(&server.url).await;
    let source = database.source("index");
    source.start(StartAt::Acknowledged).await.expect("start");
    database.insert(1).await;
    read(&source, 1).await;
    source.release().await;

    let status = format!(
        "SELECT wal_status FROM pg_replication_slots WHERE slot_name = '{}'",
        database.slot("index")
    );
    eventually("slot lost", async || {
        database
            .run("INSERT INTO unrelated SELECT repeat('x', 1000) FROM generate_series(1, 30000)")
            .await;
        database.run("CHECKPOINT").await;
        database.text(&status).await.as_deref() == Some("lost")
    })
    .await;

    let error = source.start(StartAt::Acknowledged).await.expect_err("lost");
    assert_eq!(error.code(), "position_lost");
    assert_ne!(database.text(&status).await.as_deref(), Some("lost"), "made anew");
    let head = source.head().await.expect("head");
    source.start(StartAt::After(head)).await.expect("start after the head");
    let expected = database.insert(2).await;
    assert_eq!(ids(&read(&source, 2).await), expected);
}

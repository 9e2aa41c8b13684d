//! What only shows between processes: a held data directory, and signals.
//!
//! The tests start this very binary again, with one of the ignored tests as the other process.

#![cfg(unix)]

use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use dms_runtime::{DataDirectory, ExitStatus, wait_for_signal};

const FOLDER: &str = "DATA_DIRECTORY_OF_THE_TEST";

struct Other {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Other {
    /// Starts the ignored test `name` and waits until it says `ready`.
    fn start(name: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("this binary"))
            .args(["--exact", name, "--ignored", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut other = Self { child, output };
        other.wait_for("ready");
        other
    }

    fn wait_for(&mut self, word: &str) {
        let mut line = String::new();
        while !line.contains(word) {
            line.clear();
            let read = self.output.read_line(&mut line).expect("text");
            assert_ne!(read, 0, "the other process ended without saying {word}");
        }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status().expect("kill runs");
        assert!(sent.success());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "the other process of the tests below"]
fn holds_the_data_directory() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let _held = DataDirectory::open(Path::new(&folder)).expect("held");
    println!("\nready");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
#[ignore = "the other process of the tests below"]
fn waits_for_signals() {
    if std::env::var_os(FOLDER).is_none() {
        return;
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut signal = std::pin::pin!(wait_for_signal());
        assert!(futures_util::poll!(signal.as_mut()).is_pending());
        println!("\nready");
        println!("\ngot {}", signal.await.expect("a signal"));
        std::future::pending::<()>().await;
    });
}

#[test]
fn a_data_directory_is_held_by_one_process_until_it_ends_however_it_ends() {
    let folder = tempfile::tempdir().expect("a folder");
    let other = Other::start("holds_the_data_directory", folder.path());
    let error = DataDirectory::open(folder.path()).expect_err("held");
    assert_eq!(error.exit(), ExitStatus::Temporary);
    let report = error.report();
    assert!(report.contains(&format!("in use by process {}", other.child.id())), "{report}");
    DataDirectory::check(folder.path()).expect("could be used");
    // killed, so nothing is tidied up
    drop(other);
    DataDirectory::open(folder.path()).expect("opens at once");
}

#[test]
fn the_first_signal_is_told_and_the_second_ends_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    for (first, second, status) in [("TERM", "INT", 130), ("INT", "TERM", 143)] {
        let mut other = Other::start("waits_for_signals", folder.path());
        other.signal(first);
        other.wait_for(&format!("got SIG{first}"));
        other.signal(second);
        let ended = other.child.wait().expect("ended");
        assert_eq!((ended.code(), ended.signal()), (Some(status), None));
    }
}

//! Engines of the test's own, which may be broken.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

pub(crate) struct Stack {
    run: TempDir,
    offset: u16,
}

impl Stack {
    /// Engines with data of their own, on ports `offset` above the usual ones.
    pub(crate) async fn start(offset: u16, components: &[&str]) -> Self {
        // PostgreSQL's account has to be able to enter.
        let run = tempfile::Builder::new().prefix("dms-faults.").tempdir_in("/var/tmp");
        let run = run.expect("a folder");
        let entered = Command::new("chmod").arg("755").arg(run.path()).status();
        assert!(entered.expect("chmod runs").success());
        let stack = Self { run, offset };
        stack.up(components).await;
        stack
    }

    /// Starts what doesn't run, and waits until it answers.
    pub(crate) async fn up(&self, components: &[&str]) {
        let mut command = self.command();
        command.arg("up").args(components);
        let done = tokio::task::spawn_blocking(move || command.output()).await.expect("joins");
        let output = done.expect("the stack's script runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{components:?} didn't start: {said}");
    }

    fn command(&self) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/native/stack");
        let mut command = Command::new(script);
        command
            .env("DMS_STACK_RUN", self.run.path())
            .env("DMS_STACK_PORT_OFFSET", self.offset.to_string());
        command
    }

    pub(crate) fn address(&self, port: u16) -> String {
        format!("127.0.0.1:{}", port + self.offset)
    }

    pub(crate) fn postgres_url(&self) -> String {
        format!("postgres://docs:docs_pw@{}/docs_db", self.address(5432))
    }

    /// A folder that goes with the stack.
    pub(crate) fn folder(&self, name: &str) -> PathBuf {
        let folder = self.run.path().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    }

    /// Sends a signal to an engine and its processes.
    pub(crate) fn signal(&self, component: &str, signal: &str) {
        let file = self.run.path().join("pid").join(component);
        let text = std::fs::read_to_string(file).expect("the engine has been started");
        let pid = text.split_whitespace().next().expect("a process id");
        let mut pids = vec![pid.to_owned()];
        pids.extend(children(pid));
        // A child may have ended by itself meanwhile.
        for pid in pids {
            let _ = Command::new("kill").arg(format!("-{signal}")).arg(pid).output();
        }
    }

    /// Runs SQL as the superuser, through the server's socket.
    pub(crate) fn superuser(&self, database: &str, sql: &str) {
        self.postgres_program(
            "psql",
            &["-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", sql],
        );
    }

    /// Runs one of PostgreSQL's programs as the superuser.
    pub(crate) fn postgres_program(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(format!("/usr/lib/postgresql/15/bin/{program}"))
            .env("PGHOST", self.run.path().join("data/postgres"))
            .env("PGPORT", (5432 + self.offset).to_string())
            .env("PGUSER", "postgres")
            .args(arguments)
            .output()
            .expect("the program runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{program} {arguments:?}: {said}");
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        for engine in ["postgres", "kafka", "connect", "elasticsearch"] {
            // What is stopped doesn't hear that it is to end.
            if self.run.path().join("pid").join(engine).exists() {
                self.signal(engine, "CONT");
            }
        }
        if std::thread::panicking() {
            let kept = PathBuf::from(format!("/var/tmp/dms-faults-failed-{}", std::process::id()));
            let _ =
                Command::new("cp").arg("-r").arg(self.run.path().join("log")).arg(&kept).status();
            println!("logs of the engines: {}", kept.display());
        }
        let _ = self.command().args(["down", "--wipe"]).output();
    }
}

fn children(parent: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            let stat = std::fs::read_to_string(process.path().join("stat")).ok()?;
            let after_name = stat.rsplit_once(')')?.1;
            let is_child = after_name.split_whitespace().nth(1) == Some(parent);
            is_child.then(|| process.file_name().to_string_lossy().into_owned())
        })
        .collect()
}

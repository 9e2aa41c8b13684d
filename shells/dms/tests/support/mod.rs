//! The real binary on a folder, and ways to talk to it.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of it")]

pub mod live;

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The binary under test.
pub const DMS: &str = env!("CARGO_BIN_EXE_dms");

/// The binary with nothing of the caller's environment but what a shell gives every program.
pub fn dms() -> Command {
    let mut command = Command::new(DMS);
    command.env_clear().stdin(Stdio::null());
    for name in ["PATH", "HOME"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
}

/// A running server; killed when it is dropped.
pub struct Server {
    child: Child,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub data: PathBuf,
    /// What it printed until it was ready.
    pub greeting: Vec<String>,
    pub client: reqwest::Client,
}

impl Server {
    /// Starts on a folder, on ports of the system's choice.
    pub fn start(data: &Path) -> Self {
        Self::start_with(data, &[])
    }

    /// Starts with more variables.
    pub fn start_with(data: &Path, variables: &[(&str, &str)]) -> Self {
        Self::start_on(data, "127.0.0.1:0", variables)
    }

    /// Starts on an address.
    pub fn start_on(data: &Path, address: &str, variables: &[(&str, &str)]) -> Self {
        let mut child = dms()
            .args(["serve", "--http-addr", address, "--grpc-addr", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(data)
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(log_of(data)).expect("a log file"))
            .spawn()
            .expect("the binary starts");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let mut greeting = Vec::new();
        let (mut http, mut grpc) = (None, None);
        for line in lines.by_ref() {
            let line = line.expect("a line of text");
            if let Some((what, rest)) = line.split_once("http://") {
                let address = rest.split([' ', '/']).next().and_then(|a| a.parse().ok());
                if what.to_lowercase().contains("grpc") {
                    grpc = grpc.or(address);
                } else {
                    http = http.or(address);
                }
            }
            greeting.push(line);
            // The line to try comes last.
            if greeting.last().is_some_and(|line| line.contains("curl")) {
                break;
            }
        }
        // Whatever it prints later must not fill the pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let (Some(http), Some(grpc)) = (http, grpc) else {
            let log = std::fs::read_to_string(log_of(data)).unwrap_or_default();
            let status = child.wait();
            panic!("no address in {greeting:?}; it ended with {status:?} and logged:\n{log}");
        };
        let data = data.to_owned();
        Self { child, http, grpc, data, greeting, client: reqwest::Client::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Asks it to stop and waits until it has.
    pub fn terminate(self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        self.wait()
    }

    /// Waits until it has stopped.
    pub fn wait(mut self) -> ExitStatus {
        let asked = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("a child to wait for") {
                return status;
            }
            assert!(asked.elapsed() < PATIENCE, "still running after SIGTERM");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.child.kill().expect("SIGKILL");
        self.child.wait().expect("its end");
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        answer(self.client.get(self.url(path)).send().await.expect("an answer")).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.client.post(self.url(path)).json(body).send().await.expect("an answer")).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> (u16, Value) {
        answer(self.client.patch(self.url(path)).json(body).send().await.expect("an answer")).await
    }

    /// Creates a document and gives its id.
    pub async fn create(&self, title: &str, content: &str) -> String {
        let body = json!({"title": title, "content": content, "created_by": "ann@example.org"});
        let (status, document) = self.post("/documents", &body).await;
        assert_eq!(status, 201, "{document}");
        document["id"].as_str().expect("an id").to_owned()
    }

    pub async fn sign(&self, id: &str, email: &str) -> (u16, Value) {
        let body = json!({
            "document_id": id, "signer_email": email, "signer_name": "Jane Smith",
            "signature_data": "base64encodedimage==",
        });
        self.post("/signatures", &body).await
    }

    /// Searches until exactly `total` documents are found.
    pub async fn search_until(&self, query: &str, total: u64) -> Value {
        eventually(&format!("{total} hits for {query:?}"), async || {
            let (status, found) = self.get(&format!("/search?{query}")).await;
            (status == 200 && found["total"] == total).then_some(found)
        })
        .await
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_of(&self.data)).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended after `terminate` and `kill`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn log_of(data: &Path) -> PathBuf {
    let name = data.file_name().and_then(|name| name.to_str()).unwrap_or("data");
    data.with_file_name(format!("{name}.log"))
}

async fn answer(response: reqwest::Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let bytes = response.bytes().await.expect("a whole body");
    (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
    assert!(sent.is_ok_and(|status| status.success()), "SIG{name} to {pid}");
}

/// Asks again and again until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Runs the binary to its end, which must come by itself.
pub fn run(command: &mut Command) -> Output {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    let mut stdout = child.stdout.take().expect("its output");
    let mut stderr = child.stderr.take().expect("its errors");
    let read_out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let read_err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("a child to wait for") {
            break status;
        }
        if started.elapsed() > 5 * PATIENCE {
            let _ = child.kill();
            panic!("{command:?} doesn't end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let join = |thread: std::thread::JoinHandle<std::io::Result<Vec<u8>>>| {
        thread.join().expect("a reader").expect("readable output")
    };
    Output { status, stdout: join(read_out), stderr: join(read_err) }
}

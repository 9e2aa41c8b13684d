//! The real binaries on a folder, and ways to talk to them.
//!
//! `DMS_TEST_TIER` chooses which: `embedded` (the default) is `dms` alone, `middle` the same program on
//! `PostgreSQL`, and `full` the five services on every engine, behind the proxy. A tier whose engines are
//! away fails.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part of it")]

pub mod engines;
pub mod live;
pub mod services;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use engines::System;
use serde_json::{Value, json};

/// How long anything may take before a test gives up on it.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The binary under test.
pub const DMS: &str = env!("CARGO_BIN_EXE_dms");

/// What a test runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tier {
    /// One process, and nothing else.
    Embedded,
    /// One process with content and index in files, on `PostgreSQL`.
    Middle,
    /// Five services on all engines.
    Full,
}

/// The tier that was chosen.
pub fn tier() -> Tier {
    match std::env::var("DMS_TEST_TIER").as_deref() {
        Err(_) | Ok("" | "embedded") => Tier::Embedded,
        Ok("middle") => Tier::Middle,
        Ok("full") => Tier::Full,
        Ok(other) => panic!("DMS_TEST_TIER: `{other}`, expected embedded, middle or full"),
    }
}

/// The repository's folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The systems on engines, by the folder of their server: they outlive a restart.
static SYSTEMS: Mutex<Option<HashMap<PathBuf, System>>> = Mutex::new(None);

/// Does something with the system of a folder, which is made if there is none.
pub fn with_system<T>(data: &Path, tier: Tier, act: impl FnOnce(&mut System) -> T) -> T {
    let taken = systems(|systems| systems.remove(data));
    // Dropped with what it has if `act` panics.
    let mut system = taken.unwrap_or_else(|| System::create(tier));
    let done = act(&mut system);
    systems(|systems| systems.insert(data.to_owned(), system));
    done
}

/// Takes the index away from a server that doesn't run.
pub fn remove_index(data: &Path) {
    match tier() {
        Tier::Embedded | Tier::Middle => {
            std::fs::remove_dir_all(data.join("index")).expect("an index folder");
        }
        Tier::Full => with_system(data, Tier::Full, |system| system.remove_indices()),
    }
}

fn systems<T>(act: impl FnOnce(&mut HashMap<PathBuf, System>) -> T) -> T {
    let mut systems = SYSTEMS.lock().unwrap_or_else(PoisonError::into_inner);
    act(systems.get_or_insert_default())
}

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

/// A running server; killed when it is dropped, and what it had on engines removed.
pub struct Server {
    /// `dms`, or the program that answers at `http`.
    child: Option<Child>,
    services: Option<services::Services>,
    /// It ends, and another may start on what it leaves.
    is_left: bool,
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
        match tier() {
            Tier::Embedded => Self::start_dms(data, address, variables),
            Tier::Middle => {
                let own = with_system(data, Tier::Middle, |system| system.variables());
                let mut all: Vec<_> =
                    own.iter().map(|(name, value)| (*name, value.as_str())).collect();
                all.extend(variables);
                Self::start_dms(data, address, &all)
            }
            Tier::Full => with_system(data, Tier::Full, |system| {
                Self::of_services(data, services::Services::start(data, address, system, variables))
            }),
        }
    }

    /// Starts the services while their engines are away.
    pub fn start_before_engines(data: &Path, stop: impl FnOnce(), start: impl FnOnce()) -> Self {
        with_system(data, Tier::Full, |system| {
            stop();
            Self::of_services(data, services::Services::start_before(data, system, start))
        })
    }

    fn of_services(data: &Path, services: services::Services) -> Self {
        Self {
            child: None,
            is_left: false,
            http: services.http,
            grpc: services.grpc,
            data: data.to_owned(),
            greeting: services.processes.iter().map(|p| p.greeting.clone()).collect(),
            client: reqwest::Client::new(),
            services: Some(services),
        }
    }

    /// The five services, on the tier that has them.
    pub fn services(&self) -> Option<&services::Services> {
        self.services.as_ref()
    }

    fn start_dms(data: &Path, address: &str, variables: &[(&str, &str)]) -> Self {
        let started = Instant::now();
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
        if tier() == Tier::Middle {
            let ready = format!("http://{http}/readyz");
            engines::wait_for("dms to be ready", || {
                (engines::curl("GET", &ready, &[]).0 == 200).then_some(())
            });
            println!("dms on PostgreSQL: ready after {:.1?}", started.elapsed());
        }
        Self {
            child: Some(child),
            services: None,
            is_left: false,
            http,
            grpc,
            data: data.to_owned(),
            greeting,
            client: reqwest::Client::new(),
        }
    }

    fn processes(&mut self) -> impl Iterator<Item = &mut Child> {
        let services = self.services.as_mut().map(|services| &mut services.processes);
        let services = services.into_iter().flatten().map(|process| &mut process.child);
        self.child.as_mut().into_iter().chain(services)
    }

    pub fn pid(&self) -> u32 {
        let services = self.services.as_ref().map(|services| services.processes[0].child.id());
        self.child.as_ref().map(Child::id).or(services).expect("a process")
    }

    /// Where a path is served, behind the gateway if there is one.
    pub fn url(&self, path: &str) -> String {
        let address = self.services.as_ref().map_or(self.http, |services| services.address(path));
        format!("http://{address}{path}")
    }

    /// Asks it to stop and waits until it has.
    pub fn terminate(mut self) -> ExitStatus {
        for process in self.processes() {
            signal(process.id(), "TERM");
        }
        self.wait()
    }

    /// Waits until it has stopped: the first status that tells of a failure, if any does.
    pub fn wait(mut self) -> ExitStatus {
        self.is_left = true;
        let asked = Instant::now();
        let mut last = None;
        for process in self.processes() {
            let status = loop {
                if let Some(status) = process.try_wait().expect("a child to wait for") {
                    break status;
                }
                assert!(asked.elapsed() < PATIENCE, "still running after SIGTERM");
                std::thread::sleep(Duration::from_millis(5));
            };
            last = last.filter(|last: &ExitStatus| !last.success()).or(Some(status));
        }
        last.expect("a process")
    }

    /// Ends it as a crash would.
    pub fn kill(mut self) {
        self.is_left = true;
        for process in self.processes() {
            process.kill().expect("SIGKILL");
            process.wait().expect("its end");
        }
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

    /// Checks that the stores of the full tier hold the same `count` documents with the same content.
    /// The embedded ones are this process's business alone.
    pub fn stores_agree(&self, count: usize) {
        if tier() != Tier::Full {
            return;
        }
        let [rows, objects, index] = with_system(&self.data, Tier::Full, |system| system.hashes());
        assert_eq!(rows.len(), count, "rows");
        assert!(rows == objects, "PostgreSQL and S3 differ");
        assert!(rows == index, "PostgreSQL and Elasticsearch differ");
        println!("{count} documents equal in PostgreSQL, S3 and Elasticsearch");
    }

    /// What it logged.
    pub fn log(&self) -> String {
        match &self.services {
            Some(services) => services.processes.iter().map(services::Process::log).collect(),
            None => std::fs::read_to_string(log_of(&self.data)).unwrap_or_default(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for process in self.processes() {
            // Already ended after `terminate` and `kill`.
            let _ = process.kill();
            let _ = process.wait();
        }
        if self.is_left {
            return;
        }
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
        drop(systems(|systems| systems.remove(&self.data)));
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

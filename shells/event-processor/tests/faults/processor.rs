//! The program itself, as a process.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

pub(crate) struct Processor {
    variables: Vec<(&'static str, String)>,
    log: PathBuf,
    address: String,
    process: Option<Child>,
    /// Most memory that any process so far has had, in KiB.
    memory_kib: u64,
    http: reqwest::Client,
}

impl Processor {
    pub(crate) fn new(mut variables: Vec<(&'static str, String)>, log: PathBuf) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        variables.push(("DMS_HTTP_ADDR", address.clone()));
        let http = reqwest::Client::builder().timeout(std::time::Duration::from_secs(5));
        let http = http.build().expect("a client");
        Self { variables, log, address, process: None, memory_kib: 0, http }
    }

    pub(crate) fn start(&mut self) {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log");
        let errors = log.try_clone().expect("a log");
        let process = self.command(&[]).stdout(log).stderr(errors).spawn();
        self.process = Some(process.expect("the program starts"));
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_event-processor"));
        command.args(arguments).env_clear().envs(self.variables.iter().cloned());
        command.stdin(Stdio::null());
        command
    }

    /// Runs one of its commands to the end.
    pub(crate) async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        let output = tokio::task::spawn_blocking(move || command.output()).await;
        output.expect("joins").expect("the command runs")
    }

    /// Begins one of its commands.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.spawn().expect("the command starts")
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(&mut self) {
        self.memory_kib();
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it can be killed");
            process.wait().expect("it ends");
        }
    }

    /// It must not have ended by itself.
    pub(crate) fn assert_runs(&mut self) {
        let ended = self.process.as_mut().and_then(|process| process.try_wait().expect("known"));
        assert!(ended.is_none(), "the processor ended: {ended:?}\n{}", self.log_end());
    }

    /// Most memory that any process so far has had, in KiB.
    pub(crate) fn memory_kib(&mut self) -> u64 {
        if let Some(process) = &self.process {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.id()));
            let status = status.unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
            self.memory_kib = self.memory_kib.max(kib.unwrap_or(0));
        }
        self.memory_kib
    }

    /// Whether it is ready, and what it says of itself.
    pub(crate) async fn ready(&self) -> (bool, Value) {
        let answer = self.http.get(format!("http://{}/readyz", self.address)).send().await;
        let Ok(answer) = answer else { return (false, Value::Null) };
        (answer.status().is_success(), answer.json().await.unwrap_or_default())
    }

    pub(crate) async fn metrics(&self) -> String {
        let answer = self.http.get(format!("http://{}/metrics", self.address)).send().await;
        answer.expect("metrics").text().await.expect("text")
    }

    pub(crate) fn log_end(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("end of the processor's log:\n{}", self.log_end());
        }
        self.kill();
    }
}

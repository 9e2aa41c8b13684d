//! The program itself, as a process.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Client;

use crate::system::{System, eventually};

/// Where a processor reads and writes.
pub(crate) struct Places {
    pub(crate) events: String,
    pub(crate) search: String,
    /// Who it is to the change stream.
    pub(crate) group: String,
}

pub(crate) struct Processor {
    child: Child,
    address: String,
    http: Client,
}

impl Processor {
    /// Starts one; returns before it is ready.
    pub(crate) fn start(system: &System, places: &Places) -> Self {
        // Its port has to be known before it says so.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        drop(listener);
        let program = std::env::var_os("DMS_BENCH_PROCESSOR")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_event-processor").into());
        let folder = system.folder();
        let log = folder.join("event-processor.log");
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let errors = log.try_clone().expect("a log");
        let child = Command::new(program)
            .env_clear()
            .env("DMS_DATABASE_URL", system.database_url())
            .env("DMS_EVENTS_URL", &places.events)
            .env("DMS_SEARCH_URL", &places.search)
            .env("DMS_CONSUMER_GROUP", &places.group)
            .env("DMS_STORAGE_URL", format!("file://{}", folder.join("content").display()))
            .env("DMS_DATA_DIR", folder.join("processor"))
            .env("DMS_HTTP_ADDR", &address)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .expect("the program starts");
        let http = Client::builder().timeout(Duration::from_secs(5)).no_proxy().build();
        Self { child, address, http: http.expect("a client") }
    }

    pub(crate) async fn ready(&self) {
        let url = format!("http://{}/readyz", self.address);
        eventually("the processor is ready", async || {
            self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success())
        })
        .await;
    }

    async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.address);
        match self.http.get(url).send().await {
            Ok(answer) => answer.text().await.unwrap_or_default(),
            // It is starting.
            Err(_) => String::new(),
        }
    }

    /// Documents that the index has answered for.
    pub(crate) async fn applied(&self) -> u64 {
        let metrics = self.metrics().await;
        let is_done = |line: &&str| {
            line.starts_with("dms_stream_changes_total{")
                && (line.contains(r#"outcome="applied""#)
                    || line.contains(r#"outcome="already_newer""#))
        };
        metrics.lines().filter(is_done).filter_map(|line| value(line)?.parse::<u64>().ok()).sum()
    }

    /// Sum of the times from commit to the index's answer, in seconds, and their number.
    pub(crate) async fn commit_to_applied(&self) -> (f64, f64) {
        let metrics = self.metrics().await;
        let sum = |name: &str| -> f64 {
            let lines = metrics.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| value(line)?.parse::<f64>().ok()).sum()
        };
        (
            sum("dms_stream_commit_to_applied_seconds_sum"),
            sum("dms_stream_commit_to_applied_seconds_count"),
        )
    }

    /// Most memory it has had, in MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        memory_kib(&self.child.id().to_string(), "VmHWM:") / 1024
    }

    /// Time it has spent on processors, in all of its threads.
    pub(crate) fn cpu(&self) -> Duration {
        // Linux counts it in hundredths of a second, whatever the machine.
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        // The name before it may hold anything; user and system time are fields 14 and 15.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields = after_name.split_whitespace().skip(11).take(2);
        TICK * fields.filter_map(|field| field.parse::<u32>().ok()).sum::<u32>()
    }

    /// Lets it end as it should.
    pub(crate) fn stop(mut self) {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args(["-TERM", &pid]).status();
        assert!(told.is_ok_and(|status| status.success()), "told to stop");
        self.child.wait().expect("it ends");
    }

    /// As `kill -9` does it.
    pub(crate) fn kill(mut self) {
        self.child.kill().expect("it can be killed");
        self.child.wait().expect("it ends");
    }
}

impl Drop for Processor {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn value(line: &str) -> Option<&str> {
    line.split_whitespace().last()
}

/// A field of a process's status.
pub(crate) fn memory_kib(process: &str, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

//! The measured process: the real binary on a folder, its memory read from `/proc`.

use std::io::{self, BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Server {
    child: Child,
    pub address: SocketAddr,
    /// From the start of the process until it said that it is ready.
    pub start_to_ready: Duration,
}

/// Memory of a process in MiB.
pub(crate) struct Memory {
    pub resident: u64,
    /// The most that was resident.
    pub highest: u64,
    /// Without pages of files, which the system takes back when it needs them.
    pub anonymous: u64,
}

impl Server {
    pub(crate) fn start(data: &Path) -> io::Result<Self> {
        let started = Instant::now();
        let server = std::env::var_os("DMS_BENCH_SERVER")
            .unwrap_or_else(|| env!("CARGO_BIN_EXE_dms").into());
        let mut child = Command::new(server)
            .env_clear()
            .arg("--data-dir")
            .arg(data)
            .args(["--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"])
            .args(["--log", "warn"])
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no stdout"))?;
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            if let Some((_, rest)) = line.split_once("http://") {
                let address = rest.split([' ', '/']).next().unwrap_or_default();
                let address = address.parse().map_err(io::Error::other)?;
                return Ok(Self { child, address, start_to_ready: started.elapsed() });
            }
        }
        Err(io::Error::other(format!("server ended: {:?}", child.wait()?)))
    }

    /// Memory in MiB.
    pub(crate) fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))
            .unwrap_or_default();
        let field = |name: &str| {
            status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024)
        };
        Memory { resident: field("VmRSS:"), highest: field("VmHWM:"), anonymous: field("RssAnon:") }
    }

    /// Time the process has spent on processors, in all of its threads.
    pub(crate) fn cpu(&self) -> Duration {
        // Linux counts it in hundredths of a second, whatever the machine.
        const TICK: Duration = Duration::from_millis(10);
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        // The name before it may hold anything; user and system time are fields 14 and 15.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let fields = after_name.split_whitespace().skip(11).take(2);
        let ticks: u32 = fields.filter_map(|field| field.parse::<u32>().ok()).sum();
        TICK * ticks
    }

    pub(crate) fn stop(mut self) -> io::Result<Duration> {
        let asked = Instant::now();
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        self.child.wait()?;
        Ok(asked.elapsed())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already ended after `stop`.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

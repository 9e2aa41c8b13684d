//! Metrics of this process, as Prometheus text.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;

use crate::Program;

/// How often recorded durations are folded into buckets; what is recorded between two rounds takes
/// memory.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Upper bounds in seconds of histograms whose name ends in `_seconds`.
const SECONDS_BUCKETS: [f64; 15] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];

/// Upper bounds in bytes of histograms whose name ends in `_bytes`.
const BYTES_BUCKETS: [f64; 9] =
    [256.0, 1024.0, 4096.0, 16_384.0, 65_536.0, 262_144.0, 1_048_576.0, 8_388_608.0, 67_108_864.0];

/// The metrics of this process. There is one recorder however many instances run in it; clones and
/// further calls of [`metrics_handle`] show the same numbers.
#[derive(Clone)]
pub struct MetricsHandle {
    prometheus: PrometheusHandle,
    started: Instant,
}

impl std::fmt::Debug for MetricsHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MetricsHandle").finish_non_exhaustive()
    }
}

/// The metrics of this process; the first call starts recording.
///
/// If an embedding program has installed a recorder of its own, everything is recorded there and
/// [`render`](MetricsHandle::render) gives nothing.
pub fn metrics_handle() -> MetricsHandle {
    static HANDLE: OnceLock<MetricsHandle> = OnceLock::new();
    HANDLE.get_or_init(install).clone()
}

fn install() -> MetricsHandle {
    // only an empty list of buckets is refused
    let builder = with_buckets().unwrap_or_default();
    let recorder = builder.build_recorder();
    let prometheus = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("metrics are already recorded elsewhere");
    }
    describe();
    if let Ok(since) = SystemTime::now().duration_since(UNIX_EPOCH) {
        gauge!("process_start_time_seconds").set(since.as_secs_f64());
    }
    MetricsHandle { prometheus, started: Instant::now() }
}

fn with_buckets() -> Result<PrometheusBuilder, BuildError> {
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), &SECONDS_BUCKETS)?
        .set_buckets_for_metric(suffix("_bytes"), &BYTES_BUCKETS)
}

fn describe() {
    describe_gauge!("dms_build_info", "always 1; the labels say which program and version runs");
    describe_gauge!("dms_uptime_seconds", Unit::Seconds, "time since metrics were first recorded");
    describe_gauge!("process_start_time_seconds", Unit::Seconds, "start, in seconds since 1970");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "memory that is in RAM");
    describe_gauge!("process_open_fds", Unit::Count, "open file descriptors");
    describe_gauge!("process_max_fds", Unit::Count, "file descriptors that may be open");
    describe_gauge!("process_threads", Unit::Count, "threads");
}

impl MetricsHandle {
    /// Records which program and version runs.
    pub fn set_build_info(&self, program: &Program) {
        gauge!("dms_build_info", "program" => program.name, "version" => program.version).set(1.0);
    }

    /// All metrics in Prometheus' text format 0.0.4, with this process's own numbers as of now.
    pub fn render(&self) -> String {
        gauge!("dms_uptime_seconds").set(self.started.elapsed().as_secs_f64());
        let process = ProcessNumbers::read();
        for (name, value) in [
            ("process_resident_memory_bytes", process.resident_memory_bytes),
            ("process_open_fds", process.open_fds),
            ("process_max_fds", process.max_fds),
            ("process_threads", process.threads),
        ] {
            if let Some(value) = value {
                #[expect(clippy::cast_precision_loss, reason = "gauges are floating point")]
                gauge!(name).set(value as f64);
            }
        }
        self.prometheus.render()
    }

    /// Keeps the memory of recorded durations bounded, until `stop`. Run it once in each process.
    pub async fn upkeep(self, stop: CancellationToken) {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        while stop.run_until_cancelled(interval.tick()).await.is_some() {
            self.prometheus.run_upkeep();
        }
    }
}

/// What the operating system says about this process; nothing where it has no `/proc`.
#[derive(Debug, Default, PartialEq, Eq)]
struct ProcessNumbers {
    resident_memory_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
}

impl ProcessNumbers {
    fn read() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        let status = read("/proc/self/status");
        let limits = read("/proc/self/limits");
        Self {
            resident_memory_bytes: number_after(&status, "VmRSS:").map(|kib| kib * 1024),
            threads: number_after(&status, "Threads:"),
            // one of them is the listing itself
            open_fds: std::fs::read_dir("/proc/self/fd")
                .ok()
                .map(|entries| entries.count().saturating_sub(1) as u64),
            max_fds: number_after(&limits, "Max open files"),
        }
    }
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROGRAM: Program = Program {
        name: "dms",
        version: "1.2.3",
        http_port: 8000,
        grpc_port: None,
        backends: crate::settings::Backends::EMBEDDED,
    };

    #[test]
    fn every_instance_shows_the_same_numbers() {
        metrics_handle().set_build_info(&PROGRAM);
        metrics::counter!("dms_test_total").increment(2);
        metrics::histogram!("dms_test_duration_seconds").record(0.003);
        let text = metrics_handle().render();
        for line in [
            "dms_build_info{program=\"dms\",version=\"1.2.3\"} 1",
            "dms_test_total 2",
            "dms_test_duration_seconds_bucket{le=\"0.005\"} 1",
            "dms_test_duration_seconds_bucket{le=\"0.0025\"} 0",
        ] {
            assert!(text.lines().any(|one| one == line), "{line} is missing in\n{text}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_itself_is_measured() {
        let numbers = ProcessNumbers::read();
        assert!(numbers.resident_memory_bytes.expect("memory") > 100 * 1024);
        assert!(numbers.open_fds.expect("open files") >= 3);
        assert!(numbers.max_fds.expect("a limit") >= numbers.open_fds.expect("open files"));
        assert!(numbers.threads.expect("threads") >= 1);
        assert!(metrics_handle().render().contains("process_resident_memory_bytes "));
    }

    #[tokio::test]
    async fn upkeep_ends_when_told_to() {
        let stop = CancellationToken::new();
        stop.cancel();
        metrics_handle().upkeep(stop).await;
    }
}

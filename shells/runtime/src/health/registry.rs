//! The checks of a program, and what they found.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dms_core::ErrorChain;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::Instant;

use super::report::{CheckReport, CheckStatus, Report, Status};
use crate::supervisor::TaskResult;

/// How long one check may take.
pub const CHECK_TIME_MAX: Duration = Duration::from_secs(1);

/// How long what was found is good for: probing more often costs nothing.
pub const REPORT_LIFETIME: Duration = Duration::from_secs(1);

/// Characters of a failed check's message that are shown.
const MESSAGE_CHARS_MAX: usize = 200;

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const DRAINING: u8 = 2;

/// The checks that decide whether a program takes requests. Clones share everything.
///
/// A program starts out as [`Status::Starting`]; call [`set_serving`](Self::set_serving) when it is up
/// and [`set_draining`](Self::set_draining) when it is asked to stop.
#[derive(Clone)]
pub struct HealthRegistry(Arc<Inner>);

struct Inner {
    phase: AtomicU8,
    checks: Mutex<Vec<Arc<Check>>>,
    last: tokio::sync::Mutex<Option<(Instant, Report)>>,
}

struct Check {
    name: &'static str,
    needed: bool,
    run: Box<dyn Fn() -> BoxFuture<'static, TaskResult> + Send + Sync>,
    was: AtomicU8,
}

impl Default for HealthRegistry {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for HealthRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.checks().iter().map(|check| check.name).collect();
        f.debug_struct("HealthRegistry").field("checks", &names).finish_non_exhaustive()
    }
}

impl HealthRegistry {
    /// No checks, and starting.
    pub fn new() -> Self {
        Self(Arc::new(Inner {
            phase: AtomicU8::new(STARTING),
            checks: Mutex::default(),
            last: tokio::sync::Mutex::default(),
        }))
    }

    /// Adds a check, or replaces the one of the same name. If it is `needed`, requests aren't taken
    /// while it fails. It may be cancelled at any await and has [`CHECK_TIME_MAX`]; the message of
    /// its error is shown to whoever asks, so it must hold nothing secret.
    pub fn add<F, T>(&self, name: &'static str, needed: bool, check: F)
    where
        F: Fn() -> T + Send + Sync + 'static,
        T: Future<Output = TaskResult> + Send + 'static,
    {
        let run = Box::new(move || check().boxed());
        let mut checks = self.0.checks.lock().unwrap_or_else(PoisonError::into_inner);
        checks.retain(|one| one.name != name);
        checks.push(Arc::new(Check { name, needed, run, was: AtomicU8::new(UNKNOWN) }));
    }

    /// From now on the checks decide.
    pub fn set_serving(&self) {
        self.0.phase.store(SERVING, Ordering::SeqCst);
    }

    /// From now on no requests are wanted, whatever the checks say.
    pub fn set_draining(&self) {
        self.0.phase.store(DRAINING, Ordering::SeqCst);
    }

    /// What the checks find, run concurrently, or what they found within the last
    /// [`REPORT_LIFETIME`]. Callers at the same time share one run. Takes at most [`CHECK_TIME_MAX`]
    /// for each run that is waited for.
    pub async fn report(&self) -> Report {
        let mut report = self.checked().await;
        match self.0.phase.load(Ordering::SeqCst) {
            STARTING => report.status = Status::Starting,
            DRAINING => report.status = Status::Draining,
            _ => {}
        }
        report
    }

    async fn checked(&self) -> Report {
        let mut last = self.0.last.lock().await;
        if let Some((at, report)) = &*last
            && at.elapsed() < REPORT_LIFETIME
        {
            return report.clone();
        }
        let checks = self.checks();
        let found = join_all(checks.iter().map(|check| check.report())).await;
        let found: BTreeMap<_, _> = checks
            .iter()
            .zip(found)
            .map(|(check, report)| (check.name.to_owned(), report))
            .collect();
        let report = Report::of(found);
        *last = Some((Instant::now(), report.clone()));
        report
    }

    fn checks(&self) -> Vec<Arc<Check>> {
        self.0.checks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

const UNKNOWN: u8 = 0;
const UP: u8 = 1;
const DOWN: u8 = 2;
/// Down the first time it was looked at: what isn't needed may still be starting.
const NOT_YET: u8 = 3;

impl Check {
    async fn report(&self) -> CheckReport {
        let started = Instant::now();
        let run = AssertUnwindSafe(async { (self.run)().await }).catch_unwind();
        let (message, cause) = match tokio::time::timeout(CHECK_TIME_MAX, run).await {
            Ok(Ok(Ok(()))) => (None, None),
            Ok(Ok(Err(error))) => {
                (Some(one_line(&error.to_string())), Some(ErrorChain(&*error).to_string()))
            }
            Ok(Err(_panic)) => (Some("the check panicked".to_owned()), None),
            Err(_) => (Some(format!("no answer within {} ms", CHECK_TIME_MAX.as_millis())), None),
        };
        let elapsed = started.elapsed();
        self.note(message.as_deref(), cause.as_deref());
        CheckReport {
            status: if message.is_none() { CheckStatus::Up } else { CheckStatus::Down },
            needed: self.needed,
            message,
            latency_ms: (elapsed < CHECK_TIME_MAX).then(|| {
                // microseconds are precise enough to be read
                (elapsed.as_secs_f64() * 1e6).round() / 1e3
            }),
        }
    }

    /// Logs a change, so that a dependency that is down takes two lines rather than one a second, and
    /// one that starts takes none.
    fn note(&self, message: Option<&str>, cause: Option<&str>) {
        let now = match (self.was.load(Ordering::SeqCst), message) {
            (_, None) => UP,
            (UNKNOWN, Some(_)) if !self.needed => NOT_YET,
            (_, Some(_)) => DOWN,
        };
        let was = self.was.swap(now, Ordering::SeqCst);
        metrics::gauge!("dms_check_up", "check" => self.name).set(f64::from(u8::from(now == UP)));
        match (was, now) {
            (DOWN, UP) => tracing::info!(check = self.name, "dependency is up again"),
            (UNKNOWN | NOT_YET | UP, DOWN) => {
                let error = cause.or(message);
                tracing::warn!(
                    check = self.name,
                    needed = self.needed,
                    error,
                    "dependency is down"
                );
            }
            _ => {}
        }
    }
}

fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    text.chars().filter(|c| !c.is_control()).take(MESSAGE_CHARS_MAX).collect()
}

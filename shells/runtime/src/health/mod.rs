//! Whether the program is alive, ready, and what it measures.

mod client;
mod registry;
mod report;
mod routes;

pub use client::{HEALTHCHECK_TIME_MAX, NotReady, healthcheck};
pub use registry::{CHECK_TIME_MAX, HealthRegistry, REPORT_LIFETIME};
pub use report::{CheckReport, CheckStatus, Report, Status};

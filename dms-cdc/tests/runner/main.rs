//! The runner between scripted sources and sinks, on a clock that stands still unless all wait.

mod dead_letters;
mod delivery;
mod failures;
mod measures;
mod schedules;
mod stopping;
mod support;

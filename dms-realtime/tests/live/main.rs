//! Live updates, from a published change to what a client receives.

mod axum_socket;
mod events;
mod history;
mod hub;
mod session;
mod socket;

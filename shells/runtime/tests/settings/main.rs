//! Every setting with good and bad values, and which source wins.

mod engines;
mod keys;
mod listening;
mod places;
mod secrets;
mod sources;
mod support;

//! Each row of the contract, through the whole app, on fakes.

mod access;
mod bed;
mod content;
mod documents;
mod forms;
mod layers;
mod open_api;
mod search;
mod signatures;
mod writes;

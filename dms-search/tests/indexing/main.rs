//! The sink and the rebuild, on fakes of every port.

mod rebuilding;
mod searchable;
mod sink;
mod support;

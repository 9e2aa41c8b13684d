//! The sink and the rebuild, on fakes of every port.

mod rebuilding;
mod sink;
mod support;

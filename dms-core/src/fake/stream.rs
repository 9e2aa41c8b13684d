//! A scripted change source and a recording sink.

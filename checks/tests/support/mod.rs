//! The repository's files, and what the product says of itself.

#![allow(dead_code, reason = "each test file takes what it needs")]

pub(crate) mod kong;
pub(crate) mod open_api;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// The repository's folder.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above").to_owned()
}

/// A file of the repository.
pub(crate) fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// A YAML file of the repository, its anchors and merge keys resolved.
pub(crate) fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&text(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `value` as an object; nothing counts as an empty one.
pub(crate) fn object(value: &Value) -> Map<String, Value> {
    match value {
        Value::Null => Map::new(),
        Value::Object(map) => map.clone(),
        other => panic!("expected an object: {other}"),
    }
}

/// `value` as texts, one or a list; nothing counts as an empty list.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    let text = |one: &Value| match one {
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => one.to_string(),
        other => panic!("expected a text: {other}"),
    };
    match value {
        Value::Null => Vec::new(),
        Value::Array(all) => all.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

/// The values of a `key = value` or `key=value` file, by key; comments and sections are left out.
pub(crate) fn properties(path: &str) -> Vec<(String, String)> {
    text(path)
        .lines()
        .filter(|line| !line.starts_with(['#', ';', '[', '%']))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key.trim().to_owned(), value.trim().trim_matches('\'').to_owned()))
        .collect()
}

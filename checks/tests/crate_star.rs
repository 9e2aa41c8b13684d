//! The crates form a star: adapters know the core and never each other; the core does no I/O.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, PackageId};

const CORE: &str = "dms-core";
const ADAPTERS: [&str; 5] = ["dms-store", "dms-cdc", "dms-search", "dms-realtime", "dms-rpc"];

/// What the core may depend on directly: data types, hashing, macros. Anything new deserves a thought.
const CORE_DEPENDENCIES: [&str; 15] = [
    "async-trait",
    "base64",
    "bytes",
    "email_address",
    "futures-util",
    "infer",
    "mediatype",
    "mockall",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "time",
    "tracing",
    "uuid",
];

/// What does I/O or runs a runtime, and must not come in through a dependency of the core either.
const IO: [&str; 10] = [
    "tokio",
    "mio",
    "socket2",
    "hyper",
    "reqwest",
    "sqlx-core",
    "object_store",
    "tantivy",
    "axum",
    "async-io",
];

/// Paths of the standard library that reach outside the process.
const IO_PATHS: [&str; 8] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "TcpStream",
    "UdpSocket",
    "SystemTime",
    "println!",
];

fn workspace() -> Metadata {
    MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .other_options(vec!["--locked".into()])
        .exec()
        .expect("cargo metadata of the workspace")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a folder above").to_owned()
}

/// Direct dependencies by package, of every kind, as declared.
fn declared(metadata: &Metadata) -> BTreeMap<String, BTreeSet<String>> {
    metadata
        .workspace_packages()
        .iter()
        .map(|package| {
            let names = package.dependencies.iter().map(|d| d.name.clone()).collect();
            (package.name.to_string(), names)
        })
        .collect()
}

#[test]
fn adapters_depend_on_the_core_and_never_on_each_other_or_on_what_composes_them() {
    let metadata = workspace();
    let declared = declared(&metadata);
    let own: BTreeSet<&String> = declared.keys().collect();
    for adapter in ADAPTERS {
        let dependencies = declared.get(adapter).unwrap_or_else(|| panic!("no crate {adapter}"));
        let forbidden: Vec<_> = dependencies
            .iter()
            .filter(|name| own.contains(name) && name.as_str() != CORE)
            .collect();
        assert!(forbidden.is_empty(), "{adapter} may depend on {CORE} only, not on {forbidden:?}");
    }
}

#[test]
fn the_core_depends_on_no_crate_of_the_workspace_and_on_nothing_unexpected() {
    let metadata = workspace();
    let core = metadata
        .workspace_packages()
        .into_iter()
        .find(|package| package.name.as_str() == CORE)
        .expect("the core");
    let unexpected: Vec<_> = core
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal)
        .map(|dependency| dependency.name.as_str())
        .filter(|name| !CORE_DEPENDENCIES.contains(name))
        .collect();
    assert!(unexpected.is_empty(), "{CORE} depends on {unexpected:?}");
}

#[test]
fn nothing_below_the_core_does_io() {
    let metadata = workspace();
    let resolve = metadata.resolve.as_ref().expect("a resolved graph");
    let name = |id: &PackageId| metadata[id].name.to_string();
    let core = resolve.nodes.iter().find(|node| name(&node.id) == CORE).expect("the core");
    let mut reached = BTreeSet::new();
    let mut waiting = vec![&core.id];
    while let Some(id) = waiting.pop() {
        if !reached.insert(id.clone()) {
            continue;
        }
        let node = resolve.nodes.iter().find(|node| node.id == *id).expect("a node");
        waiting.extend(
            node.deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind == DependencyKind::Normal))
                .map(|dep| &dep.pkg),
        );
    }
    let reached: BTreeSet<String> = reached.iter().map(name).collect();
    let found: Vec<_> = IO.iter().filter(|name| reached.contains(**name)).collect();
    assert!(found.is_empty(), "{CORE} reaches {found:?}");
}

#[test]
fn the_core_itself_does_no_io() {
    let mut files = vec![root().join("dms-core/src")];
    let mut seen = 0;
    while let Some(path) = files.pop() {
        // The suites wait and run threads: they are tests.
        if path.ends_with("conformance") {
            continue;
        }
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).expect("a readable folder");
            files.extend(entries.map(|entry| entry.expect("an entry").path()));
            continue;
        }
        seen += 1;
        let source = std::fs::read_to_string(&path).expect("readable source");
        // What stands after the tests begin isn't part of the library.
        let source = source.split("#[cfg(test)]").next().unwrap_or_default();
        for forbidden in IO_PATHS {
            assert!(!source.contains(forbidden), "{} mentions {forbidden}", path.display());
        }
    }
    assert!(seen > 10, "found only {seen} files of the core");
}

#[test]
fn default_features_of_library_crates_are_empty() {
    for package in workspace().workspace_packages() {
        if package.name.as_str() == CORE || ADAPTERS.contains(&package.name.as_str()) {
            let default = package.features.get("default").cloned().unwrap_or_default();
            assert!(default.is_empty(), "{} has default features {default:?}", package.name);
        }
    }
}

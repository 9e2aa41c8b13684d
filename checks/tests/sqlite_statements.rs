//! Statements of `SQLite` that are prepared once.

use std::path::Path;

/// `SQLite` prepares a statement again whenever a bare parameter after `LIMIT` is bound, since its
/// planner takes the value as a hint: half of what a short statement costs.
#[test]
fn no_limit_is_a_bare_parameter() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut looked_at = 0;
    for folder in ["dms-store/src/sqlite", "dms-cdc/src/sqlite"] {
        for entry in std::fs::read_dir(root.join(folder)).expect("a folder of sources") {
            let path = entry.expect("an entry").path();
            if path.extension().is_none_or(|extension| extension != "rs") {
                continue;
            }
            looked_at += 1;
            let source = std::fs::read_to_string(&path).expect("a source");
            for (at, _) in source.match_indices("LIMIT $") {
                let rest = source[at + 7..].trim_start_matches(|c: char| c.is_ascii_digit());
                assert!(
                    rest.starts_with(" + 0") || rest.starts_with("n + 0"),
                    "{}",
                    path.display()
                );
            }
        }
    }
    assert!(looked_at > 10, "{looked_at} sources");
}

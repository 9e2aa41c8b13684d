//! The quick start of the README, as it stands there, against the built binary.

mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use support::{PATIENCE, Server};

/// Blocks of the README between the marks of the quick start.
fn blocks() -> Vec<String> {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme).expect("the README");
    let start = readme.find("<!-- quick start").expect("the beginning of the quick start");
    let end = readme.find("<!-- end of the quick start").expect("its end");
    readme[start..end]
        .split("```sh\n")
        .skip(1)
        .map(|block| block.split("```").next().expect("the block's end").to_owned())
        .collect()
}

#[test]
fn quick_start_of_the_readme_works_as_written() {
    // What each block must print, in the order of the README.
    let expected: [&[&str]; 8] = [
        &["\"title\":\"Sales Agreement Q4\"", "\"version\":1"],
        &["\"total\":1", "<em>Agreement</em>"],
        &[],
        &["\"document_status\":\"signed\""],
        &["\"status\":\"viewed\"", "\"version\":3"],
        &["signature.created", "document.signed", "document.viewed"],
        &["\"total_views\":5", "\"unique_views\":1"],
        &["\"key\":\"viewed\"", "\"count\":1"],
    ];
    let blocks = blocks();
    assert_eq!(blocks.len(), expected.len(), "{blocks:#?}");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let server = Server::start(&folder.path().join("data"));
    let mut so_far = String::new();
    for (block, expected) in blocks.iter().zip(expected) {
        let block = block.replace("127.0.0.1:8000", &server.http.to_string());
        assert!(block.contains(&server.http.to_string()) || block.contains("cat "), "{block}");
        let started = Instant::now();
        // A reader needs longer to paste the next block than the index needs to follow.
        loop {
            let script = format!("{so_far}\n{block}");
            // What it leaves running in the background keeps nothing of ours open.
            let output = Command::new("bash")
                .args(["-euc", &script])
                .current_dir(folder.path())
                .stdin(Stdio::null())
                .stderr(Stdio::inherit())
                .output()
                .expect("a shell");
            let printed = String::from_utf8_lossy(&output.stdout);
            if output.status.success() && expected.iter().all(|part| printed.contains(part)) {
                break;
            }
            assert!(started.elapsed() < PATIENCE, "{block}\nprinted {printed}");
            // Only what reads may be run again.
            assert!(!block.contains("-d "), "{block}\nprinted {printed}");
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // Later blocks see the variables of earlier ones.
        if let Some(assignment) = block.lines().find(|line| line.starts_with("ID=")) {
            so_far = assignment.to_owned();
        }
        if block.contains("/events") {
            wait_for_snapshot(folder.path());
        }
    }
}

/// The event stream runs in the background: what comes next must find it connected.
fn wait_for_snapshot(folder: &Path) {
    let started = Instant::now();
    let events = folder.join("events.txt");
    while !std::fs::read_to_string(&events).is_ok_and(|text| text.contains("document.snapshot")) {
        assert!(started.elapsed() < PATIENCE, "no snapshot on the event stream");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

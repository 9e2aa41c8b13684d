//! `dms import` on real files: the Markdown, HTML, text and licences in the sources of the crates
//! that this very build used. `DMS_IMPORT_FILES` sets how many (300).

mod support;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use dms_core::Sha256;
use serde_json::Value;
use support::{Server, dms, run};

const GLOBS: [&str; 6] = ["*.md", "*.html", "*.txt", "LICENSE*", "COPYING*", "README*"];

/// Folders of crate sources that together hold at least `files` files of the kinds above.
fn sources(files: usize) -> Vec<PathBuf> {
    let cargo_home = std::env::var_os("CARGO_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").expect("a home")).join(".cargo"),
        PathBuf::from,
    );
    let mut crates: Vec<_> = std::fs::read_dir(cargo_home.join("registry/src"))
        .expect("sources of the crates this was built from")
        .flat_map(|index| std::fs::read_dir(index.expect("an entry").path()).expect("crates"))
        .map(|krate| krate.expect("an entry").path())
        .collect();
    crates.sort();
    let mut chosen = Vec::new();
    let mut found = 0;
    for krate in crates {
        if found >= files {
            break;
        }
        let expected = expected_files(std::slice::from_ref(&krate)).len();
        if expected > 0 {
            found += expected;
            chosen.push(krate);
        }
    }
    assert!(found >= files, "only {found} files in the sources of crates");
    chosen
}

/// Title to path of every file that an import must take, found without its code.
fn expected_files(roots: &[PathBuf]) -> BTreeMap<String, PathBuf> {
    fn visit(path: &Path, base: &Path, into: &mut BTreeMap<String, PathBuf>) {
        for entry in std::fs::read_dir(path).expect("a readable folder") {
            let entry = entry.expect("an entry");
            let name = entry.file_name().into_string().expect("a name in UTF-8");
            let kind = entry.file_type().expect("a kind");
            let starts = ["LICENSE", "COPYING", "README"].iter().any(|s| name.starts_with(s));
            let ends = [".md", ".html", ".txt"].iter().any(|end| name.ends_with(end));
            if name.starts_with('.') {
            } else if kind.is_dir() {
                visit(&entry.path(), base, into);
            } else if kind.is_file() && (starts || ends) {
                let title = entry.path().strip_prefix(base).expect("below the base").to_owned();
                into.insert(title.to_str().expect("UTF-8").to_owned(), entry.path());
            }
        }
    }
    let mut files = BTreeMap::new();
    for root in roots {
        visit(root, root.parent().expect("a parent"), &mut files);
    }
    files
}

fn import_command(server: &str, roots: &[PathBuf]) -> Command {
    let mut command = dms();
    command.args(["import", "--url", server]).args(roots);
    for glob in GLOBS {
        command.args(["--include", glob]);
    }
    command
}

fn import(server: &str, roots: &[PathBuf]) -> (Output, String) {
    let output = run(&mut import_command(server, roots));
    let counts =
        String::from_utf8_lossy(&output.stdout).lines().next().unwrap_or_default().to_owned();
    (output, counts)
}

/// All documents by title; a title that is there twice fails the test.
async fn documents(server: &Server) -> BTreeMap<String, Value> {
    let mut documents = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let (status, page) = server.get(&format!("/documents?limit=100{cursor}")).await;
        assert_eq!(status, 200, "{page}");
        for document in page["documents"].as_array().expect("a list") {
            let title = document["title"].as_str().expect("a title").to_owned();
            let twice = documents.insert(title, document.clone());
            assert!(twice.is_none(), "there twice: {document}");
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return documents,
        }
    }
}

async fn served_equals_disk(server: &Server, files: &BTreeMap<String, PathBuf>) {
    let documents = documents(server).await;
    let titles: BTreeSet<_> = documents.keys().collect();
    assert_eq!(titles, files.keys().collect::<BTreeSet<_>>());
    for (title, path) in files {
        let id = documents[title]["id"].as_str().expect("an id");
        let url = server.url(&format!("/documents/{id}/content"));
        let served = server.client.get(url).send().await.expect("an answer");
        let served = served.bytes().await.expect("a whole body");
        let on_disk = std::fs::read(path).expect("a readable file");
        assert_eq!(Sha256::of(&served), Sha256::of(&on_disk), "{title}");
        assert_eq!(documents[title]["content_sha256"], Sha256::of(&on_disk).to_string());
    }
}

/// A line of prose from the middle of a file, as a phrase to search for.
fn phrase(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len() / 2..].iter().find_map(|line| {
        let plain = line.chars().all(|c| c.is_ascii_alphabetic() || c == ' ');
        let words: Vec<_> = line.split_whitespace().collect();
        (plain && (5..=20).contains(&words.len())).then(|| words.join(" "))
    })
}

async fn phrases_find_their_files(server: &Server, files: &BTreeMap<String, PathBuf>) {
    let markdown =
        files.iter().filter(|(title, _)| [".md", ".txt"].iter().any(|end| title.ends_with(end)));
    let mut phrases: HashMap<String, BTreeSet<&String>> = HashMap::new();
    for (title, path) in markdown {
        if let Some(phrase) = phrase(path) {
            phrases.entry(phrase).or_default().insert(title);
        }
    }
    let texts: Vec<String> = files
        .values()
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    // A phrase that half of the files share, wherever it stands in them, picks none of them out.
    let is_rare = |phrase: &str| texts.iter().filter(|text| text.contains(phrase)).count() <= 50;
    let mut phrases: Vec<_> = phrases
        .into_iter()
        .filter(|(phrase, titles)| titles.len() <= 3 && is_rare(phrase))
        .collect();
    phrases.sort();
    assert!(phrases.len() >= 20, "only {} phrases", phrases.len());
    let step = phrases.len() / 20;
    for (phrase, titles) in phrases.iter().step_by(step).take(20) {
        let query = format!("q=%22{}%22&size=100", phrase.replace(' ', "+"));
        let (status, found) = server.get(&format!("/search?{query}")).await;
        assert_eq!(status, 200, "{found}");
        let found: BTreeSet<_> = found["documents"]
            .as_array()
            .expect("hits")
            .iter()
            .filter_map(|hit| hit["title"].as_str())
            .collect();
        for title in titles {
            assert!(found.contains(title.as_str()), "{phrase:?} finds {found:?}, not {title}");
        }
    }
}

#[tokio::test]
async fn real_files_arrive_whole_are_found_and_never_twice() {
    let wanted = std::env::var("DMS_IMPORT_FILES").map_or(300, |n| n.parse().expect("a number"));
    let roots = sources(wanted);
    let files = expected_files(&roots);
    let all = files.len();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");

    // An import whose server dies in the middle; then one that ends, then one with nothing to do.
    let server = Server::start(&data);
    let address = server.http.to_string();
    let url = format!("http://{address}");
    let mut first = import_command(&url, &roots)
        // One at a time, so that the end is far when the server dies.
        .args(["--concurrency", "1"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    support::eventually("some of the files", async || {
        let (_, page) = server.get("/documents?limit=100").await;
        page["documents"].as_array().is_some_and(|found| found.len() > 20).then_some(())
    })
    .await;
    server.kill();
    let status = first.wait().expect("its end");
    assert!(!status.success(), "an import without a server can't succeed");

    let server = Server::start_on(&data, &address, &[]);
    let before = documents(&server).await.len();
    let (output, counts) = import(&url, &roots);
    assert!(output.status.success(), "{output:?}");
    let expected = format!("imported {} files", all - before);
    assert!(counts.starts_with(&expected), "{counts:?}, not {expected:?}");
    assert!(counts.ends_with(&format!("already there {before}, failed 0")), "{counts:?}");
    served_equals_disk(&server, &files).await;

    let (output, counts) = import(&url, &roots);
    assert!(output.status.success());
    assert!(counts.starts_with("imported 0 files"), "{counts}");
    assert!(counts.ends_with(&format!("already there {all}, failed 0")), "{counts}");
    served_equals_disk(&server, &files).await;

    server.search_until("size=0", all as u64).await;
    phrases_find_their_files(&server, &files).await;
    server.stores_agree(all);
    println!("{all} files imported, compared and searched");
}

#[tokio::test]
async fn what_cannot_be_taken_is_told_and_the_rest_is_imported() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("inbox");
    std::fs::create_dir(&root).expect("a folder");
    std::fs::write(root.join("good.md"), "# good").expect("a file");
    std::fs::write(root.join("empty.txt"), "").expect("a file");
    std::fs::write(root.join("large.txt"), vec![b'x'; 5000]).expect("a file");
    std::os::unix::fs::symlink("good.md", root.join("link.md")).expect("a link");
    std::fs::write(root.join("bad\u{7}name.txt"), "bell").expect("a file");
    let data = folder.path().join("data");
    let server = Server::start_with(&data, &[("DMS_MAX_CONTENT_BYTES", "4096")]);
    let output = run(dms().args(["import", "--url", &server.url("")]).arg(&root));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stdout.contains("imported 2 files"), "{stdout}");
    assert!(stdout.contains("failed 3"), "{stdout}");
    for (name, reason) in [("large.txt", "4096"), ("link.md", "link"), ("name.txt", "control")] {
        let told = stderr.lines().any(|line| line.contains(name) && line.contains(reason));
        assert!(told, "{name} isn't told with {reason:?}: {stderr}");
    }
    assert_eq!(documents(&server).await.len(), 2);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(folder.path().join("a.md"), "a").expect("a file");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}", nobody.local_addr().expect("its address"));
    drop(nobody);
    let output = run(dms().args(["import", "--url", &url]).arg(folder.path()));
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(69), "{stderr}");
    assert!(stderr.contains(&url) && stderr.contains("dms serve"), "{stderr}");
}

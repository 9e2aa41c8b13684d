//! Which files are imported, under which title and as what.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use ignore::overrides::{Override, OverrideBuilder};

/// How much of a file is looked at to tell text from other content.
const HEAD_BYTES: usize = 8 << 10;

/// Which files below the given paths are taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// Globs of which a file must match one, if there are any, such as `*.md`.
    pub include: Vec<String>,
    /// Globs of which a file must match none.
    pub exclude: Vec<String>,
    /// Whether files and folders whose names begin with a dot are taken.
    pub hidden: bool,
}

/// A file to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Where it is.
    pub path: PathBuf,
    /// Its path relative to the parent of what was named on the command line, with `/` between.
    pub title: String,
}

/// A path that can't be imported, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// The path.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// Walks `roots` in order, folders sorted by name. Links are not followed.
///
/// # Errors
/// A glob that can't be read, with its message.
pub fn walk(
    roots: &[PathBuf],
    selection: &Selection,
) -> Result<impl Iterator<Item = Result<Candidate, Refused>> + use<>, String> {
    let mut walks = Vec::with_capacity(roots.len());
    for root in roots {
        // `.` and `..` have no name of their own.
        let named = root.canonicalize().unwrap_or_else(|_| root.clone());
        let overrides = overrides(&named, selection)?;
        // A file that is named outright is taken whatever the selection says.
        let mut builder = WalkBuilder::new(&named);
        builder.standard_filters(false).hidden(!selection.hidden).follow_links(false);
        builder.overrides(overrides).sort_by_file_name(OsStr::cmp);
        let base = named.parent().map(Path::to_owned).unwrap_or_default();
        walks.push((builder.build(), base, named));
    }
    Ok(walks.into_iter().flat_map(|(walk, base, root)| {
        walk.filter_map(move |entry| candidate(entry, &base, &root))
    }))
}

fn overrides(root: &Path, selection: &Selection) -> Result<Override, String> {
    let mut builder = OverrideBuilder::new(root);
    for glob in &selection.include {
        builder.add(glob).map_err(|e| format!("--include {glob:?}: {e}"))?;
    }
    for glob in &selection.exclude {
        builder.add(&format!("!{glob}")).map_err(|e| format!("--exclude {glob:?}: {e}"))?;
    }
    builder.build().map_err(|e| e.to_string())
}

fn candidate(
    entry: Result<ignore::DirEntry, ignore::Error>,
    base: &Path,
    root: &Path,
) -> Option<Result<Candidate, Refused>> {
    let entry = match entry {
        Ok(entry) => entry,
        Err(error) => {
            let reason = error.io_error().map_or_else(|| error.to_string(), ToString::to_string);
            let path = path_of(&error).unwrap_or(root).to_owned();
            return Some(Err(Refused { path, reason }));
        }
    };
    let kind = entry.file_type()?;
    if kind.is_dir() {
        return None;
    }
    let path = entry.into_path();
    if !kind.is_file() {
        let reason = if kind.is_symlink() { "is a link" } else { "is not a regular file" };
        return Some(Err(Refused { path, reason: reason.into() }));
    }
    let relative = path.strip_prefix(base).unwrap_or(&path);
    let parts: Option<Vec<_>> = relative.iter().map(OsStr::to_str).collect();
    let Some(parts) = parts else {
        return Some(Err(Refused { path, reason: "name is not UTF-8".into() }));
    };
    let title = parts.join("/");
    Some(Ok(Candidate { path, title }))
}

fn path_of(error: &ignore::Error) -> Option<&Path> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => {
            path_of(err)
        }
        _ => None,
    }
}

/// The media type of a file by its name, corrected by its first bytes where these contradict.
///
/// # Errors
/// If the file can't be read.
pub fn guess_content_type(path: &Path) -> std::io::Result<String> {
    let mut head = Vec::with_capacity(HEAD_BYTES);
    File::open(path)?.take(HEAD_BYTES as u64).read_to_end(&mut head)?;
    Ok(content_type_of(path, &head))
}

fn content_type_of(path: &Path, head: &[u8]) -> String {
    let is_text = looks_like_text(head);
    let by_name = mime_guess::from_path(path).first();
    match by_name {
        // Extensions such as `.ts` mean a film to some and a program to others.
        Some(by_name) if is_text && matches!(by_name.type_().as_str(), "video" | "audio") => {
            "text/plain".into()
        }
        Some(by_name) => by_name.essence_str().to_owned(),
        None if is_text => "text/plain".into(),
        None => "application/octet-stream".into(),
    }
}

/// Whether the first bytes of a file are UTF-8 without NUL; its last character may be cut.
fn looks_like_text(head: &[u8]) -> bool {
    let valid = match std::str::from_utf8(head) {
        Ok(_) => true,
        Err(error) => error.error_len().is_none() && head.len() >= HEAD_BYTES,
    };
    valid && !head.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn titles(root: &Path, selection: &Selection) -> Vec<String> {
        walk(&[root.to_owned()], selection)
            .expect("globs that can be read")
            .map(|found| found.expect("a regular file").title)
            .collect()
    }

    fn tree() -> tempfile::TempDir {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("books");
        for name in ["b.md", "a/z.html", "a/y.txt", ".hidden/x.md", "c.bin"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            std::fs::write(path, name).expect("a file");
        }
        folder
    }

    #[test]
    fn titles_are_relative_to_what_was_named_and_sorted() {
        let folder = tree();
        let found = titles(&folder.path().join("books"), &Selection::default());
        assert_eq!(found, ["books/a/y.txt", "books/a/z.html", "books/b.md", "books/c.bin"]);
    }

    #[test]
    fn globs_and_hidden_files_are_chosen() {
        let folder = tree();
        let root = folder.path().join("books");
        let include =
            Selection { include: vec!["*.md".into()], hidden: true, ..Default::default() };
        assert_eq!(titles(&root, &include), ["books/.hidden/x.md", "books/b.md"]);
        let exclude = Selection { exclude: vec!["*.bin".into(), "a".into()], ..Default::default() };
        assert_eq!(titles(&root, &exclude), ["books/b.md"]);
    }

    #[test]
    fn a_single_file_is_taken_under_its_name() {
        let folder = tree();
        let found = titles(&folder.path().join("books/b.md"), &Selection::default());
        assert_eq!(found, ["b.md"]);
    }

    #[test]
    fn what_is_missing_or_a_link_is_refused_with_a_reason() {
        let folder = tree();
        let link = folder.path().join("books/link");
        std::os::unix::fs::symlink("b.md", &link).expect("a link");
        let missing = folder.path().join("nowhere");
        let refused: Vec<_> =
            walk(&[folder.path().join("books"), missing.clone()], &Selection::default())
                .expect("no globs")
                .filter_map(Result::err)
                .collect();
        assert_eq!(refused.len(), 2, "{refused:?}");
        assert_eq!(refused[0].reason, "is a link");
        assert_eq!(refused[1].path, missing);
    }

    #[test]
    fn content_contradicting_the_name_decides() {
        assert_eq!(content_type_of(Path::new("a.md"), b"# hi"), "text/markdown");
        assert_eq!(content_type_of(Path::new("a.html"), b"<p>"), "text/html");
        assert_eq!(content_type_of(Path::new("a.ts"), b"let x = 1;"), "text/plain");
        assert_eq!(content_type_of(Path::new("LICENSE"), b"MIT"), "text/plain");
        assert_eq!(content_type_of(Path::new("blob"), b"\0\x01"), "application/octet-stream");
        assert_eq!(content_type_of(Path::new("a.png"), b"\x89PNG"), "image/png");
    }
}

//! URLs of embedded backends: what they mean, and how to show one without its credentials.

use std::path::{Path, PathBuf};

use super::reader::{Given, shown};
use crate::StartupError;

/// Longest path in bytes; what operating systems accept as well.
const PATH_BYTES_MAX: usize = 4096;

/// The scheme of `url` in lower case, and what follows the colon.
pub(super) fn split(url: &str) -> Option<(String, &str)> {
    let (scheme, rest) = url.split_once(':')?;
    let starts = scheme.starts_with(|c: char| c.is_ascii_alphabetic());
    let named = scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
    (starts && named && scheme.len() <= 32).then(|| (scheme.to_ascii_lowercase(), rest))
}

/// A refusal that shows the URL without its credentials, and what is accepted instead.
pub(super) fn refuse(given: &Given, accepted: &str) -> StartupError {
    given.refuse(format!(
        "`{}` is not available, this build accepts {accepted}",
        redacted(&given.value)
    ))
}

/// The path that `rest`, the part after `sqlite:` or `file:`, names.
///
/// Everything after `//` is the path: `//dms-data/blobs` is relative to the working directory and
/// `///srv/blobs` is absolute; without slashes (`dms-data/blobs`, `/srv/blobs`) likewise. Percent
/// escapes are decoded. There are no hosts, parameters or fragments.
pub(super) fn path(given: &Given, rest: &str) -> Result<PathBuf, StartupError> {
    let refuse = |why: &str| given.refuse(format!("`{}` {why}", redacted(&given.value)));
    let written = rest.strip_prefix("//").unwrap_or(rest);
    if written.contains(['?', '#']) {
        return Err(refuse("takes no parameters; write ? as %3F and # as %23 in a path"));
    }
    if written == "localhost" || written.starts_with("localhost/") {
        return Err(refuse(
            "names a host; an absolute path has three slashes, as in file:///srv/dms",
        ));
    }
    if written.split_once(':').is_some_and(|(_, after)| after.contains('@')) {
        return Err(refuse(
            "may hold a password, which a path has none of; write : as %3A in a path",
        ));
    }
    if written.starts_with('~') {
        return Err(refuse("starts with ~, which only a shell understands; write the path out"));
    }
    let path = percent_decoded(written)
        .ok_or_else(|| refuse("has a percent escape that is not text; write % as %25"))?;
    if path.is_empty() || path == ":memory:" {
        return Err(refuse("names no path"));
    }
    if path.len() > PATH_BYTES_MAX || path.contains('\0') {
        return Err(refuse("is not a path"));
    }
    Ok(PathBuf::from(path))
}

/// Whether one path is the other or lies in it, as far as their spelling tells.
pub(super) fn overlap(one: &Path, other: &Path) -> bool {
    let (one, other) = (normal(one), normal(other));
    one.starts_with(&other) || other.starts_with(&one)
}

/// `path` without `.`; it may not exist yet, so links stay as they are.
pub(super) fn normal(path: &Path) -> PathBuf {
    path.components().filter(|part| !matches!(part, std::path::Component::CurDir)).collect()
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            let value = digit(rest.next()?)? * 16 + digit(rest.next()?)?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// `url` for a message: on one line, of bounded length and without anything that can be a password.
///
/// Whatever stands before the last `@` is left out (a password may hold any character), as are
/// parameters, and text that isn't a URL or a plain path.
pub(super) fn redacted(url: &str) -> String {
    let Some((scheme, rest)) = split(url) else {
        let plain = |c: char| c.is_alphanumeric() || "/._-~\\".contains(c);
        return if url.chars().all(plain) { shown(url) } else { "[redacted]".to_owned() };
    };
    let (slashes, rest) = match rest.strip_prefix("//") {
        Some(rest) => ("//", rest),
        None => ("", rest),
    };
    let (credentials, rest) = match rest.rsplit_once('@') {
        Some((_, rest)) => ("[redacted]@", rest),
        None => ("", rest),
    };
    let (rest, parameters) = match rest.find(['?', '#']) {
        Some(at) => (&rest[..at], "?[redacted]"),
        None => (rest, ""),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    let is_path = ["file", "sqlite", "memory"].contains(&scheme.as_str()) && credentials.is_empty();
    let rest = if (slashes.is_empty() && !is_path) || !ports_are_numbers(authority) {
        "[redacted]".to_owned()
    } else {
        shown(rest)
    };
    format!("{scheme}:{slashes}{credentials}{rest}{parameters}")
}

/// Whether what follows each colon is a port rather than a password whose host is missing.
pub(super) fn ports_are_numbers(authority: &str) -> bool {
    authority.split(',').all(|host| {
        let after_address = host.rsplit_once(']').map_or(host, |(_, rest)| rest);
        after_address
            .split_once(':')
            .is_none_or(|(_, port)| port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path_of(url: &str) -> Result<PathBuf, String> {
        let (_, rest) = split(url).expect("a scheme");
        let given = Given { value: url.to_owned(), origin: "DMS_STORAGE_URL".to_owned() };
        path(&given, rest).map_err(|error| error.report())
    }

    #[test]
    fn two_slashes_are_relative_and_three_absolute() {
        for (url, expected) in [
            ("sqlite://dms-data/dms.db", "dms-data/dms.db"),
            ("sqlite:dms-data/dms.db", "dms-data/dms.db"),
            ("sqlite://./dms.db", "./dms.db"),
            ("sqlite://../dms.db", "../dms.db"),
            ("sqlite:///abs/dms.db", "/abs/dms.db"),
            ("sqlite:/abs/dms.db", "/abs/dms.db"),
            ("file:///var/my%20data", "/var/my data"),
            ("file://a%3Fb%23c%25d", "a?b#c%d"),
            ("file://ä/ö", "ä/ö"),
        ] {
            assert_eq!(path_of(url), Ok(PathBuf::from(expected)), "{url}");
        }
    }

    #[test]
    fn what_is_not_a_path_is_refused() {
        for url in [
            "file:",
            "file://",
            "sqlite::memory:",
            "sqlite://:memory:",
            "file://localhost/srv",
            "file://user:hunter2@host/srv",
            "sqlite://user:hunter2/a@b/dms.db",
            "file://~/data",
            "file://data?mode=rw",
            "file://data#1",
            "file://100%",
            "file://%zz",
            "file://%ff",
            "file://a%00b",
        ] {
            let error = path_of(url).expect_err(url);
            assert!(error.starts_with("DMS_STORAGE_URL: "), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn credentials_never_show() {
        for url in [
            "postgres://user:hunter2@host:5432/db",
            "postgres://user:hun/ter?2@hunter2@host/db",
            "postgres://host/db?user=a&password=hunter2",
            "postgres://user:hunter2",
            "redis://:hunter2@host",
            "redis://:hunter2/0",
            "kafka://a:hunter2@one:9092,b:hunter2@two:9092",
            "s3://key:hunter2@bucket/path#hunter2",
            "host=db user=a password=hunter2",
            "user:hunter2@host/db",
            "redis:hunter2@host",
            "postgres:hunter2",
        ] {
            let text = redacted(url);
            assert!(!text.contains("hunter2"), "{url} shows as {text}");
            assert!(!text.contains('\n'));
        }
    }

    #[test]
    fn what_is_no_credential_stays_readable() {
        for url in [
            "s3://bucket/path",
            "kafka://one:9092,two:9092",
            "redis://[::1]:6379/0",
            "dms-data/dms.db",
        ] {
            assert_eq!(redacted(url), url);
        }
        assert_eq!(redacted("postgres://u:p@host:5432/db"), "postgres://[redacted]@host:5432/db");
    }

    #[test]
    fn a_shown_url_is_one_line_of_bounded_length() {
        let text = redacted(&format!("ftp://host/a\nb{}", "x".repeat(10_000)));
        assert!(!text.contains('\n') && text.chars().count() < 200, "{text}");
    }

    #[test]
    fn paths_overlap_when_one_lies_in_the_other() {
        let overlap = |one: &str, other: &str| super::overlap(Path::new(one), Path::new(other));
        assert!(overlap("data", "./data"));
        assert!(overlap("/data", "/data/index"));
        assert!(overlap("/data/blobs/", "/data/./blobs"));
        assert!(!overlap("/data/blobs", "/data/blobs2"));
    }
}

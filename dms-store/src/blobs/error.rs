//! Errors of the file system as error kinds.

use std::io;

use dms_core::{Error, ErrorKind};

/// Name of the dependency in errors and readiness.
const STORAGE: &str = "storage";

/// The error of an operation that the file system refused.
pub(super) fn from_io(message: &'static str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Error::new(ErrorKind::StorageFull, "no space left for content").with_source(error)
        }
        _ => unavailable(message).with_source(error),
    }
}

/// The store can't do what was asked, for now.
pub(super) fn unavailable(message: &'static str) -> Error {
    Error::unavailable(STORAGE, message)
}

/// The key is taken.
pub(super) fn already_exists() -> Error {
    Error::new(ErrorKind::Conflict, "there is a blob with this key").with_code("already_exists")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_and_a_used_up_quota_are_told_from_a_broken_one() {
        let kind = |code| from_io("m", io::Error::from_raw_os_error(code)).kind();
        let (io_error, no_space, quota) = (5, 28, 122);
        if cfg!(target_os = "linux") {
            assert_eq!(kind(no_space), ErrorKind::StorageFull);
            assert_eq!(kind(quota), ErrorKind::StorageFull);
            assert_eq!(kind(io_error), ErrorKind::Unavailable);
        }
    }
}

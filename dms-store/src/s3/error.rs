//! Errors of S3 as error kinds.

use dms_core::{Error, ErrorKind};
use object_store::Error as S3Error;

/// Name of the dependency in errors and readiness.
const STORAGE: &str = "storage";

/// The store can't do what was asked, for now.
pub(super) fn unavailable(message: &'static str) -> Error {
    Error::unavailable(STORAGE, message)
}

/// The error of a request that failed.
pub(super) fn from_s3(message: &'static str, error: S3Error) -> Error {
    // The answer is only to be had as a part of what the error says.
    let answer = error.to_string();
    if is_full(&answer) {
        return Error::new(ErrorKind::StorageFull, "no space left for content").with_source(error);
    }
    let message =
        if answer.contains("<Code>NoSuchBucket</Code>") { "bucket isn't there" } else { message };
    unavailable(message).with_source(error)
}

fn is_full(answer: &str) -> bool {
    ["507 Insufficient Storage", "<Code>XMinioStorageFull<", "<Code>QuotaExceeded<"]
        .iter()
        .chain(&["<Code>XMinioAdminBucketQuotaExceeded<"])
        .any(|sign| answer.contains(sign))
}

/// Whether an error says that there is no object, though there is a bucket.
pub(super) fn is_absent(error: &S3Error) -> bool {
    matches!(error, S3Error::NotFound { .. })
        && !error.to_string().contains("<Code>NoSuchBucket</Code>")
}

/// Whether the bucket isn't there.
pub(super) fn is_bucket_absent(error: &S3Error) -> bool {
    error.to_string().contains("<Code>NoSuchBucket</Code>")
}

/// Whether an error says that there is an object already.
pub(super) fn is_taken(error: &S3Error) -> bool {
    matches!(
        error,
        S3Error::AlreadyExists { .. } | S3Error::Precondition { .. } | S3Error::NotModified { .. }
    )
}

/// The key is taken.
pub(super) fn already_exists() -> Error {
    Error::new(ErrorKind::Conflict, "there is a blob with this key").with_code("already_exists")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_is_told_from_a_broken_one() {
        let kind = |answer: &str| {
            let source = answer.to_owned().into();
            from_s3("m", S3Error::Generic { store: "S3", source }).kind()
        };
        assert_eq!(kind("status code: 507 Insufficient Storage: "), ErrorKind::StorageFull);
        assert_eq!(kind("<Error><Code>XMinioStorageFull</Code>"), ErrorKind::StorageFull);
        assert_eq!(kind("<Error><Code>QuotaExceeded</Code>"), ErrorKind::StorageFull);
        assert_eq!(kind("500 Internal Server Error"), ErrorKind::Unavailable);
        assert_eq!(kind("<Error><Code>NoSuchBucket</Code>"), ErrorKind::Unavailable);
    }
}

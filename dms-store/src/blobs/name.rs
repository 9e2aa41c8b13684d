//! Names of files.
//!
//! A blob is one file in the root: its name is the key with a comma for each `/`. No key has a comma,
//! so each key has one name and each name at most one key. To a shell a comma means nothing, outside
//! of braces. It comes before all that words are made of, so that sorted names are sorted word by word:
//! what begins with the same words is together.

use std::path::{Path, PathBuf};

use dms_core::ports::check_blob_key;

/// Where the file of a blob is.
pub(super) fn path_of(root: &Path, key: &str) -> PathBuf {
    root.join(key.replace('/', ","))
}

/// The key of the blob whose file has this name; none if that is no name of a blob.
pub(super) fn key_of(name: &str) -> Option<String> {
    let key = name.replace(',', "/");
    // A slash can't be in the name of a file.
    (check_blob_key(&key).is_ok() && !name.contains('/')).then_some(key)
}

#[cfg(test)]
mod tests {
    use std::cmp::Ordering;

    use proptest::prelude::*;

    use super::*;

    fn name_of(key: &str) -> String {
        let path = path_of(Path::new("root"), key);
        assert_eq!(path.parent(), Some(Path::new("root")), "one file in the root");
        path.file_name().unwrap().to_str().unwrap().to_owned()
    }

    fn keys() -> impl Strategy<Value = String> {
        prop::collection::vec("[A-Za-z0-9_-][A-Za-z0-9_.-]{0,12}", 1..8)
            .prop_map(|words| words.join("/"))
    }

    #[test]
    fn a_key_is_told_by_its_name() {
        assert_eq!(name_of("an-id/content"), "an-id,content");
        assert_eq!(key_of("an-id,content").as_deref(), Some("an-id/content"));
        assert_eq!(key_of("plain").as_deref(), Some("plain"));
        for other in [".staging", ",x", "x,", "x,,y", "x,.y", "lost+found", "x y", "x~", "x/y", ""]
        {
            assert_eq!(key_of(other), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_a_name_of_its_own_sorted_by_words(key in keys(), other in keys()) {
            prop_assert!(check_blob_key(&key).is_ok());
            let (name, another) = (name_of(&key), name_of(&other));
            prop_assert_eq!(key_of(&name), Some(key.clone()));
            prop_assert!(name.len() <= 255);
            let by_words: Ordering = key.split('/').cmp(other.split('/'));
            prop_assert_eq!(name.cmp(&another), by_words);
        }

        #[test]
        fn every_name_that_has_a_key_is_that_key_s(name in "[a-c.,/ ]{0,8}") {
            if let Some(key) = key_of(&name) {
                prop_assert_eq!(name_of(&key), name);
            }
        }
    }
}

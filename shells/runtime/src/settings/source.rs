//! Where settings that aren't on the command line come from.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;

/// Named values: the process environment, or a map that stands in for it.
pub trait Source {
    /// The value of the variable `name`, if it is set.
    fn get(&self, name: &str) -> Option<OsString>;

    /// The names of all variables that are set, in any order. Names that aren't text are left out.
    fn names(&self) -> Vec<String>;
}

/// The environment of this process.
#[derive(Debug, Clone, Copy, Default)]
pub struct ProcessEnvironment;

impl Source for ProcessEnvironment {
    fn get(&self, name: &str) -> Option<OsString> {
        std::env::var_os(name)
    }

    fn names(&self) -> Vec<String> {
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect()
    }
}

impl<K: std::borrow::Borrow<str> + Ord, V: Clone + Into<OsString>> Source for BTreeMap<K, V> {
    fn get(&self, name: &str) -> Option<OsString> {
        self.get(name).cloned().map(Into::into)
    }

    fn names(&self) -> Vec<String> {
        self.keys().map(|name| name.borrow().to_owned()).collect()
    }
}

impl<K, V, S> Source for HashMap<K, V, S>
where
    K: std::borrow::Borrow<str> + Eq + std::hash::Hash,
    V: Clone + Into<OsString>,
    S: std::hash::BuildHasher,
{
    fn get(&self, name: &str) -> Option<OsString> {
        self.get(name).cloned().map(Into::into)
    }

    fn names(&self) -> Vec<String> {
        self.keys().map(|name| name.borrow().to_owned()).collect()
    }
}

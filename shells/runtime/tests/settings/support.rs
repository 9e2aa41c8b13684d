//! Reading settings, and what comes of it.

use std::collections::BTreeMap;

use dms_runtime::settings::Backends;
use dms_runtime::{ExitStatus, Program, SettingFlags, Settings};

pub(crate) const PROGRAM: Program = Program {
    name: "dms",
    version: "1.2.3",
    http_port: 8000,
    grpc_port: Some(50051),
    backends: Backends::EMBEDDED,
};

pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";
pub(crate) const PEM: &str =
    "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEA\n-----END PUBLIC KEY-----";

pub(crate) fn environment(pairs: &[(&'static str, &str)]) -> BTreeMap<&'static str, String> {
    pairs.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

pub(crate) fn read(pairs: &[(&'static str, &str)]) -> Result<Settings, String> {
    read_with(&SettingFlags::default(), pairs)
}

pub(crate) fn read_with(
    flags: &SettingFlags,
    pairs: &[(&'static str, &str)],
) -> Result<Settings, String> {
    Settings::read(&PROGRAM, flags, &environment(pairs)).map_err(|error| {
        assert_eq!(error.exit(), ExitStatus::Usage);
        assert_eq!(error.exit().code(), 64);
        let report = error.report();
        assert_eq!(report.lines().count(), 1, "{report}");
        report
    })
}

pub(crate) fn good(pairs: &[(&'static str, &str)]) -> Settings {
    read(pairs).unwrap_or_else(|error| panic!("{pairs:?} is refused: {error}"))
}

/// The settings are refused with a line that holds every one of `words`.
pub(crate) fn refused(pairs: &[(&'static str, &str)], words: &[&str]) {
    let error = read(pairs).err().unwrap_or_else(|| panic!("{pairs:?} is accepted"));
    for word in words {
        assert!(error.contains(word), "{word} is missing in: {error}");
    }
}

//! What an operator gives: variables.

use std::collections::BTreeMap;

use dms_runtime::settings::{self as all_settings, Backends, Setting};
use dms_runtime::{ExitStatus, Program, SettingFlags, Settings};

const PROGRAM: Program = Program {
    name: "dms",
    version: "1.2.3",
    http_port: 8000,
    grpc_port: Some(50051),
    backends: Backends { document_service: true, ..Backends::ALL },
};

/// Stands in the input where a secret is to be.
const PLACE: &str = "$SECRET";
const SECRET: &str = "hunter2-that-nobody-may-see-in-any-log";

/// Lines of `NAME=VALUE`. Settings are read, or refused with one line of bounded length; neither ever
/// shows a password.
pub fn settings(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let mut given: BTreeMap<&'static str, String> = BTreeMap::new();
    for (name, value) in text.split('\n').filter_map(|line| line.split_once('=')) {
        // Only the settings themselves: others would read files.
        if let Some(setting) = all_settings::all().find(|setting| setting.name == name) {
            given.insert(setting.name, with_secret(&setting, value));
        }
    }
    match Settings::read(&PROGRAM, &SettingFlags::default(), &given) {
        Ok(settings) => {
            let shown = format!("{settings:?}");
            assert!(!shown.contains(SECRET), "{shown}");
        }
        Err(error) => {
            assert_eq!(error.exit(), ExitStatus::Usage);
            let report = error.report();
            assert!(!report.contains(SECRET), "{report}");
            assert!(!report.contains(char::is_control), "{report:?}");
            assert!(report.chars().count() < 2_000, "{report}");
        }
    }
}

/// Puts the secret where one may be: anywhere in what is secret as a whole, and as the password of a
/// URL.
fn with_secret(setting: &Setting, value: &str) -> String {
    match setting.name {
        "DMS_JWT_SECRET" | "DMS_SERVICE_TOKEN" | "AWS_SECRET_ACCESS_KEY" | "AWS_ACCESS_KEY_ID" => {
            value.replace(PLACE, SECRET)
        }
        name if name.ends_with("_URL") => match value.split_once(PLACE) {
            Some((before, after)) if is_before_password(before) && after.contains('@') => {
                format!("{before}{SECRET}{after}")
            }
            _ => value.to_owned(),
        },
        _ => value.to_owned(),
    }
}

/// Whether it is a scheme and a user.
fn is_before_password(text: &str) -> bool {
    text.split_once("://")
        .is_some_and(|(_, user)| user.contains(':') && !user.contains(['/', '?', '#']))
}

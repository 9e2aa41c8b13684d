//! What is known about a setting before anybody gives it a value.

/// One setting: an environment variable, and the command-line option of the same name.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The variable, `DMS_HTTP_ADDR`.
    pub name: &'static str,
    /// Heading it stands under in `--help`.
    pub heading: &'static str,
    /// What a value is called in `--help`.
    pub value_name: &'static str,
    /// What applies if it isn't given, in words for `--help`.
    pub default: &'static str,
    /// What it decides: one short line, then details after an empty line.
    pub help: &'static str,
    /// Whether it can be read from a file that `NAME_FILE` names.
    pub from_file: bool,
}

impl Setting {
    /// The option without dashes: `http-addr` for `DMS_HTTP_ADDR`.
    pub fn option(&self) -> String {
        self.name.trim_start_matches("DMS_").to_ascii_lowercase().replace('_', "-")
    }

    /// The variable that names a file to read the value from, if there may be one.
    pub fn file_name(&self) -> Option<String> {
        self.from_file.then(|| format!("{}_FILE", self.name))
    }

    /// The option that names such a file.
    pub fn file_option(&self) -> Option<String> {
        self.from_file.then(|| format!("{}-file", self.option()))
    }
}

//! Looks a setting up: options over variables, and secrets from files.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::SettingFlags;
use super::setting::Setting;
use super::source::Source;
use crate::{Secret, StartupError};

/// A secret's file is read up to this size.
const SECRET_FILE_BYTES_MAX: u64 = 64 * 1024;

/// Characters of a refused value that an error shows.
const SHOWN_CHARS_MAX: usize = 120;

/// A value and where it was given, for messages.
#[derive(Debug)]
pub(super) struct Given<T = String> {
    pub(super) value: T,
    pub(super) origin: String,
}

impl<T> Given<T> {
    /// A refusal that names where the value was given.
    pub(super) fn refuse(&self, why: impl AsRef<str>) -> StartupError {
        StartupError::usage(format!("{}: {}", self.origin, why.as_ref()))
    }
}

impl Given {
    /// A refusal that shows the value; never for secrets or URLs.
    pub(super) fn refuse_value(&self, expected: &str) -> StartupError {
        self.refuse(format!("`{}` is not acceptable, expected {expected}", shown(&self.value)))
    }
}

/// `text` on one line and of bounded length.
pub(super) fn shown(text: &str) -> String {
    let mut shown: String = text.escape_debug().take(SHOWN_CHARS_MAX).collect();
    if text.escape_debug().nth(SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Reads settings from options first and a source second.
pub(super) struct Reader<'a> {
    flags: &'a SettingFlags,
    source: &'a dyn Source,
}

impl<'a> Reader<'a> {
    pub(super) fn new(flags: &'a SettingFlags, source: &'a dyn Source) -> Self {
        Self { flags, source }
    }

    /// The value of a setting, without white space at its ends. A variable that is set to nothing
    /// counts as unset (compose files do that); an option that is given nothing is refused.
    pub(super) fn text(&self, setting: &Setting) -> Result<Option<Given>, StartupError> {
        let option = setting.option();
        if let Some(raw) = self.flags.get(&option) {
            let origin = option_origin(&option, setting.name);
            let given = trimmed(text(raw.clone(), origin)?);
            return if given.value.is_empty() {
                Err(given.refuse("is empty"))
            } else {
                Ok(Some(given))
            };
        }
        let Some(raw) = self.source.get(setting.name) else { return Ok(None) };
        let given = trimmed(text(raw, setting.name.to_owned())?);
        Ok((!given.value.is_empty()).then_some(given))
    }

    /// The value of a setting that may stand in a file. Options go before variables as a pair:
    /// `--jwt-secret-file` wins over `DMS_JWT_SECRET`. Within a pair only one may be given.
    pub(super) fn secret(&self, setting: &Setting) -> Result<Option<Given<Secret>>, StartupError> {
        let (Some(file_option), Some(file_name)) = (setting.file_option(), setting.file_name())
        else {
            return Ok(self.text(setting)?.map(conceal));
        };
        let option = setting.option();
        let value = self.flags.get(&option).cloned();
        let path = self.flags.get(&file_option).cloned();
        if value.is_some() || path.is_some() {
            return chosen(
                value.map(|raw| (raw, option_origin(&option, setting.name))),
                path.map(|raw| (raw, option_origin(&file_option, &file_name))),
            );
        }
        let set = |name: &str| self.source.get(name).filter(|raw| !raw.is_empty());
        chosen(
            set(setting.name).map(|raw| (raw, setting.name.to_owned())),
            set(&file_name).map(|raw| (raw, file_name.clone())),
        )
    }
}

fn option_origin(option: &str, name: &str) -> String {
    format!("--{option} ({name})")
}

fn conceal(given: Given) -> Given<Secret> {
    Given { value: Secret::new(given.value), origin: given.origin }
}

fn text(raw: OsString, origin: String) -> Result<Given, StartupError> {
    match raw.into_string() {
        Ok(value) => Ok(Given { value, origin }),
        Err(_) => Err(StartupError::usage(format!("{origin}: is not valid UTF-8"))),
    }
}

fn trimmed(given: Given) -> Given {
    Given { value: given.value.trim().to_owned(), origin: given.origin }
}

type Raw = (OsString, String);

fn chosen(value: Option<Raw>, path: Option<Raw>) -> Result<Option<Given<Secret>>, StartupError> {
    match (value, path) {
        (Some((_, value)), Some((_, path))) => {
            Err(StartupError::usage(format!("{value} and {path} are both given, leave one out")))
        }
        (Some((raw, origin)), None) => {
            let given = text(raw, origin)?;
            if given.value.is_empty() {
                return Err(given.refuse("is empty"));
            }
            Ok(Some(conceal(given)))
        }
        (None, Some((raw, origin))) => from_file(Path::new(&raw), origin).map(Some),
        (None, None) => Ok(None),
    }
}

/// Reads a secret. One line ending at the end is left out, since editors and `echo` add it.
fn from_file(path: &Path, origin: String) -> Result<Given<Secret>, StartupError> {
    let refuse = |why: &str| {
        StartupError::usage(format!("{origin}: the file {} {why}", shown(&path.to_string_lossy())))
    };
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(SECRET_FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| refuse("cannot be read").with_source(error))?;
    if bytes.len() as u64 > SECRET_FILE_BYTES_MAX {
        return Err(refuse("is larger than 64 KiB"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| refuse("is not text (UTF-8)"))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(refuse("is empty"));
    }
    Ok(Given { value: Secret::new(text), origin })
}

//! The command-line options of all settings.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;

use clap::builder::ValueParser;
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::setting::Setting;

/// What was given for settings on the command line; `Debug` shows names only.
///
/// Flatten it into a clap struct. Values are kept as given: they are judged together with the
/// variables, by [`Settings::read`](super::Settings::read).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct SettingFlags(BTreeMap<String, OsString>);

impl SettingFlags {
    /// The same, with `option` (without dashes) given as `value`.
    #[must_use]
    pub fn with(mut self, option: &str, value: impl Into<OsString>) -> Self {
        self.0.insert(option.to_owned(), value.into());
        self
    }

    /// These, and those of `outer` that aren't given here: options may stand before or after a
    /// subcommand.
    #[must_use]
    pub fn or(mut self, outer: &Self) -> Self {
        for (option, value) in &outer.0 {
            self.0.entry(option.clone()).or_insert_with(|| value.clone());
        }
        self
    }

    pub(super) fn get(&self, option: &str) -> Option<&OsString> {
        self.0.get(option)
    }
}

impl fmt::Debug for SettingFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        super::all().fold(command, |command, setting| command.args(arguments(&setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in super::all() {
            for option in [Some(setting.option()), setting.file_option()].into_iter().flatten() {
                // an option can be missing from a program that has no use for it
                if let Ok(Some(value)) = matches.try_get_one::<OsString>(&option) {
                    self.0.insert(option, value.clone());
                }
            }
        }
        Ok(())
    }
}

/// The option of a setting, and the one that names its file.
pub(crate) fn arguments(setting: &Setting) -> Vec<Arg> {
    let first_line = setting.help.lines().next().unwrap_or_default();
    let option = setting.option();
    let mut arguments = vec![
        argument(option.clone(), setting.value_name, setting)
            .help(first_line)
            .long_help(long_help(setting, setting.default)),
    ];
    if let (Some(file_option), Some(file_name)) = (setting.file_option(), setting.file_name()) {
        arguments.push(
            argument(file_option, "PATH", setting)
                .help(format!("File to read --{option} from"))
                .long_help(format!("File to read --{option} from\n\n[env: {file_name}]")),
        );
    }
    arguments
}

pub(crate) fn long_help(setting: &Setting, default: &str) -> String {
    format!("{}\n\n[env: {}]\n[default: {default}]", setting.help, setting.name)
}

fn argument(option: String, value_name: &'static str, setting: &Setting) -> Arg {
    Arg::new(option.clone())
        .long(option)
        .value_name(value_name)
        .help_heading(setting.heading)
        .action(ArgAction::Set)
        .value_parser(ValueParser::os_string())
}

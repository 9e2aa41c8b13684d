//! Why a program stops before it serves, and the status it leaves with.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::Path;

use dms_core::{Error, ErrorChain, ErrorKind};

/// Exit status of a program, after BSD's `sysexits.h`, so that an init system can tell a mistake
/// that needs a person from trouble that passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ExitStatus {
    /// 0: everything went as asked.
    Success,
    /// 1: the answer is no; `healthcheck` found the service not ready.
    Failure,
    /// 64 (`EX_USAGE`): a setting or argument can't be used as given. Starting again won't help.
    Usage,
    /// 69 (`EX_UNAVAILABLE`): something the program depends on can't be reached.
    Unavailable,
    /// 70 (`EX_SOFTWARE`): a defect.
    Software,
    /// 73 (`EX_CANTCREAT`): a directory or file can't be created or written.
    CannotCreate,
    /// 74 (`EX_IOERR`): reading or writing failed, or the disk is full.
    InputOutput,
    /// 75 (`EX_TEMPFAIL`): somebody else holds what is needed (an address, the data directory);
    /// starting later can succeed.
    Temporary,
    /// 77 (`EX_NOPERM`): the operating system doesn't allow it.
    NotPermitted,
    /// 78 (`EX_CONFIG`): the settings are readable and don't fit what is there, for instance a
    /// database with an older schema while migrations are off.
    Configuration,
}

impl ExitStatus {
    /// The number the process exits with.
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 64,
            Self::Unavailable => 69,
            Self::Software => 70,
            Self::CannotCreate => 73,
            Self::InputOutput => 74,
            Self::Temporary => 75,
            Self::NotPermitted => 77,
            Self::Configuration => 78,
        }
    }
}

impl From<ExitStatus> for std::process::ExitCode {
    fn from(status: ExitStatus) -> Self {
        Self::from(status.code())
    }
}

/// Why the program can't start.
///
/// `Display` is one line that says which setting is concerned and what to do; the cause is kept as
/// the source. [`report`](Self::report) joins both.
#[derive(Debug)]
pub struct StartupError {
    exit: ExitStatus,
    message: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl StartupError {
    /// An error that ends the program with `exit`.
    pub fn new(exit: ExitStatus, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), source: None }
    }

    /// [`ExitStatus::Usage`]: a setting that can't be used as given.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(ExitStatus::Usage, message)
    }

    /// A file or directory that can't be used: `action` is what was tried (`create`, `write to`),
    /// `setting` the variable that decides on the path.
    pub fn from_path(setting: &str, action: &str, path: &Path, error: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let path = path.display();
        let (exit, advice) = match error.kind() {
            Kind::PermissionDenied => (
                ExitStatus::CannotCreate,
                "give the user this program runs as access to it, or choose another path",
            ),
            Kind::ReadOnlyFilesystem => {
                (ExitStatus::CannotCreate, "the file system is read-only, choose another path")
            }
            Kind::NotADirectory | Kind::AlreadyExists => (
                ExitStatus::CannotCreate,
                "a file is in the way of a directory, choose another path",
            ),
            Kind::StorageFull | Kind::QuotaExceeded => {
                (ExitStatus::InputOutput, "free space, or choose another path")
            }
            Kind::NotFound | Kind::InvalidInput | Kind::InvalidFilename => {
                (ExitStatus::CannotCreate, "choose another path")
            }
            _ => (ExitStatus::InputOutput, "see to the disk, or choose another path"),
        };
        Self::new(exit, format!("{setting}: cannot {action} {path}; {advice}")).with_source(error)
    }

    /// An address that can't be listened on; `setting` is the variable that decides on it.
    pub fn from_bind(setting: &str, address: std::net::SocketAddr, error: io::Error) -> Self {
        let (exit, advice) = match error.kind() {
            io::ErrorKind::AddrInUse => (
                ExitStatus::Temporary,
                "another program listens there: stop it, or choose another port",
            ),
            io::ErrorKind::AddrNotAvailable => {
                (ExitStatus::Usage, "this machine does not have that address: choose one it has")
            }
            io::ErrorKind::PermissionDenied => (
                ExitStatus::NotPermitted,
                "ports below 1024 need a privilege: choose a higher port, or grant it",
            ),
            _ => (ExitStatus::InputOutput, "choose another address"),
        };
        Self::new(exit, format!("{setting}: cannot listen on {address}; {advice}"))
            .with_source(error)
    }

    /// A part of the program that couldn't be brought up; `what` names it, for instance `database`.
    ///
    /// Trouble that passes is [`ExitStatus::Unavailable`], a full disk [`ExitStatus::InputOutput`], a
    /// defect [`ExitStatus::Software`], anything else [`ExitStatus::Configuration`].
    pub fn from_part(what: &str, error: Error) -> Self {
        let exit = match error.kind() {
            ErrorKind::Unavailable | ErrorKind::Timeout => ExitStatus::Unavailable,
            ErrorKind::StorageFull => ExitStatus::InputOutput,
            ErrorKind::Internal => ExitStatus::Software,
            _ => ExitStatus::Configuration,
        };
        Self::new(exit, format!("{what} cannot be opened")).with_source(error)
    }

    /// Keeps the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The status to leave with.
    pub fn exit(&self) -> ExitStatus {
        self.exit
    }

    /// The message with its causes on one line, for standard error.
    pub fn report(&self) -> String {
        let chain = ErrorChain(self).to_string();
        chain
            .split(['\r', '\n'])
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl fmt::Display for StartupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for StartupError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io_error(kind: io::ErrorKind) -> io::Error {
        io::Error::new(kind, "cause")
    }

    #[test]
    fn each_kind_of_path_trouble_has_its_status() {
        let exit = |kind| {
            StartupError::from_path("DMS_DATA_DIR", "create", Path::new("/data"), io_error(kind))
                .exit()
        };
        assert_eq!(exit(io::ErrorKind::PermissionDenied).code(), 73);
        assert_eq!(exit(io::ErrorKind::NotADirectory).code(), 73);
        assert_eq!(exit(io::ErrorKind::ReadOnlyFilesystem).code(), 73);
        assert_eq!(exit(io::ErrorKind::StorageFull).code(), 74);
        assert_eq!(exit(io::ErrorKind::Other).code(), 74);
    }

    #[test]
    fn each_kind_of_address_trouble_has_its_status() {
        let exit = |kind| {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80));
            StartupError::from_bind("DMS_HTTP_ADDR", address, io_error(kind)).exit()
        };
        assert_eq!(exit(io::ErrorKind::AddrInUse).code(), 75);
        assert_eq!(exit(io::ErrorKind::AddrNotAvailable).code(), 64);
        assert_eq!(exit(io::ErrorKind::PermissionDenied).code(), 77);
    }

    #[test]
    fn a_part_that_fails_keeps_whether_trouble_passes() {
        let exit = |error| StartupError::from_part("database", error).exit().code();
        assert_eq!(exit(Error::unavailable("database", "no answer")), 69);
        assert_eq!(exit(Error::new(ErrorKind::StorageFull, "full")), 74);
        assert_eq!(exit(Error::internal("corrupt")), 70);
        assert_eq!(exit(Error::new(ErrorKind::Conflict, "older schema")), 78);
    }

    #[test]
    fn the_report_is_one_line_with_every_cause() {
        let cause = Error::unavailable("database", "no\nanswer")
            .with_source(io_error(io::ErrorKind::Other));
        let report = StartupError::from_part("database", cause).report();
        assert_eq!(report, "database cannot be opened: no answer: cause");
    }
}

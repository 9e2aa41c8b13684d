//! What is logged, and how.

use tracing_subscriber::EnvFilter;

use super::reader::Reader;
use super::setting::Setting;
use crate::StartupError;

const HEADING: &str = "What it logs";

/// Libraries that say more than anybody reads; a directive that names one wins.
const QUIET: &str = "tantivy=warn,sqlx=warn,hyper=warn,h2=warn,pg_walstream=warn";

/// `DMS_LOG`: how much is logged.
pub const LOG: Setting = Setting {
    name: "DMS_LOG",
    heading: HEADING,
    value_name: "LEVEL",
    default: "info",
    help: "How much is logged, to standard error\n\n\
        error, warn, info, debug or trace; or directives for single parts, for instance \
        info,dms_search=debug. Libraries that talk a lot stay at warn unless they are named.",
    from_file: false,
};

/// `DMS_LOG_FORMAT`: what log lines look like.
pub const LOG_FORMAT: Setting = Setting {
    name: "DMS_LOG_FORMAT",
    heading: HEADING,
    value_name: "text|json",
    default: "text on a terminal, otherwise json",
    help: "What log lines look like",
    from_file: false,
};

/// The settings of this file, in the order of `--help`.
pub(super) const ALL: &[Setting] = &[LOG, LOG_FORMAT];

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Directives of [`LOG`]; known to be readable.
    pub filter: String,
    /// See [`LOG_FORMAT`]; none leaves it to whether standard error is a terminal.
    pub format: Option<LogFormat>,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: None }
    }
}

impl LogSettings {
    pub(super) fn read(reader: &Reader<'_>) -> Result<Self, StartupError> {
        let mut settings = Self::default();
        if let Some(given) = reader.text(&LOG)? {
            if parsed(&given.value).is_none() {
                return Err(given.refuse_value(
                    "error, warn, info, debug, trace or directives such as info,dms_search=debug",
                ));
            }
            settings.filter = given.value;
        }
        if let Some(given) = reader.text(&LOG_FORMAT)? {
            settings.format = Some(match given.value.as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err(given.refuse_value("text or json")),
            });
        }
        Ok(settings)
    }

    /// The filter of the directives; `info` if they can't be read.
    pub(crate) fn env_filter(&self) -> EnvFilter {
        parsed(&self.filter).unwrap_or_else(|| EnvFilter::new(format!("{QUIET},info")))
    }
}

fn parsed(directives: &str) -> Option<EnvFilter> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    // tracing-subscriber (0.3.23) counts from the first letter and slices from the first space: it
    // misreads what is behind one, and panics in the middle of a letter of several bytes.
    let directives: Vec<_> = directives.split(',').map(str::trim).collect();
    // a lone word that is no level would be taken for the name of a target: `inof` silences all
    for word in directives.iter().filter(|one| !one.contains(['=', ':', '[', '_'])) {
        if !LEVELS.contains(&word.to_ascii_lowercase().as_str()) {
            return None;
        }
    }
    let directives = directives.join(",");
    EnvFilter::builder().parse(format!("{QUIET},{directives}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spaces_around_directives_mean_nothing() {
        let plain = parsed("warn,dms_search=debug,dms_rpc[request{method=GET}]=trace").unwrap();
        let spaced = parsed(" warn ,\t dms_search=debug\t, dms_rpc[request{method=GET}]=trace ");
        assert_eq!(spaced.unwrap().to_string(), plain.to_string());
    }

    #[test]
    fn any_text_is_read_or_refused() {
        for text in ["", " ", ",", "inof", "in_ß", "\t\t\tin_\u{7fb}x", "a=\u{7fb}", "  é[=é", "[]"]
        {
            let _ = parsed(text);
        }
        assert!(parsed("inof").is_none());
    }
}

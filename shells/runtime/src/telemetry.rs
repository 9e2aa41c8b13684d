//! Logging to standard error.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;

use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::settings::{LogFormat, LogSettings};

/// What logging was set up as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Telemetry {
    /// The format in use.
    pub format: LogFormat,
    /// Whether this call set it up; false if the process already logs elsewhere (a test, an
    /// embedding program), which then stays as it is.
    pub installed: bool,
}

/// Starts logging to standard error: text with colours on a terminal, JSON lines otherwise, unless the
/// settings say which. Panics are logged too. A second call changes nothing.
pub fn init(settings: &LogSettings) -> Telemetry {
    let terminal = io::stderr().is_terminal();
    let format =
        settings.format.unwrap_or(if terminal { LogFormat::Text } else { LogFormat::Json });
    let layer = layer(format, terminal, settings.env_filter(), io::stderr);
    let installed = tracing_subscriber::registry().with(layer).try_init().is_ok();
    if installed {
        std::panic::set_hook(Box::new(log_panic));
    }
    Telemetry { format, installed }
}

fn layer<W>(
    format: LogFormat,
    terminal: bool,
    filter: EnvFilter,
    writer: W,
) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => layer
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_filter(filter)
            .boxed(),
        // on a terminal, colours are left to the library, which heeds NO_COLOR
        LogFormat::Text if terminal => layer.with_filter(filter).boxed(),
        LogFormat::Text => layer.with_ansi(false).with_filter(filter).boxed(),
    }
}

fn log_panic(info: &PanicHookInfo<'_>) {
    let location = info.location().map(ToString::to_string);
    let thread = std::thread::current();
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        panic = panic_message(info.payload()),
        location,
        thread = thread.name(),
        backtrace,
        "panicked"
    );
}

/// The text a panic was given.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else if let Some(text) = payload.downcast_ref::<String>() {
        text
    } else {
        "no message"
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("not poisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, filter: &str, write: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let settings = LogSettings { filter: filter.to_owned(), format: Some(format) };
        let layer = layer(format, false, settings.env_filter(), move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), write);
        let bytes = captured.0.lock().expect("not poisoned").clone();
        String::from_utf8(bytes).expect("text")
    }

    #[test]
    fn json_lines_hold_each_field() {
        let text = logged(LogFormat::Json, "info", || {
            let span = tracing::info_span!("request", request_id = "r1");
            span.in_scope(|| tracing::info!(document_id = "d1", "stored\nit"));
        });
        assert_eq!(text.lines().count(), 1, "{text}");
        let line: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(line["message"], "stored\nit");
        assert_eq!(line["document_id"], "d1");
        assert_eq!(line["span"]["request_id"], "r1");
        assert_eq!(line["level"], "INFO");
        assert!(line["timestamp"].as_str().expect("a time").ends_with('Z'));
    }

    #[test]
    fn text_off_a_terminal_has_no_colours() {
        let text = logged(LogFormat::Text, "info", || tracing::warn!(size = 3, "grew"));
        assert!(text.contains("grew size=3") && !text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn talkative_libraries_are_heard_only_when_named() {
        let talk = || {
            tracing::info!(target: "tantivy", "merged");
            tracing::warn!(target: "tantivy", "late");
            tracing::debug!(target: "dms_store", "detail");
        };
        let text = logged(LogFormat::Text, "debug", talk);
        assert!(!text.contains("merged") && text.contains("late") && text.contains("detail"));
        let text = logged(LogFormat::Text, "info,tantivy=info", talk);
        assert!(text.contains("merged") && !text.contains("detail"));
    }

    #[test]
    fn a_second_start_changes_nothing() {
        let settings = LogSettings::default();
        init(&settings);
        assert!(!init(&settings).installed);
    }
}

//! Logs: one line for each event worth knowing, to standard error, as text or as JSON.
//!
//! What the levels mean. `error`: somebody has to do something. `warn`: something is wrong that poolwatch copes with.
//! `info`: the life of the process and of its pools, a few lines an hour. `debug`: one client's or one connection's
//! troubles. `trace`: bytes and polls. Nothing logs passwords, query text or client addresses at `info` or above.

use std::io::IsTerminal as _;

use serde::{Deserialize, Serialize};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt, reload};

/// How and how much is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Lines for people, or JSON for machines.
    pub format: Format,
    /// A level (`info`), or levels by module (`info,poolwatch::pool=debug`). May be changed while running.
    pub level: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Text,
            level: "info".to_owned(),
        }
    }
}

/// The form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people; coloured when standard error is a terminal.
    #[default]
    Text,
    /// One JSON object a line, its fields at the top.
    Json,
}

impl Format {
    /// The word in the settings.
    pub fn label(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

impl std::str::FromStr for Format {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self, Error> {
        match word {
            "text" => Ok(Format::Text),
            "json" => Ok(Format::Json),
            other => Err(Error::Format(other.to_owned())),
        }
    }
}

/// Why logging cannot be set up as asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such format.
    #[error("{0:?} is no log format: text or json")]
    Format(String),
    /// Not a level, nor a list of levels by module.
    #[error(
        "{0:?} is no log level: error, warn, info, debug, trace, off, or a list like \"info,poolwatch::pool=debug\""
    )]
    Level(String),
    /// The process logs already.
    #[error("logging is set up already")]
    Twice(#[source] TryInitError),
    /// What a change of level should reach is gone.
    #[error("the level cannot be changed any more")]
    Gone(#[source] reload::Error),
}

/// The running log; through it the level is changed.
#[derive(Debug, Clone)]
pub struct Telemetry {
    level: reload::Handle<EnvFilter, Registry>,
}

impl Telemetry {
    /// Changes what is logged from now on.
    ///
    /// # Errors
    /// If `level` is none; the old one then stays.
    pub fn set_level(&self, level: &str) -> Result<(), Error> {
        self.level.reload(filter(level)?).map_err(Error::Gone)
    }
}

/// Checks a level without setting it, so that settings report it with everything else that is wrong.
///
/// # Errors
/// [`Error::Level`].
pub fn check_level(level: &str) -> Result<(), Error> {
    filter(level).map(drop)
}

/// Starts logging, for the whole process. This is the one global thing here: `tracing` has one subscriber a process.
///
/// # Errors
/// If the level is none, or the process logs already.
pub fn init(config: &Config) -> Result<Telemetry, Error> {
    let (subscriber, telemetry) = build(config, std::io::stderr)?;
    subscriber.try_init().map_err(Error::Twice)?;
    Ok(telemetry)
}

fn build<W>(
    config: &Config,
    writer: W,
) -> Result<(impl tracing::Subscriber + Send + Sync, Telemetry), Error>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, level) = reload::Layer::new(filter(&config.level)?);
    let lines = fmt::layer().with_writer(writer);
    let lines = match config.format {
        Format::Text => lines.with_ansi(std::io::stderr().is_terminal()).boxed(),
        Format::Json => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .boxed(),
    };
    let subscriber = tracing_subscriber::registry().with(filter).with(lines);
    Ok((subscriber, Telemetry { level }))
}

/// Stricter than the library's own reading, which takes a misspelt level for the name of a module and logs nothing.
fn filter(level: &str) -> Result<EnvFilter, Error> {
    let understood = |part: &str| {
        part.contains('=') || (!part.is_empty() && part.parse::<LevelFilter>().is_ok())
    };
    let error = || Error::Level(level.to_owned());
    if !level.split(',').map(str::trim).all(understood) {
        return Err(error());
    }
    EnvFilter::builder().parse(level).map_err(|_| error())
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().clone()).unwrap()
        }
    }

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn config(format: Format, level: &str) -> Config {
        Config {
            format,
            level: level.to_owned(),
        }
    }

    #[test]
    fn json_lines_carry_their_fields_at_the_top() {
        let captured = Captured::default();
        let writer = captured.clone();
        let (subscriber, _) = build(&config(Format::Json, "info"), move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(pool = "u@h:1/d", size = 25, "a \"pool\"\nopened");
        });
        let text = captured.text();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "a \"pool\"\nopened");
        assert_eq!(line["pool"], "u@h:1/d");
        assert_eq!(line["size"], 25);
    }

    #[test]
    fn the_level_changes_while_running_and_a_bad_one_changes_nothing() {
        let captured = Captured::default();
        let writer = captured.clone();
        let (subscriber, telemetry) =
            build(&config(Format::Text, "warn"), move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("hidden");
            telemetry.set_level("info").unwrap();
            tracing::info!("shown");
            let error = telemetry.set_level("poolwatch=loud").unwrap_err();
            assert!(matches!(error, Error::Level(_)));
            tracing::info!("still shown");
        });
        let text = captured.text();
        assert!(!text.contains("hidden"), "{text}");
        assert_eq!(text.lines().count(), 2, "{text}");
    }

    #[test]
    fn formats_read_what_they_print() {
        for format in [Format::Text, Format::Json] {
            assert_eq!(format.to_string().parse::<Format>().unwrap(), format);
        }
        assert!("xml".parse::<Format>().is_err());
    }

    #[test]
    fn levels_are_checked() {
        for level in ["error", "debug", "info,poolwatch::pool=debug", "off"] {
            assert!(check_level(level).is_ok(), "{level}");
        }
        for level in ["loud", "poolwatch=loud", ""] {
            assert!(check_level(level).is_err(), "{level}");
        }
    }
}

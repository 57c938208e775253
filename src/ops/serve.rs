//! `poolwatch serve`: the life of the process, from settings to the last signal.

use std::io::Write;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::App;
use crate::cli::Exit;
use crate::config::{Settings, Sources, load};
use crate::telemetry::{self, Telemetry};

/// What each signal means.
struct Signals {
    /// Stop within `shutdown.timeout`; a second one stops at once.
    terminate: Signal,
    /// The same, from a terminal.
    interrupt: Signal,
    /// Read the settings again and apply what can be changed.
    hangup: Signal,
}

/// Runs until a signal ends it.
///
/// # Errors
/// Something cannot be bound, or clients had to be cut off at the end. Wrong settings are printed to `err`, all of
/// them, and are an [`Exit::Usage`].
pub fn serve(sources: impl Fn() -> Sources, err: &mut dyn Write) -> anyhow::Result<Exit> {
    let settings = match load(&sources()) {
        Ok(loaded) => loaded.settings,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(Exit::Usage);
        }
    };
    let telemetry =
        telemetry::init(&telemetry_config(&settings)).context("the log could not be set up")?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run(settings, &telemetry, sources))?;
    Ok(Exit::Fine)
}

async fn run(
    settings: Settings,
    telemetry: &Telemetry,
    sources: impl Fn() -> Sources,
) -> anyhow::Result<()> {
    let mut signals = Signals {
        terminate: signal(SignalKind::terminate())?,
        interrupt: signal(SignalKind::interrupt())?,
        hangup: signal(SignalKind::hangup())?,
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "poolwatch starts");
    let app = App::start(settings)?;
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            _ = signals.hangup.recv() => reload(&app, telemetry, &sources()),
        }
    }
    tokio::select! {
        stopped = app.stop() => stopped.map_err(|unfinished| anyhow::anyhow!("stopped with work left: {unfinished:?}")),
        // What is lost is what the first signal would have waited for: that is what a second one asks.
        _ = signals.terminate.recv() => exit_now(),
        _ = signals.interrupt.recv() => exit_now(),
    }
}

fn exit_now() -> ! {
    tracing::warn!("stopped at once by a second signal");
    std::process::exit(1)
}

fn reload(app: &App, telemetry: &Telemetry, sources: &Sources) {
    match load(sources) {
        Ok(loaded) => {
            if let Err(error) = telemetry.set_level(loaded.settings.log.level.as_str()) {
                tracing::warn!(%error, "log level not changed");
            }
            match app.reload(&loaded.settings) {
                Ok(()) => tracing::info!("settings read again"),
                Err(error) => tracing::error!(%error, "settings not applied"),
            }
        }
        Err(problems) => tracing::error!(%problems, "settings not applied"),
    }
}

/// The log as the settings say.
pub fn telemetry_config(settings: &Settings) -> telemetry::Config {
    telemetry::Config {
        format: match settings.log.format {
            crate::config::LogFormat::Text => telemetry::Format::Text,
            crate::config::LogFormat::Json => telemetry::Format::Json,
        },
        level: settings.log.level.as_str().to_owned(),
    }
}

/// Ten thousand clients need as many descriptors; the soft limit is often 1024, and the hard one higher.
fn raise_file_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
        && let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
    {
        tracing::warn!(%error, soft, "the limit of open files could not be raised");
    }
}

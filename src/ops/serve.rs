//! `poolwatch serve`: the life of the process, from settings to the last signal.

use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{App, Ask, Asked, Shutdown};
use crate::cli::Exit;
use crate::config::{Argument, Row, Settings, Sources, load};
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
    let how = loop {
        tokio::select! {
            _ = signals.terminate.recv() => break Shutdown::WaitForServers,
            _ = signals.interrupt.recv() => break Shutdown::WaitForServers,
            _ = signals.hangup.recv() => drop(reload(&app, telemetry, &sources())),
            asked = app.asked() => {
                if let Some(how) = carry_out(&app, telemetry, &sources, asked) {
                    break how;
                }
            }
        }
    };
    if how == Shutdown::WaitForClients {
        tracing::info!("stopping when the clients have left");
        tokio::select! {
            () = app.clients_gone() => {}
            // What is lost is the wait: a signal asks for an end within `shutdown.timeout`.
            _ = signals.terminate.recv() => {}
            _ = signals.interrupt.recv() => {}
        }
    }
    let limit = match how {
        Shutdown::Immediate => Duration::ZERO,
        Shutdown::WaitForServers | Shutdown::WaitForClients => app.settings().shutdown.timeout,
    };
    tokio::select! {
        stopped = app.stop_within(limit) => stopped.map_err(|unfinished| anyhow::anyhow!("stopped with work left: {unfinished:?}")),
        // What is lost is what the first signal would have waited for: that is what a second one asks.
        _ = signals.terminate.recv() => exit_now(),
        _ = signals.interrupt.recv() => exit_now(),
    }
}

/// Does what was asked for on the console; how to end, if that is it.
fn carry_out(
    app: &App,
    telemetry: &Telemetry,
    sources: impl Fn() -> Sources,
    asked: Asked,
) -> Option<Shutdown> {
    match asked.ask.clone() {
        Ask::Reload => asked.answer(reload(app, telemetry, &sources())),
        Ask::Set { key, value } => asked.answer(set(app, telemetry, sources(), &key, &value)),
        Ask::Shutdown(how) => {
            asked.answer(Ok(()));
            return Some(how);
        }
    }
    None
}

/// Changes one setting. The others are checked with it, and stay as they are.
fn set(
    app: &App,
    telemetry: &Telemetry,
    mut sources: Sources,
    key: &str,
    value: &str,
) -> Result<(), String> {
    let row = Row::find(key).ok_or_else(|| format!("no such setting: {key}"))?;
    if !row.reloadable {
        return Err(format!("{key} cannot be changed while poolwatch runs"));
    }
    sources.arguments.push(Argument {
        flag: "SET".to_owned(),
        key: key.to_owned(),
        value: value.to_owned(),
    });
    let loaded = load(&sources).map_err(|problems| problems.to_string())?;
    apply(app, telemetry, &app.settings().with(row, &loaded.settings))
}

fn exit_now() -> ! {
    tracing::warn!("stopped at once by a second signal");
    std::process::exit(1)
}

/// Reads the settings again.
fn reload(app: &App, telemetry: &Telemetry, sources: &Sources) -> Result<(), String> {
    match load(sources) {
        Ok(loaded) => apply(app, telemetry, &loaded.settings)
            .inspect(|()| tracing::info!("settings read again")),
        Err(problems) => {
            tracing::error!(%problems, "settings not applied");
            Err(problems.to_string())
        }
    }
}

fn apply(app: &App, telemetry: &Telemetry, settings: &Settings) -> Result<(), String> {
    if let Err(error) = telemetry.set_level(settings.log.level.as_str()) {
        tracing::warn!(%error, "log level not changed");
    }
    app.reload(settings).map_err(|error| {
        tracing::error!(%error, "settings not applied");
        error.to_string()
    })
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

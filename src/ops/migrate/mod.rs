//! `poolwatch migrate`: the commands. What migrations are and how they run is `crate::migrate`'s.

mod files;
mod report;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use self::report::{Ran, Report, Running};
use crate::cli::{Exit, MigrateArgs, MigrateCommand};
use crate::config::{Problems, Settings, ValueError, Wrong, load};
use crate::control::{Holder, LOCK, Session};
use crate::dsn::{Dsn, Form, ParseError};
use crate::migrate::{self, Directory, Limits, MigrateError, Row, State};
use crate::ops::direct::{connection, reach};

/// Where sqlx's own tool looks, too.
const SOURCE: &str = "migrations";

/// Carries out one of the commands.
///
/// # Errors
/// When the output cannot be written. What is wrong with scripts or database is printed, and is an [`Exit`].
pub fn run(
    arguments: &MigrateArgs,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let mut report = Report::default();
    let needs_no_server = matches!(
        arguments.command,
        MigrateCommand::New { .. } | MigrateCommand::Check { offline: true }
    );
    let settings = match load(&arguments.sources()) {
        Ok(loaded) => loaded.settings,
        Err(problems) if needs_no_server && names_a_file(&problems) => Settings::default(),
        Err(problems) => return without_settings(&problems, err),
    };
    let source = source(arguments, &settings);
    let done = match &arguments.command {
        MigrateCommand::New { name } => files::create(&source, name).map(|created| {
            report.created = created;
            Exit::Fine
        }),
        MigrateCommand::Check { offline: true } => offline(&source, &mut report),
        _ => on_server(arguments, &source, settings, &mut report, err),
    };
    let exit = match done {
        Ok(exit) => exit,
        Err(error) => {
            report.error = Some(format!("{error:#}"));
            Exit::Problem
        }
    };
    report.show(arguments.json, &arguments.command, out, err)?;
    Ok(exit)
}

/// The directory of scripts.
fn source(arguments: &MigrateArgs, settings: &Settings) -> PathBuf {
    let given = arguments.source.as_ref();
    let set = given.or(settings.migrate.source.as_ref());
    set.cloned().unwrap_or_else(|| PathBuf::from(SOURCE))
}

/// Whether all that is wrong is that the database is a file of SQLite's.
fn names_a_file(problems: &Problems) -> bool {
    let sqlite = Wrong::Value(ValueError::Url(ParseError::Sqlite));
    problems.0.iter().all(|problem| problem.wrong == sqlite)
}

/// A file needs no pool, and its migrations are its application's own affair: no reason to fail a deployment.
fn without_settings(problems: &Problems, err: &mut dyn Write) -> anyhow::Result<Exit> {
    writeln!(err, "{problems}")?;
    if names_a_file(problems) {
        return Ok(Exit::Fine);
    }
    Ok(Exit::Usage)
}

fn offline(source: &Path, report: &mut Report) -> anyhow::Result<Exit> {
    let directory = Directory::read(source)?;
    report.problems = directory.flaws().iter().map(ToString::to_string).collect();
    report.versions = migrate::compare(&directory, &[]);
    Ok(verdict(report))
}

fn verdict(report: &Report) -> Exit {
    if report.problems.is_empty() {
        Exit::Fine
    } else {
        Exit::Problem
    }
}

fn on_server(
    arguments: &MigrateArgs,
    source: &Path,
    settings: Settings,
    report: &mut Report,
    told: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let url = settings
        .migrate
        .url
        .clone()
        .or_else(|| settings.upstream.url.clone());
    let Some(dsn) = url else {
        report.error =
            Some("no PostgreSQL server is named: set migrate.url, or upstream.url".to_owned());
        return Ok(Exit::Usage);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let config = connection(&dsn, settings.upstream.connect_timeout)?;
        let session = reach(config, arguments.wait, told).await?;
        let limits = Limits {
            run: arguments.run_timeout,
            lock: settings.migrate.lock_timeout,
            statement: settings.migrate.statement_timeout,
        };
        let limit = limits.run;
        let lock = migrate::take_lock(&session, &limits, |holder: &Holder| {
            // Nobody need listen.
            let _ = writeln!(
                told,
                "waiting for another run to end, {limit:?} at most: {holder}"
            );
        });
        match &arguments.command {
            MigrateCommand::Run { command } => {
                lock.await?;
                other_tool(&session, &dsn, command).await
            }
            MigrateCommand::Up { dry_run: false, .. }
            | MigrateCommand::Down { dry_run: false, .. } => {
                lock.await?;
                change(arguments, source, &session, report).await
            }
            _ => {
                drop(lock);
                look(arguments, source, &session, report).await
            }
        }
    })
}

/// `up` and `down`.
async fn change(
    arguments: &MigrateArgs,
    source: &Path,
    session: &Session,
    report: &mut Report,
) -> anyhow::Result<Exit> {
    let directory = Directory::read(source)?;
    let ran = &mut report.ran;
    let mut note = |file: &str, took: Duration| {
        ran.push(Ran {
            file: file.to_owned(),
            seconds: took.as_secs_f64(),
        });
    };
    let done = match arguments.command {
        MigrateCommand::Down { to, steps, .. } => {
            migrate::down(session, &directory, to, steps, &mut note).await
        }
        MigrateCommand::Up { to, .. } => migrate::up(session, &directory, to, &mut note).await,
        _ => Ok(()),
    };
    // After a failure, too, as far as the connection still answers.
    let known = state(session, &directory, report).await;
    done?;
    known?;
    Ok(Exit::Fine)
}

/// `status`, `history`, `check`, and what `up` and `down` would do.
async fn look(
    arguments: &MigrateArgs,
    source: &Path,
    session: &Session,
    report: &mut Report,
) -> anyhow::Result<Exit> {
    let directory = match Directory::read(source) {
        Ok(directory) => directory,
        // What was run is in the database, whatever there is here.
        Err(_) if matches!(arguments.command, MigrateCommand::History) => Directory::default(),
        Err(error) => return Err(error.into()),
    };
    state(session, &directory, report).await?;
    let holder = session
        .lock_holder(LOCK)
        .await
        .map_err(MigrateError::Table)?;
    report.running = holder.map(|holder| Running {
        pid: holder.pid,
        who: holder.to_string(),
        seconds: holder.connected_seconds,
        waits_for: holder.waits_for,
    });
    match arguments.command {
        MigrateCommand::Up { to, .. } => {
            report.planned = report
                .versions
                .iter()
                .filter(|row| row.state == State::Pending && to.is_none_or(|to| row.version <= to))
                .filter_map(|row| row.file.clone())
                .collect();
            Ok(verdict(report))
        }
        MigrateCommand::Down { to, steps, .. } => {
            report.planned = undone(&report.versions, to, steps, &directory)?;
            Ok(verdict(report))
        }
        MigrateCommand::Check { .. } => Ok(verdict(report)),
        _ => Ok(Exit::Fine),
    }
}

fn undone(
    rows: &[Row],
    to: Option<i64>,
    steps: usize,
    directory: &Directory,
) -> Result<Vec<String>, MigrateError> {
    let newest_first = rows.iter().rev().filter(|row| row.installed_on.is_some());
    let most = if to.is_some() { usize::MAX } else { steps };
    newest_first
        .take_while(|row| to.is_none_or(|to| row.version > to))
        .take(most)
        .map(|row| {
            let version = row.version;
            let script = directory
                .down(version)
                .ok_or(MigrateError::OneWay { version })?;
            Ok(script.file.clone())
        })
        .collect()
}

/// Where the database stands.
async fn state(
    session: &Session,
    directory: &Directory,
    report: &mut Report,
) -> Result<(), MigrateError> {
    let applied = migrate::applied(session).await?;
    report.versions = migrate::compare(directory, &applied);
    let flaws = directory.flaws();
    report.problems = flaws.iter().map(ToString::to_string).collect();
    let problems = migrate::problems(&report.versions);
    report
        .problems
        .extend(problems.iter().map(ToString::to_string));
    report.stands_at = applied.last().map(|applied| applied.version);
    report.invalid_indexes = migrate::invalid_indexes(session).await?;
    report.alembic = migrate::alembic(session).await?;
    Ok(())
}

/// Runs a program while the lock is held.
async fn other_tool(
    session: &Session,
    dsn: &Dsn,
    command: &[std::ffi::OsString],
) -> anyhow::Result<Exit> {
    let Some((program, arguments)) = command.split_first() else {
        return Ok(Exit::Usage);
    };
    let url = dsn.render_exposing_password(Form::Postgres);
    let status = tokio::process::Command::new(program)
        .args(arguments)
        .env("DATABASE_URL", url.expose())
        .status()
        .await;
    let shown = program.to_string_lossy();
    let status = status.map_err(|error| anyhow::anyhow!("{shown} cannot be run: {error}"))?;
    session.confirm(LOCK).await.map_err(|error| {
        anyhow::anyhow!("{shown} ended with {status}, but the lock was lost while it ran, so another may have run too: {error}")
    })?;
    if !status.success() {
        anyhow::bail!("{shown} ended with {status}");
    }
    Ok(Exit::Fine)
}

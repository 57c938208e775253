//! What is told, for people and for programs.

use std::io::{self, Write};

use serde::Serialize;

use crate::cli::MigrateCommand;
use crate::migrate::{Row, State};

/// A script that was run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Ran {
    pub(super) file: String,
    pub(super) seconds: f64,
}

/// Another run.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Running {
    pub(super) pid: i32,
    /// Who it is, in words.
    pub(super) who: String,
    pub(super) seconds: Option<i64>,
    /// Whose locks it waits for.
    pub(super) waits_for: Option<String>,
}

/// All there is to tell.
#[derive(Debug, Default, Serialize)]
pub(super) struct Report {
    pub(super) stands_at: Option<i64>,
    /// The run that holds the lock, where it is not ours.
    pub(super) running: Option<Running>,
    pub(super) ran: Vec<Ran>,
    pub(super) planned: Vec<String>,
    pub(super) created: Vec<String>,
    pub(super) versions: Vec<Row>,
    pub(super) alembic: Vec<String>,
    pub(super) invalid_indexes: Vec<String>,
    pub(super) problems: Vec<String>,
    pub(super) error: Option<String>,
}

impl Report {
    pub(super) fn show(
        &self,
        json: bool,
        command: &MigrateCommand,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> io::Result<()> {
        if json {
            serde_json::to_writer_pretty(&mut *out, self)?;
            return writeln!(out);
        }
        for name in &self.created {
            writeln!(out, "{name}")?;
        }
        for Ran { file, seconds } in &self.ran {
            let what = if matches!(command, MigrateCommand::Down { .. }) {
                "undone"
            } else {
                "applied"
            };
            writeln!(out, "{what:<9} {file} ({seconds:.3}s)")?;
        }
        for file in &self.planned {
            writeln!(out, "would run {file}")?;
        }
        match command {
            MigrateCommand::Status => self.table(out, |_| true)?,
            MigrateCommand::History => self.table(out, |row| row.installed_on.is_some())?,
            MigrateCommand::Up { .. } | MigrateCommand::Down { .. } if self.error.is_none() => {
                self.standing(out)?
            }
            MigrateCommand::Check { .. } if self.problems.is_empty() && self.error.is_none() => {
                writeln!(
                    out,
                    "the migrations are fine: {} of them",
                    self.versions.len()
                )?;
            }
            _ => {}
        }
        for index in &self.invalid_indexes {
            writeln!(
                err,
                "warning: the index {index} is invalid: it is kept up to date and never used; DROP INDEX CONCURRENTLY, then make it anew"
            )?;
        }
        // `up` and `down` fail with the same words.
        if self.error.is_none() {
            for problem in &self.problems {
                writeln!(err, "problem: {problem}")?;
            }
        }
        if let Some(error) = &self.error {
            writeln!(err, "poolwatch: {error}")?;
        }
        Ok(())
    }

    fn table(&self, out: &mut dyn Write, wanted: impl Fn(&Row) -> bool) -> io::Result<()> {
        for row in self.versions.iter().filter(|row| wanted(row)) {
            let when = row.installed_on.as_deref().unwrap_or("-");
            let took = row
                .seconds
                .map_or("-".to_owned(), |seconds| format!("{seconds:.3}s"));
            let state = row.state.label();
            writeln!(
                out,
                "{:>14}  {state:<12}  {when:<20}  {took:>9}  {}",
                row.version, row.description
            )?;
        }
        self.standing(out)
    }

    fn standing(&self, out: &mut dyn Write) -> io::Result<()> {
        let pending = self
            .versions
            .iter()
            .filter(|row| row.state == State::Pending)
            .count();
        match self.stands_at {
            Some(version) => writeln!(
                out,
                "the database stands at version {version}, {pending} pending"
            )?,
            None => writeln!(out, "no migration is applied, {pending} pending")?,
        }
        if let Some(running) = &self.running {
            writeln!(out, "a run is under way: {}", running.who)?;
        }
        match self.alembic.as_slice() {
            [] => Ok(()),
            [one] => writeln!(out, "Alembic stands at {one}"),
            several => writeln!(
                out,
                "Alembic has {} heads: {}",
                several.len(),
                several.join(", ")
            ),
        }
    }
}

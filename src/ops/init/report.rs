//! What was done and what was so already, for people and for programs.

use std::io::{self, Write};

use serde::Serialize;

use super::error::InitError;
use super::names::Names;
use super::plan::{Step, Verdict};
use crate::cli::Exit;

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// It was made.
    Done,
    /// It would be made (`--dry-run`).
    WouldDo,
    /// It was there.
    WasSo,
    /// It was not asked for, or is optional and cannot be had.
    Skipped,
    /// It is there, but not as it should be.
    Differs,
}

impl Outcome {
    fn label(self) -> &'static str {
        match self {
            Outcome::Done => "done",
            Outcome::WouldDo => "would do",
            Outcome::WasSo => "was so",
            Outcome::Skipped => "skipped",
            Outcome::Differs => "differs",
        }
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Line {
    /// Which.
    pub step: Step,
    /// What became of it.
    pub outcome: Outcome,
    /// What it is about.
    pub what: String,
}

/// The server that was asked.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Where {
    /// Its hosts.
    pub host: String,
    /// Its version.
    pub version: String,
    /// As whom.
    pub user: String,
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) dry_run: bool,
    pub(super) server: Option<Where>,
    pub(super) names: Option<Names>,
    pub(super) lines: Vec<Line>,
    pub(super) warnings: Vec<String>,
    pub(super) error: Option<InitError>,
}

#[derive(Serialize)]
struct Document<'a> {
    dry_run: bool,
    server: Option<&'a Where>,
    names: Option<NamesShown<'a>>,
    steps: &'a [Line],
    warnings: &'a [String],
    error: Option<ErrorShown>,
}

#[derive(Serialize)]
struct NamesShown<'a> {
    role: &'a str,
    role_from: String,
    password_from: String,
    database: &'a str,
    database_from: String,
    schema: &'a str,
}

#[derive(Serialize)]
struct ErrorShown {
    message: String,
    step: Option<Step>,
    sqlstate: Option<String>,
    advice: Option<&'static str>,
}

impl Report {
    /// Notes what a verdict came to; `done` says whether its statements were run.
    pub(super) fn note(&mut self, step: Step, verdict: &Verdict, done: bool) {
        let (outcome, what) = match verdict {
            Verdict::Do(_, what) if done => (Outcome::Done, what),
            Verdict::Do(_, what) => (Outcome::WouldDo, what),
            Verdict::WasSo(what) => (Outcome::WasSo, what),
            Verdict::Skip(what) => (Outcome::Skipped, what),
            Verdict::Differs(what) => (Outcome::Differs, what),
        };
        let what = what.clone();
        self.lines.push(Line {
            step,
            outcome,
            what,
        });
    }

    /// How the process ends.
    pub(super) fn exit(&self) -> Exit {
        match &self.error {
            Some(error) => error.exit(),
            None if self
                .lines
                .iter()
                .any(|line| line.outcome == Outcome::Differs) =>
            {
                Exit::Problem
            }
            None => Exit::Fine,
        }
    }

    /// One JSON document.
    pub(super) fn json(&self, out: &mut dyn Write) -> io::Result<()> {
        let document = Document {
            dry_run: self.dry_run,
            server: self.server.as_ref(),
            names: self.names.as_ref().map(|names| NamesShown {
                role: &names.role.value,
                role_from: names.role.origin.to_string(),
                password_from: names.password.origin.to_string(),
                database: &names.database.value,
                database_from: names.database.origin.to_string(),
                schema: &names.database.value,
            }),
            steps: &self.lines,
            warnings: &self.warnings,
            error: self.error.as_ref().map(|error| ErrorShown {
                message: error.to_string(),
                step: error.step(),
                sqlstate: error.sqlstate(),
                advice: error.advice(),
            }),
        };
        serde_json::to_writer_pretty(&mut *out, &document)?;
        writeln!(out)
    }

    /// Lines for people; what is wrong goes to `err`.
    pub(super) fn text(&self, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        if let Some(server) = &self.server {
            let Where {
                host,
                version,
                user,
            } = server;
            writeln!(out, "PostgreSQL {version} at {host}, as \"{user}\"")?;
        }
        for line in &self.lines {
            writeln!(out, "  {:<9} {}", line.outcome.label(), line.what)?;
        }
        for warning in &self.warnings {
            writeln!(err, "warning: {warning}")?;
        }
        if let Some(error) = &self.error {
            writeln!(err, "poolwatch: {error}")?;
            if let Some(advice) = error.advice() {
                writeln!(err, "poolwatch: {advice}")?;
            }
        }
        Ok(())
    }
}

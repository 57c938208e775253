//! `poolwatch migrate …`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::settings::{Assignment, SettingsArgs, assignment, duration};
use crate::config::Sources;

/// `poolwatch migrate …`
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// What to do
    #[command(subcommand)]
    pub command: MigrateCommand,
    /// The directory of scripts: VERSION_NAME.up.sql and .down.sql, or VERSION_NAME.sql
    /// (migrate.source; without both, migrations)
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pub source: Option<PathBuf>,
    /// How long to wait for a server that does not answer yet
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub wait: Duration,
    /// How long to wait for another run to end
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration, default_value = "10m")]
    pub run_timeout: Duration,
    /// Print one JSON document
    #[arg(long, global = true)]
    pub json: bool,
    /// A settings file (TOML); a later one wins over an earlier one
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// The PostgreSQL server (upstream.url)
    #[arg(long, global = true, value_name = "URL")]
    pub upstream_url: Option<String>,
    /// Any setting; docs/settings.md lists them
    #[arg(long, global = true, value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    pub set: Vec<Assignment>,
}

impl MigrateArgs {
    /// Where to read the settings from.
    pub fn sources(&self) -> Sources {
        let settings = SettingsArgs {
            config: self.config.clone(),
            upstream_url: self.upstream_url.clone(),
            set: self.set.clone(),
            ..SettingsArgs::default()
        };
        settings.sources()
    }
}

/// What `migrate` does.
#[derive(Debug, Subcommand)]
pub enum MigrateCommand {
    /// Run what is pending
    #[command(after_help = "Example:\n  poolwatch migrate up --to 20260101120000")]
    Up {
        /// The last version to run
        #[arg(long, value_name = "VERSION")]
        to: Option<i64>,
        /// Change nothing; say what would be run
        #[arg(long)]
        dry_run: bool,
    },
    /// Undo the newest, or several
    #[command(after_help = "Example:\n  poolwatch migrate down --steps 2")]
    Down {
        /// The version to stop at, which stays; 0 undoes all
        #[arg(long, value_name = "VERSION", conflicts_with = "steps")]
        to: Option<i64>,
        /// How many to undo
        #[arg(long, value_name = "N", default_value_t = 1)]
        steps: usize,
        /// Change nothing; say what would be undone
        #[arg(long)]
        dry_run: bool,
    },
    /// Show where the database stands: every version, Alembic's too, and indexes that are invalid
    #[command(after_help = "Example:\n  poolwatch migrate status --json")]
    Status,
    /// Show what was run, when, and for how long
    #[command(after_help = "Example:\n  poolwatch migrate history")]
    History,
    /// Make the files of a new migration, in pairs where the last one is a pair
    #[command(after_help = "Example:\n  poolwatch migrate new add_orders --source db/migrations")]
    New {
        /// Its name: letters, digits and _
        name: String,
    },
    /// Find versions that are divergent, missing, duplicate or out of order
    #[command(after_help = "Example:\n  poolwatch migrate check --offline")]
    Check {
        /// Look at the directory alone
        #[arg(long)]
        offline: bool,
    },
    /// Run any other tool under the same lock, with DATABASE_URL set to the direct connection
    #[command(after_help = "Example:\n  poolwatch migrate run -- alembic upgrade head")]
    Run {
        /// The program and its arguments
        #[arg(last = true, required = true, value_name = "COMMAND")]
        command: Vec<std::ffi::OsString>,
    },
}

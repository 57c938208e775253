//! The command line, nothing else: what may be written, and what it means as settings.

use std::time::Duration;

use clap::{Args, Parser, Subcommand};

mod config;
mod init;
mod migrate;
mod settings;
#[cfg(test)]
mod tests;

use settings::duration;

pub use config::{CheckArgs, ConfigCommand};
pub use init::InitArgs;
pub use migrate::{MigrateArgs, MigrateCommand};
pub use settings::{Assignment, SettingsArgs};

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All is well.
    Fine,
    /// Something was looked at and found wrong, or went wrong.
    Problem,
    /// The command line or the settings are wrong; nothing was done. What `clap` ends with, too.
    Usage,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Fine => 0,
            Exit::Problem => 1,
            Exit::Usage => 2,
        })
    }
}

const EXIT_CODES: &str = "\
Exit codes:
  0  fine
  1  found a problem
  2  wrong usage or configuration";

const EXAMPLE: &str = "\
Example:
  poolwatch serve --upstream-url postgresql://ann@db.example/shop
  psql -h 127.0.0.1 -p 6432 -U ann shop
  curl http://127.0.0.1:9432/metrics";

/// A connection pool for PostgreSQL that shows, truly, how it is doing.
#[derive(Debug, Parser)]
#[command(name = "poolwatch", version, arg_required_else_help = true)]
#[command(after_help = format!("{EXAMPLE}\n\n{EXIT_CODES}"))]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the pool: take applications' connections, answer metrics and health
    #[command(after_help = SERVE_EXAMPLE)]
    Serve(SettingsArgs),
    /// See it work: a throw-away PostgreSQL, poolwatch before it, and a load through it
    #[command(after_help = "Example:\n  poolwatch demo --duration 20s")]
    Demo(DemoArgs),
    /// Ask a running poolwatch whether it is alive, for a container's health check
    #[command(after_help = HEALTH_EXAMPLE)]
    Health(HealthArgs),
    /// Make the application's role, database and schema where they are absent, and say what was done
    #[command(after_help = INIT_EXAMPLE)]
    Init(InitArgs),
    /// Run, undo and look at migrations, one run at a time across all machines
    #[command(after_help = MIGRATE_EXAMPLE)]
    Migrate(MigrateArgs),
    /// Print a connection URL in every other form, its password masked
    #[command(after_help = URI_EXAMPLE)]
    Uri(UriArgs),
    /// Look at the settings
    #[command(
        subcommand,
        after_help = "Example:\n  poolwatch config check --config /etc/poolwatch.toml"
    )]
    Config(ConfigCommand),
}

const SERVE_EXAMPLE: &str = "\
Example:
  POOLWATCH_UPSTREAM__URL=postgresql://ann:secret@db.example/shop poolwatch serve --pool-size 10
  poolwatch serve --config /etc/poolwatch.toml --set pool.timeout=5s

A URL on the command line can be seen by every user of the machine; keep one with a password in
POOLWATCH_UPSTREAM__URL, or in a file that POOLWATCH_UPSTREAM__URL_FILE names.";

const HEALTH_EXAMPLE: &str = "\
Example:
  poolwatch health --http 127.0.0.1:9432 || echo not alive";

const INIT_EXAMPLE: &str = "\
Example:
  POSTGRES_PASSWORD=secret poolwatch init --upstream-url postgresql://postgres@127.0.0.1 --user app --database app
  poolwatch init --dry-run --json --vector optional
  poolwatch init --print-sql --vector off

Role, password and database are taken from the first of these that has them, each by itself: --user and --database;
poolwatch-user, -password, -db, then letta-user, -password, -db in /run/secrets and /var/run/secrets; POSTGRES_USER,
POSTGRES_PASSWORD, POSTGRES_DB (or the file that NAME_FILE names); upstream.url; \"letta\". docs/init.md has the whole.
It connects as init.url says, a superuser or a role with CREATEROLE and CREATEDB, else as upstream.url does.";

const MIGRATE_EXAMPLE: &str = "\
Example:
  poolwatch migrate up --upstream-url postgresql://app@127.0.0.1/app --source migrations
  poolwatch migrate status --json
  poolwatch migrate run -- alembic upgrade head

It connects as migrate.url says, else as upstream.url does: straight to PostgreSQL, not through a pooler.
docs/migrate.md has the whole.";

const URI_EXAMPLE: &str = "\
Example:
  poolwatch uri 'postgresql+asyncpg://ann:secret@db.example/shop?ssl=require'
  echo \"$DATABASE_URL\" | poolwatch uri -";

/// `poolwatch demo …`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How long to run; without it, until Ctrl-C
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
}

/// `poolwatch health …`
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// How long to wait for the answer
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "2s")]
    pub timeout: Duration,
    /// Where the one to ask answers HTTP, and other settings
    #[command(flatten)]
    pub settings: SettingsArgs,
}

/// `poolwatch uri …`
#[derive(Debug, Args)]
pub struct UriArgs {
    /// The URL or key=value string; - reads it from the standard input, where other users cannot see it
    #[arg(value_name = "URL")]
    pub url: String,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

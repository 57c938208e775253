//! The command line, nothing else: what may be written, and what it means as settings.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::config::{Argument, Sources};

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

/// `poolwatch config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report everything that is wrong with the settings, each with the place it came from
    #[command(after_help = "Example:\n  poolwatch config check --config /etc/poolwatch.toml")]
    Check(SettingsArgs),
    /// Print every setting with the place its value came from, secrets masked
    #[command(after_help = "Example:\n  poolwatch config show --set pool.size=10")]
    Show(SettingsArgs),
}

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

/// `poolwatch init …`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The application's role
    #[arg(long, value_name = "NAME")]
    pub user: Option<String>,
    /// The database, and the schema in it
    #[arg(long, value_name = "NAME")]
    pub database: Option<String>,
    /// pgvector: required, optional or off (init.vector)
    #[arg(long, value_name = "MODE")]
    pub vector: Option<String>,
    /// What becomes of the schema public: empty removes it if it holds nothing, cascade with all that it holds, keep leaves it
    /// (init.drop_public)
    #[arg(long, value_name = "MODE")]
    pub drop_public: Option<String>,
    /// Make the role and the schema that poolwatch itself uses, too (init.sidecar)
    #[arg(long)]
    pub sidecar: bool,
    /// How long to wait for a server that does not answer yet
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub wait: Duration,
    /// How long to wait for another run to end, and for locks of others on what is changed
    #[arg(long, value_name = "DURATION", value_parser = duration, default_value = "60s")]
    pub lock_timeout: Duration,
    /// Change nothing; say what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// Print the same as a script for psql, and connect to nothing
    #[arg(long, conflicts_with_all = ["dry_run", "json", "user", "database"])]
    pub print_sql: bool,
    /// The server, and other settings
    #[command(flatten)]
    pub settings: SettingsArgs,
}

impl InitArgs {
    /// Where to read the settings from; flags of this command win over all.
    pub fn sources(&self) -> Sources {
        let sidecar = self.sidecar.then(|| "on".to_owned());
        let own = [
            ("--vector", "init.vector", &self.vector),
            ("--drop-public", "init.drop_public", &self.drop_public),
            ("--sidecar", "init.sidecar", &sidecar),
        ];
        let mut arguments = self.settings.arguments();
        arguments.extend(own.into_iter().filter_map(|(flag, key, value)| {
            Some(Argument {
                flag: flag.to_owned(),
                key: key.to_owned(),
                value: value.clone()?,
            })
        }));
        Sources::of_process(self.settings.config.clone(), arguments)
    }
}

/// `poolwatch migrate …`
#[derive(Debug, Args)]
pub struct MigrateArgs {
    /// What to do
    #[command(subcommand)]
    pub command: MigrateCommand,
    /// The directory of scripts: VERSION_NAME.up.sql and .down.sql, or VERSION_NAME.sql
    #[arg(
        long,
        global = true,
        value_name = "DIRECTORY",
        default_value = "migrations"
    )]
    pub source: PathBuf,
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

/// `poolwatch uri …`
#[derive(Debug, Args)]
pub struct UriArgs {
    /// The URL or key=value string; - reads it from the standard input, where other users cannot see it
    #[arg(value_name = "URL")]
    pub url: String,
}

/// The settings that can be given on the command line.
#[derive(Debug, Args, Default)]
pub struct SettingsArgs {
    /// A settings file (TOML); a later one wins over an earlier one
    #[arg(long, value_name = "FILE")]
    pub config: Vec<PathBuf>,
    /// The PostgreSQL server behind the pool (upstream.url)
    #[arg(long, value_name = "URL")]
    pub upstream_url: Option<String>,
    /// Where applications connect (listen.address)
    #[arg(long, value_name = "HOST:PORT")]
    pub listen: Option<String>,
    /// Where metrics and health are answered (http.address)
    #[arg(long, value_name = "HOST:PORT")]
    pub http: Option<String>,
    /// How many idle connections are kept (pool.size)
    #[arg(long, value_name = "N")]
    pub pool_size: Option<String>,
    /// How many connections there may be beyond that (pool.max_overflow)
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pub max_overflow: Option<String>,
    /// transaction or session (pool.mode)
    #[arg(long, value_name = "MODE")]
    pub pool_mode: Option<String>,
    /// Any setting; docs/settings.md lists them
    #[arg(long, value_name = "SECTION.KEY=VALUE", value_parser = assignment)]
    pub set: Vec<Assignment>,
}

impl SettingsArgs {
    /// Where to read the settings from: the process's environment, these files and these values.
    pub fn sources(&self) -> Sources {
        Sources::of_process(self.config.clone(), self.arguments())
    }

    /// The values, flags of their own winning over `--set`.
    pub fn arguments(&self) -> Vec<Argument> {
        let flags = [
            ("--upstream-url", "upstream.url", &self.upstream_url),
            ("--listen", "listen.address", &self.listen),
            ("--http", "http.address", &self.http),
            ("--pool-size", "pool.size", &self.pool_size),
            ("--max-overflow", "pool.max_overflow", &self.max_overflow),
            ("--pool-mode", "pool.mode", &self.pool_mode),
        ];
        let set = self.set.iter().map(|Assignment { key, value }| Argument {
            flag: format!("--set {key}"),
            key: key.clone(),
            value: value.clone(),
        });
        let own = flags.into_iter().filter_map(|(flag, key, value)| {
            Some(Argument {
                flag: flag.to_owned(),
                key: key.to_owned(),
                value: value.clone()?,
            })
        });
        set.chain(own).collect()
    }
}

/// `section.key=value`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    key: String,
    value: String,
}

fn assignment(text: &str) -> Result<Assignment, &'static str> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok(Assignment {
            key: key.trim().to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("write section.key=value, such as pool.size=10"),
    }
}

fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number with its unit, such as 500ms, 20s or 5m")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(std::iter::once("poolwatch").chain(arguments.iter().copied()))
    }

    fn serve(arguments: &[&str]) -> SettingsArgs {
        let all: Vec<_> = std::iter::once("serve")
            .chain(arguments.iter().copied())
            .collect();
        match parse(&all).unwrap().command {
            Command::Serve(settings) => settings,
            other => panic!("{other:?}"),
        }
    }

    /// Every command, those within `config` too.
    fn commands(command: &clap::Command) -> Vec<clap::Command> {
        command
            .get_subcommands()
            .filter(|command| command.get_name() != "help")
            .flat_map(|command| std::iter::once(command.clone()).chain(commands(command)))
            .collect()
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn each_help_shows_an_example_that_parses() {
        let all = commands(&Cli::command());
        assert!(all.len() >= 16);
        for mut command in all {
            let help = command.render_long_help().to_string();
            let (_, examples) = help
                .split_once("Example:\n")
                .unwrap_or_else(|| panic!("{help}"));
            let lines = examples
                .lines()
                .take_while(|line| line.starts_with("  "))
                .filter_map(|line| line.split_once("poolwatch "));
            for (_, arguments) in lines {
                let arguments = arguments.split(" ||").next().unwrap().replace('\'', "");
                let words: Vec<_> = arguments.split_whitespace().collect();
                parse(&words).unwrap_or_else(|error| panic!("{arguments}: {error}"));
            }
        }
    }

    #[test]
    fn the_help_tells_the_exit_codes() {
        let help = Cli::command().render_help().to_string();
        assert!(help.contains("2  wrong usage or configuration"), "{help}");
    }

    #[test]
    fn wrong_usage_ends_with_2_and_help_with_0() {
        for arguments in [
            &["sevre"][..],
            &["serve", "--set", "pool.size"],
            &["serve", "--set", "size=1"],
            &["demo", "--duration", "20"],
            &["uri"],
            &["config"],
        ] {
            assert_eq!(
                parse(arguments).unwrap_err().exit_code(),
                2,
                "{arguments:?}"
            );
        }
        assert_eq!(parse(&["serve", "--help"]).unwrap_err().exit_code(), 0);
        assert_eq!(parse(&["--version"]).unwrap_err().exit_code(), 0);
    }

    #[test]
    fn flags_become_settings_and_win_over_set() {
        let arguments = serve(&[
            "--max-overflow",
            "-1",
            "--set",
            "pool.size=3",
            "--pool-size",
            "4",
            "--set",
            "upstream.url=host=h dbname=d",
        ])
        .arguments();
        let shown: Vec<_> = arguments
            .iter()
            .map(|argument| {
                let Argument { flag, key, value } = argument;
                format!("{flag} | {key} | {value}")
            })
            .collect();
        assert_eq!(
            shown,
            [
                "--set pool.size | pool.size | 3",
                "--set upstream.url | upstream.url | host=h dbname=d",
                "--pool-size | pool.size | 4",
                "--max-overflow | pool.max_overflow | -1",
            ]
        );
    }

    #[test]
    fn every_flag_sets_a_key_that_exists() {
        let settings = SettingsArgs {
            config: Vec::new(),
            upstream_url: Some(String::new()),
            listen: Some(String::new()),
            http: Some(String::new()),
            pool_size: Some(String::new()),
            max_overflow: Some(String::new()),
            pool_mode: Some(String::new()),
            set: Vec::new(),
        };
        let arguments = settings.arguments();
        assert_eq!(arguments.len(), 6);
        for argument in arguments {
            assert!(
                crate::config::Row::find(&argument.key).is_some(),
                "{}",
                argument.key
            );
        }
    }
}

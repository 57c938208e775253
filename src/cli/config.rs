//! `poolwatch config …`

use clap::{Args, Subcommand};

use super::settings::SettingsArgs;

const CHECK_EXAMPLE: &str = "\
Example:
  poolwatch config check --config /etc/poolwatch.toml
  poolwatch config check --connect --json

With --connect each host of upstream.url is tried by itself, within upstream.connect_timeout.";

/// `poolwatch config …`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report everything that is wrong with the settings, each with the place it came from
    #[command(after_help = CHECK_EXAMPLE)]
    Check(CheckArgs),
    /// Print every setting with the place its value came from, secrets masked
    #[command(after_help = "Example:\n  poolwatch config show --set pool.size=10")]
    Show(SettingsArgs),
}

/// `poolwatch config check …`
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Connect to PostgreSQL too, and say what is wrong if that fails
    #[arg(long)]
    pub connect: bool,
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
    /// The settings to look at
    #[command(flatten)]
    pub settings: SettingsArgs,
}

//! `poolwatch init …`

use std::time::Duration;

use clap::Args;

use super::settings::{SettingsArgs, duration};
use crate::config::{Argument, Sources};

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

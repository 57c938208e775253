//! Settings on the command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use crate::config::{Argument, Sources};

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

pub(super) fn assignment(text: &str) -> Result<Assignment, &'static str> {
    match text.split_once('=') {
        Some((key, value)) if key.contains('.') => Ok(Assignment {
            key: key.trim().to_owned(),
            value: value.to_owned(),
        }),
        _ => Err("write section.key=value, such as pool.size=10"),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text)
        .map_err(|_| "write a number with its unit, such as 500ms, 20s or 5m")
}

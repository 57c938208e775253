//! The `poolwatch` binary: arguments in, exit code out.

use std::process::ExitCode;

use clap::Parser;
use poolwatch::cli::{Cli, Command};
use poolwatch::{ops, serve};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Demo(arguments) => ops::demo::run(&arguments),
        Command::Health(arguments) => ops::health::run(&arguments),
        Command::Uri(arguments) => ops::uri::run(&arguments),
        Command::Config(command) => ops::config_cmd::run(&command),
    }
}

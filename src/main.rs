//! The `poolwatch` binary: arguments in, exit code out.

use std::io::{Write, stderr, stdin, stdout};
use std::process::ExitCode;

use clap::Parser;
use poolwatch::cli::{Cli, Command, ConfigCommand, Exit};
use poolwatch::ops;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(exit) => exit.into(),
        Err(error) => {
            // The error and its causes, in one line. Nothing more can be done where even that cannot be written.
            let _ = writeln!(stderr(), "poolwatch: {error:#}");
            Exit::Problem.into()
        }
    }
}

fn run(command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Serve(settings) => {
            ops::serve::serve(|| settings.sources().require_upstream(), &mut stderr())
        }
        Command::Demo(arguments) => {
            let duration = arguments.duration;
            ops::demo::demo(&ops::demo::Options {
                duration,
                any_port: false,
            })?;
            Ok(Exit::Fine)
        }
        Command::Health(arguments) => ops::health::run(&arguments, &mut stderr()),
        Command::Init(arguments) => {
            let sources = arguments.sources();
            ops::init::run(&arguments, &sources, &mut stdout(), &mut stderr())
        }
        Command::Migrate(arguments) => ops::migrate::run(&arguments, &mut stdout(), &mut stderr()),
        Command::Uri(arguments) => {
            ops::uri::run(&arguments, &mut stdin(), &mut stdout(), &mut stderr())
        }
        Command::Config(ConfigCommand::Check(arguments)) => {
            let sources = arguments.settings.sources().require_upstream();
            ops::config_cmd::check(&arguments, &sources, &mut stdout(), &mut stderr())
        }
        Command::Config(ConfigCommand::Show(settings)) => {
            ops::config_cmd::show(&settings.sources(), &mut stdout(), &mut stderr())
        }
    }
}

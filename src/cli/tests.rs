//! The command line as it is written, and what it becomes.

use clap::CommandFactory;

use super::*;
use crate::config::Argument;

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

//! `poolwatch config check` and `show`.

use std::io::{self, Write};

use serde::Serialize;

use super::reachable::{Tried, try_hosts};
use crate::cli::{CheckArgs, Exit};
use crate::config::{Loaded, Settings, Sources, load};

/// What `config check` found.
#[derive(Debug, Default, Serialize)]
struct Checked {
    /// What is wrong with the settings, each with its place.
    problems: Vec<String>,
    upstream: Option<Upstream>,
    /// With `--connect`.
    hosts: Vec<Tried>,
    /// What works, and will not when the pool is full.
    warnings: Vec<String>,
}

/// Where the pool connects to.
#[derive(Debug, Serialize)]
struct Upstream {
    /// Its password masked.
    url: String,
    from: String,
}

/// Reports everything that is wrong with the settings; with `--connect`, with the way to PostgreSQL, too.
///
/// # Errors
/// When the output cannot be written.
pub fn check(
    arguments: &CheckArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let mut checked = Checked::default();
    match load(sources) {
        Ok(loaded) => {
            checked.upstream = loaded.settings.upstream.url.as_ref().map(|dsn| Upstream {
                url: dsn.to_string(),
                from: loaded.origin("upstream.url").to_string(),
            });
            if arguments.connect {
                connect(&loaded.settings, &mut checked)?;
            }
        }
        Err(problems) => checked.problems = problems.0.iter().map(ToString::to_string).collect(),
    }
    if arguments.json {
        serde_json::to_writer_pretty(&mut *out, &checked)?;
        writeln!(out)?;
    } else {
        checked.text(out, err)?;
    }
    Ok(checked.exit())
}

fn connect(settings: &Settings, checked: &mut Checked) -> io::Result<()> {
    let Some(dsn) = &settings.upstream.url else {
        return Ok(());
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    checked.hosts = runtime.block_on(try_hosts(dsn, settings.upstream.connect_timeout));
    // An overflow without a limit has no sum to compare.
    let Ok(overflow) = u32::try_from(settings.pool.max_overflow) else {
        return Ok(());
    };
    let wanted = i64::from(settings.pool.size) + i64::from(overflow);
    for host in &checked.hosts {
        let Some(answer) = &host.answer else { continue };
        let room = i64::from(answer.max_connections) - i64::from(answer.reserved);
        if settings.pool.enabled && wanted > room {
            checked.warnings.push(format!(
                "{}: a pool may open {wanted} connections (pool.size + pool.max_overflow) and PostgreSQL has {room} for \
                 applications (max_connections = {}, {} reserved): lower pool.size, or raise max_connections",
                host.host, answer.max_connections, answer.reserved
            ));
        }
    }
    Ok(())
}

impl Checked {
    fn exit(&self) -> Exit {
        if !self.problems.is_empty() {
            Exit::Usage
        } else if self.hosts.iter().any(|host| host.problem.is_some()) {
            Exit::Problem
        } else {
            Exit::Fine
        }
    }

    fn text(&self, out: &mut dyn Write, err: &mut dyn Write) -> io::Result<()> {
        for problem in &self.problems {
            writeln!(err, "{problem}")?;
        }
        if self.problems.is_empty() {
            writeln!(out, "the settings are fine")?;
        }
        if let Some(Upstream { url, from }) = &self.upstream {
            writeln!(out, "upstream: {url} (from {from})")?;
        }
        for host in &self.hosts {
            if let Some(answer) = &host.answer {
                writeln!(
                    out,
                    "{}: PostgreSQL {}, {}, database \"{}\" as user \"{}\", {}, {} of {} connections open",
                    host.host,
                    answer.version,
                    if answer.in_recovery {
                        "standby"
                    } else {
                        "primary"
                    },
                    host.database,
                    host.user,
                    answer.tls.as_deref().unwrap_or("no TLS"),
                    answer.connections,
                    answer.max_connections,
                )?;
            }
            if let Some(problem) = &host.problem {
                writeln!(err, "{problem}")?;
            }
        }
        for warning in &self.warnings {
            writeln!(err, "warning: {warning}")?;
        }
        Ok(())
    }
}

/// Prints every setting with the place its value came from, in the shape of a settings file, secrets masked.
///
/// # Errors
/// When the output cannot be written.
pub fn show(sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Exit> {
    let Some(loaded) = loaded(sources, err)? else {
        return Ok(Exit::Usage);
    };
    let mut section = "";
    for (row, origin) in loaded.rows() {
        if row.section() != section {
            let first = section.is_empty();
            section = row.section();
            writeln!(out, "{}[{section}]", if first { "" } else { "\n" })?;
        }
        let setting = format!("{} = {}", row.key(), row.toml(&loaded.settings));
        writeln!(out, "{setting:<40} # {origin}")?;
    }
    Ok(Exit::Fine)
}

/// The settings, or `None` once what is wrong with them has been printed.
fn loaded(sources: &Sources, err: &mut dyn Write) -> anyhow::Result<Option<Loaded>> {
    match load(sources) {
        Ok(loaded) => Ok(Some(loaded)),
        Err(problems) => {
            writeln!(err, "{problems}")?;
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command, ConfigCommand};
    use crate::config::{Argument, ROWS};

    type Run = fn(&Sources, &mut dyn Write, &mut dyn Write) -> anyhow::Result<Exit>;

    fn check_alone(
        sources: &Sources,
        out: &mut dyn Write,
        err: &mut dyn Write,
    ) -> anyhow::Result<Exit> {
        let arguments = Cli::parse_from(["poolwatch", "config", "check"]);
        let Command::Config(ConfigCommand::Check(arguments)) = arguments.command else {
            panic!("{arguments:?}");
        };
        check(&arguments, sources, out, err)
    }

    fn run(command: Run, values: &[(&str, &str)]) -> (Exit, String, String) {
        let arguments = values
            .iter()
            .map(|(key, value)| Argument {
                flag: format!("--set {key}"),
                key: (*key).to_owned(),
                value: (*value).to_owned(),
            })
            .collect();
        let mut sources = Sources::of_process(Vec::new(), arguments).require_upstream();
        sources.environment.clear();
        sources.read = Box::new(|_| Err(std::io::ErrorKind::NotFound.into()));
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let exit = command(&sources, &mut out, &mut err).unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (exit, text(out), text(err))
    }

    const URL: (&str, &str) = ("upstream.url", "postgresql://ann:hunter2@h/d");

    #[test]
    fn show_prints_every_value_with_its_origin_and_no_secret() {
        let (exit, out, _) = run(show, &[URL, ("pool.size", "7")]);
        assert_eq!(exit, Exit::Fine);
        assert!(!out.contains("hunter2"), "{out}");
        let line = |key: &str| {
            let start = format!("{key} = ");
            out.lines()
                .find(|line| line.starts_with(&start))
                .unwrap_or_else(|| panic!("{key}"))
        };
        assert_eq!(
            line("size"),
            format!("{:<40} # command line --set pool.size", "size = 7")
        );
        assert_eq!(
            line("recycle"),
            format!("{:<40} # default", "recycle = \"30m\"")
        );
        assert!(line("url").starts_with("url = \"postgresql://ann:***@h:5432/d\" "));
        assert_eq!(
            out.lines().filter(|line| line.contains(" # ")).count(),
            ROWS.len()
        );
    }

    #[test]
    fn check_reports_all_problems_and_ends_with_2() {
        let (exit, out, err) = run(check_alone, &[("pool.size", "many"), ("pool.sise", "1")]);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert_eq!(err.lines().count(), 3, "{err}");
        assert!(err.contains("no PostgreSQL server is named"), "{err}");
        let (exit, out, err) = run(check_alone, &[URL]);
        assert_eq!((exit, err.as_str()), (Exit::Fine, ""));
        assert!(
            out.contains("ann:***@h:5432/d (from command line --set upstream.url)"),
            "{out}"
        );
    }
}

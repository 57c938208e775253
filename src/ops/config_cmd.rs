//! `poolwatch config check` and `show`.

use std::io::Write;

use crate::cli::Exit;
use crate::config::{Loaded, Sources, load};

/// Reports everything that is wrong with the settings.
///
/// # Errors
/// When the output cannot be written.
pub fn check(sources: &Sources, out: &mut dyn Write, err: &mut dyn Write) -> anyhow::Result<Exit> {
    let Some(loaded) = loaded(sources, err)? else {
        return Ok(Exit::Usage);
    };
    writeln!(out, "the settings are fine")?;
    if let Some(dsn) = &loaded.settings.upstream.url {
        writeln!(
            out,
            "upstream: {dsn} (from {})",
            loaded.origin("upstream.url")
        )?;
    }
    Ok(Exit::Fine)
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
    use super::*;
    use crate::config::{Argument, ROWS};

    type Command = fn(&Sources, &mut dyn Write, &mut dyn Write) -> anyhow::Result<Exit>;

    fn run(command: Command, values: &[(&str, &str)]) -> (Exit, String, String) {
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
        let (exit, out, err) = run(check, &[("pool.size", "many"), ("pool.sise", "1")]);
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert_eq!(err.lines().count(), 3, "{err}");
        assert!(err.contains("no PostgreSQL server is named"), "{err}");
        let (exit, out, err) = run(check, &[URL]);
        assert_eq!((exit, err.as_str()), (Exit::Fine, ""));
        assert!(
            out.contains("ann:***@h:5432/d (from command line --set upstream.url)"),
            "{out}"
        );
    }
}

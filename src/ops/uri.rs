//! `poolwatch uri`: one connection in every form.

use std::io::{Read, Write};

use crate::cli::{Exit, UriArgs};
use crate::dsn::{Dsn, Form, Rendered};

/// Prints the URL in every form, its password masked, and what each form cannot carry.
///
/// # Errors
/// When the input cannot be read or the output cannot be written.
pub fn run(
    arguments: &UriArgs,
    input: &mut dyn Read,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let mut text = arguments.url.clone();
    if text == "-" {
        text.clear();
        input.read_to_string(&mut text)?;
    }
    let dsn = match Dsn::parse(&text) {
        Ok(dsn) => dsn,
        Err(error) => {
            writeln!(err, "{error}")?;
            return Ok(Exit::Usage);
        }
    };
    if arguments.json {
        let forms = Form::ALL.map(|form| {
            let Rendered { text, notes } = dsn.render(form);
            serde_json::json!({"form": form.name(), "text": text, "notes": notes})
        });
        serde_json::to_writer_pretty(&mut *out, &forms)?;
        writeln!(out)?;
        return Ok(Exit::Fine);
    }
    for form in Form::ALL {
        let rendered = dsn.render(form);
        writeln!(out, "{:<22} {}", form.name(), rendered.text)?;
        for note in rendered.notes {
            writeln!(out, "{:<22}   {note}", "")?;
        }
    }
    Ok(Exit::Fine)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(url: &str, input: &str) -> (Exit, String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let url = url.to_owned();
        let exit = run(
            &UriArgs { url, json: false },
            &mut input.as_bytes(),
            &mut out,
            &mut err,
        )
        .unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (exit, text(out), text(err))
    }

    #[test]
    fn prints_every_form_with_the_password_masked() {
        let (exit, out, err) = uri(
            "jdbc:postgresql://h/d?user=ann&password=hunter2&prepareThreshold=0",
            "",
        );
        assert_eq!((exit, err.as_str()), (Exit::Fine, ""));
        for expected in [
            "libpq URL, psycopg     postgresql://ann:***@h:5432/d\n",
            "SQLAlchemy + asyncpg   postgresql+asyncpg://ann:***@h:5432/d\n",
            "JDBC                   jdbc:postgresql://h:5432/d?user=ann&password=***\n",
            "libpq key=value        host=h port=5432 user=ann password=*** dbname=d\n",
            "                         prepareThreshold: left out",
        ] {
            assert!(out.contains(expected), "{expected} is not in\n{out}");
        }
        assert!(!out.contains("hunter2"));
    }

    #[test]
    fn reads_the_url_from_the_standard_input() {
        let (exit, out, _) = uri("-", "postgresql://h/d\n");
        assert_eq!(exit, Exit::Fine);
        assert!(
            out.starts_with("libpq URL, psycopg     postgresql://h:5432/d\n"),
            "{out}"
        );
    }

    #[test]
    fn a_url_that_is_none_is_wrong_usage() {
        let (exit, out, err) = uri("sqlite:///x.db", "");
        assert_eq!((exit, out.as_str()), (Exit::Usage, ""));
        assert!(err.contains("nothing to pool"), "{err}");
    }
}

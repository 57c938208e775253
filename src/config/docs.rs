//! `docs/settings.md` and `config/default.toml`, written from the table and compared with what is shipped.
//!
//! After changing a row: `UPDATE_DOCS=1 cargo test --lib config::docs` writes them anew.

use std::fmt::Write;
use std::path::Path;

use super::table::{ROWS, Row, Rule};
use super::{Settings, Sources, load};

/// How wide a comment in `config/default.toml` may be.
const WIDTH: usize = 100;

const SETTINGS_HEAD: &str = "\
# Settings

Every key can be set in four places; a later one wins over an earlier one:

1. a file given with `--config FILE` (repeatable; TOML, shaped like [`config/default.toml`](../config/default.toml)),
2. for secrets, a file: `/run/secrets/NAME` or `/var/run/secrets/NAME` (`NAME` as written or in lower case), or the one
   that the variable `NAME_FILE` names, where `NAME` is the key's variable,
3. the environment: `POOLWATCH_SECTION__KEY`, so `pool.size` is `POOLWATCH_POOL__SIZE`; an empty variable counts as not set,
4. the command line: `--set section.key=value`, or a flag of its own (`poolwatch serve --help`).

Drop-in names are variables that an application has already; they count where none of the four says anything. Durations
are written with their unit (`500ms`, `30s`, `5m`). An unknown key is an error; other variables that begin with
`POOLWATCH_` are ignored. `poolwatch config check` reports everything that is wrong at once, and `poolwatch config show`
prints every value with the place that it came from. \"Reload\" says whether SIGHUP changes the key in a running process; the
others wait for a restart. `poolwatch config check --connect` also tries each host of the upstream, within
`upstream.connect_timeout`, and says what is wrong: a name without an address, nobody listening, no answer, TLS, the login,
a database that is not there, no connection left, a standby where a primary is wanted; and it warns where the pool may open
more connections than PostgreSQL takes. It ends with 0, with 1 where a host is not as it should be, with 2 where the settings
are wrong; `--json` prints one document.
";

const SETTINGS_TAIL: &str = "
## Where the upstream URL comes from

The first of these that says anything:

1. `--upstream-url`, `POOLWATCH_UPSTREAM__URL` (or its file), `upstream.url` in a settings file,
2. `DATABASE_URL`,
3. `LETTA_PG_URI`,
4. `LETTA_PG_HOST` with `LETTA_PG_USER` and `LETTA_PG_DB`, and `LETTA_PG_PORT` and `LETTA_PG_PASSWORD` where they are set,
5. the file `~/.letta/pg_uri`,
6. libpq's variables, if one of `PGHOST`, `PGHOSTADDR`, `PGPORT`, `PGUSER`, `PGDATABASE` is set: also `PGPASSWORD`, `PGSSLMODE`,
   `PGSSLROOTCERT`, `PGSSLCERT`, `PGSSLKEY`, `PGCONNECT_TIMEOUT`, `PGAPPNAME`, `PGOPTIONS`.

`DATABASE_URL`, `LETTA_PG_URI`, `LETTA_PG_PASSWORD` and `PGPASSWORD` may come from files in the same ways as secrets of our own.

These variables are also where an application is told to use poolwatch, so the two are easily mixed up: an upstream that
is one of poolwatch's own listeners is an error that names the variable.

## What a URL may look like

`postgres://` and `postgresql://` as libpq reads them (several hosts, percent-encoding, `[::1]`, sockets as
`host=/directory` or `%2Fdirectory`), `postgresql+asyncpg://`, `+psycopg://`, `+psycopg2://` and `+pg8000://` as SQLAlchemy reads
them, `jdbc:postgresql://`, and key=value pairs. `poolwatch uri URL` prints one in every other form: libpq's
(psycopg's too), asyncpg's own, SQLAlchemy's with asyncpg, psycopg, psycopg2 and pg8000, JDBC, Go's pgx, and key=value; the
password is masked, and what a form cannot carry is said below it. `--json` prints one document.
";

/// The whole of `docs/settings.md`.
fn settings_page() -> String {
    let defaults = Settings::default();
    let mut page = SETTINGS_HEAD.to_owned();
    let mut section = "";
    for row in ROWS {
        if row.section() != section {
            section = row.section();
            let _ = write!(
                page,
                "\n## `[{section}]`\n\n| key | meaning | unit | default | reload | drop-in name |\n|---|---|---|---|---|---|\n"
            );
        }
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {} | {} | {} |",
            row.name,
            cell(row.meaning),
            cell(row.unit),
            default_of(row, &defaults),
            if row.reloadable { "yes" } else { "no" },
            drop_ins(row),
        );
    }
    page + SETTINGS_TAIL
}

fn default_of(row: &Row, defaults: &Settings) -> String {
    match row.show(defaults).as_str() {
        "" => "none".to_owned(),
        value => format!("`{value}`"),
    }
}

fn drop_ins(row: &Row) -> String {
    let names: Vec<_> = row
        .drop_in
        .iter()
        .map(|drop_in| match drop_in.rule {
            Rule::Same => format!("`{}`", drop_in.name),
            Rule::Seconds => format!("`{}` (seconds)", drop_in.name),
            Rule::Inverted => format!("`{}` (inverted)", drop_in.name),
        })
        .collect();
    names.join(", ")
}

/// A text in a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// The whole of `config/default.toml`.
fn default_file() -> String {
    let defaults = Settings::default();
    let mut file = "# Every setting with its default. Copy what you change; docs/settings.md says where else it can be set.\n".to_owned();
    let mut section = "";
    for row in ROWS {
        if row.section() != section {
            section = row.section();
            let _ = write!(file, "\n[{section}]\n");
        }
        wrap(&mut file, row.meaning);
        let reload = if row.reloadable {
            "changed by a reload"
        } else {
            "needs a restart"
        };
        let _ = writeln!(file, "# ({}; {reload})", row.unit);
        let _ = writeln!(file, "{} = {}", row.key(), row.toml(&defaults));
    }
    file
}

fn wrap(file: &mut String, text: &str) {
    let mut line = "#".to_owned();
    for word in text.split_whitespace() {
        if line.len() + 1 + word.len() > WIDTH {
            let _ = writeln!(file, "{line}");
            line = "#".to_owned();
        }
        line.push(' ');
        line.push_str(word);
    }
    let _ = writeln!(file, "{line}");
}

/// Compares a shipped file with what it must be, or writes it where that is asked for.
fn assert_shipped(path: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, expected).unwrap();
    }
    let shipped = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        shipped,
        expected,
        "{} is not what the table says; UPDATE_DOCS=1 cargo test --lib config::docs writes it anew",
        path.display()
    );
}

#[test]
fn the_settings_page_says_what_the_table_says() {
    assert_shipped("docs/settings.md", &settings_page());
}

#[test]
fn the_default_file_says_what_the_table_says() {
    assert_shipped("config/default.toml", &default_file());
}

#[test]
fn the_default_file_sets_the_defaults() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/default.toml");
    let mut sources = Sources::of_process(vec![path.clone()], Vec::new());
    sources.environment.clear();
    // The machine may have secrets of its own.
    sources.read = Box::new(move |asked| {
        if asked == path {
            return std::fs::read_to_string(asked);
        }
        Err(std::io::ErrorKind::NotFound.into())
    });
    let loaded = load(&sources).unwrap();
    assert_eq!(loaded.settings, Settings::default());
}

#[test]
fn every_row_is_complete() {
    for row in ROWS {
        assert!(row.meaning.ends_with('.'), "{}", row.name);
        assert!(!row.unit.is_empty(), "{}", row.name);
        assert_eq!(
            ROWS.iter().filter(|other| other.name == row.name).count(),
            1,
            "{} stands twice",
            row.name
        );
    }
}

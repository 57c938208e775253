//! Names that are there before poolwatch comes: the application's variables and libpq's.

use std::path::Path;
use std::time::Duration;

use super::environment::named;
use super::load::Reading;
use super::origin::Origin;
use super::sources::Sources;
use super::table::{ROWS, Row, Rule};
use super::value::{Value, ValueError};
use crate::dsn::{Dsn, ParseError};

/// The key whose value may also be put together from several variables.
const URL: &str = "upstream.url";

/// Fills in what no layer of our own has set.
pub(super) fn read(sources: &Sources, reading: &mut Reading) {
    for row in ROWS {
        if !reading.is_set(row.name) {
            from_variables(sources, row, reading);
        }
    }
    if reading.is_set(URL) {
        return;
    }
    let parts: [fn(&Sources, &mut Reading) -> Found; 3] = [letta_parts, letta_file, libpq];
    for part in parts {
        if let Some((dsn, origin)) = part(sources, reading) {
            return reading.take_upstream(dsn, origin);
        }
    }
}

/// A server that was found, and where; a URL that could not be read is found too.
type Found = Option<(Result<Dsn, ParseError>, Origin)>;

fn from_variables(sources: &Sources, row: &'static Row, reading: &mut Reading) {
    for drop_in in row.drop_in {
        let found = if row.secret {
            named(sources, drop_in.name, reading)
        } else {
            let name = drop_in.name.to_owned();
            sources
                .variable(drop_in.name)
                .map(|text| (text.to_owned(), Origin::DropIn { name }))
        };
        if let Some((text, origin)) = found {
            match translate(drop_in.rule, &text) {
                Ok(text) => reading.take(row.name, &text, origin),
                Err(error) => reading.wrong(origin, Some(row.name.to_owned()), error.into()),
            }
            return;
        }
    }
}

fn translate(rule: Rule, text: &str) -> Result<String, ValueError> {
    match rule {
        Rule::Same => Ok(text.to_owned()),
        Rule::Inverted => Ok((!bool::read(text)?).show()),
        Rule::Seconds => {
            let wrong = || ValueError::Seconds {
                text: text.to_owned(),
            };
            // What SQLAlchemy writes for "never"; keys that know no "never" refuse it.
            if text.trim() == "-1" {
                return Ok("-1".to_owned());
            }
            let seconds = text.trim().parse().map_err(|_| wrong())?;
            Duration::try_from_secs_f64(seconds)
                .map(|duration| duration.show())
                .map_err(|_| wrong())
        }
    }
}

/// `LETTA_PG_HOST` and its companions. Without host, user and database they do not name a server.
fn letta_parts(sources: &Sources, reading: &mut Reading) -> Found {
    let host = sources.variable("LETTA_PG_HOST")?.to_owned();
    let user = sources.variable("LETTA_PG_USER")?.to_owned();
    let database = sources.variable("LETTA_PG_DB")?.to_owned();
    let mut parameters = vec![("host", host), ("user", user), ("dbname", database)];
    if let Some(port) = sources.variable("LETTA_PG_PORT") {
        parameters.push(("port", port.to_owned()));
    }
    if let Some((password, _)) = named(sources, "LETTA_PG_PASSWORD", reading) {
        parameters.push(("password", password));
    }
    let name = "LETTA_PG_HOST".to_owned();
    Some((from_parameters(parameters), Origin::DropIn { name }))
}

/// `~/.letta/pg_uri`.
fn letta_file(sources: &Sources, _: &mut Reading) -> Found {
    let path = Path::new(sources.variable("HOME")?).join(".letta/pg_uri");
    // Somebody else's file: one that cannot be read is no reason not to start.
    let text = (sources.read)(&path).ok()?;
    let text = text.trim();
    let variable = None;
    (!text.is_empty()).then(|| (Dsn::parse(text), Origin::SecretFile { path, variable }))
}

/// libpq's variables (PostgreSQL, documentation, "Environment Variables") and the parameters they stand for.
const LIBPQ: [(&str, &str); 13] = [
    ("PGHOST", "host"),
    ("PGHOSTADDR", "hostaddr"),
    ("PGPORT", "port"),
    ("PGUSER", "user"),
    ("PGDATABASE", "dbname"),
    ("PGPASSWORD", "password"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
    ("PGAPPNAME", "application_name"),
    ("PGOPTIONS", "options"),
];

/// How many of the first in [`LIBPQ`] name a server or a database; the others alone do not.
const NAMING: usize = 5;

fn libpq(sources: &Sources, reading: &mut Reading) -> Found {
    let naming = LIBPQ[..NAMING]
        .iter()
        .find(|(name, _)| sources.variable(name).is_some())?;
    let mut parameters = Vec::new();
    for (name, parameter) in LIBPQ {
        let value = if parameter == "password" {
            named(sources, name, reading).map(|(value, _)| value)
        } else {
            sources.variable(name).map(str::to_owned)
        };
        parameters.extend(value.map(|value| (parameter, value)));
    }
    let name = naming.0.to_owned();
    Some((from_parameters(parameters), Origin::DropIn { name }))
}

fn from_parameters(parameters: Vec<(&str, String)>) -> Result<Dsn, ParseError> {
    Dsn::from_parameters(
        parameters
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    )
}

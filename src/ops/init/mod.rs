//! `poolwatch init`: makes the application's role, database and schema where they are absent, and says what it did.
//!
//! - `names`: who and what, from secrets, variables and defaults; `facts`, `inspect`: what is there; `plan`: what is to be done; `refusal`: what forbids to begin;
//! - `apply`: connects, locks and does it; `report`, `error`: what is told; `script`: the same for psql.

mod apply;
mod error;
mod facts;
mod inspect;
mod names;
mod plan;
mod refusal;
mod report;
mod script;
#[cfg(test)]
mod tests;

use std::io::Write;

use self::apply::Run;
use self::facts::Wanted;
use self::names::{Given, Names, is_local};
use self::report::Report;
use crate::cli::{Exit, InitArgs};
use crate::config::{Loaded, Sources, load};
use crate::ops::direct::connection;

pub use self::error::InitError;
pub use self::names::NameError;
pub use self::plan::Step;
pub use self::refusal::Refusal;

/// Where every server has a database to connect to.
const ENTRY: &str = "postgres";

/// Runs `init`, or prints the script that does the same.
///
/// # Errors
/// When the output cannot be written. What goes wrong with the database is printed, and is an [`Exit`].
pub fn run(
    arguments: &InitArgs,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<Exit> {
    let loaded = match load(sources) {
        Ok(loaded) => loaded,
        Err(problems) => {
            writeln!(err, "{problems}")?;
            return Ok(Exit::Usage);
        }
    };
    if arguments.print_sql {
        let init = &loaded.settings.init;
        write!(
            out,
            "{}",
            script::script(init.vector, init.drop_public, init.sidecar)
        )?;
        return Ok(Exit::Fine);
    }
    let mut report = Report {
        dry_run: arguments.dry_run,
        ..Report::default()
    };
    if let Err(error) = initialise(arguments, sources, &loaded, &mut report, err)? {
        report.error = Some(error);
    }
    if arguments.json {
        report.json(out)?;
    } else {
        report.text(out, err)?;
    }
    Ok(report.exit())
}

/// The outer error is that of the runtime.
fn initialise(
    arguments: &InitArgs,
    sources: &Sources,
    loaded: &Loaded,
    report: &mut Report,
    told: &mut dyn Write,
) -> anyhow::Result<Result<(), InitError>> {
    let settings = &loaded.settings;
    let upstream = settings.upstream.url.as_ref();
    let upstream_origin = loaded.origin("upstream.url");
    let Some(dsn) = settings.init.url.as_ref().or(upstream) else {
        return Ok(Err(InitError::NoServer));
    };
    let given = Given {
        user: arguments.user.as_deref(),
        database: arguments.database.as_deref(),
        upstream: upstream.map(|dsn| (dsn, upstream_origin)),
    };
    let names = match Names::find(sources, &given) {
        Ok(names) => names,
        Err(wrong) => return Ok(Err(InitError::Names(wrong))),
    };
    report.names = Some(names.clone());
    let local = dsn.hosts.iter().all(|host| is_local(&host.host));
    let config = match connection(dsn, settings.upstream.connect_timeout) {
        Ok(config) => config,
        Err(error) => return Ok(Err(error.into())),
    };
    let mut entries = vec![ENTRY.to_owned(), names.database.value.clone()];
    if let Some(database) = settings
        .init
        .url
        .as_ref()
        .and_then(|dsn| dsn.database.clone())
    {
        entries.insert(0, database);
    }
    let wanted = Wanted {
        names,
        vector: settings.init.vector,
        drop_public: settings.init.drop_public,
        sidecar: settings.init.sidecar,
        local,
    };
    let mut run = Run {
        wanted: &wanted,
        config,
        entries,
        wait: arguments.wait,
        lock_timeout: arguments.lock_timeout,
        dry_run: arguments.dry_run,
        told,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(run.run(report)))
}

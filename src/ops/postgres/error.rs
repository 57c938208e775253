//! Why a throw-away server could not be started, stopped or signalled.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of the launcher. The text is meant for the person who started the demo or the tests.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No binaries on this machine, and none could be fetched.
    #[error(
        "no PostgreSQL server was found on this machine (looked in {}); install one, for example \
         with `apt-get install postgresql` or `brew install postgresql`{}",
        searched.join(", "),
        fetch.as_deref().map(|why| format!("; fetching it was tried too and failed: {why}")).unwrap_or_default()
    )]
    NoBinaries {
        /// The places that were looked at.
        searched: Vec<String>,
        /// Why fetching failed, with every cause; `None` where this build does not fetch.
        fetch: Option<String>,
    },
    /// We are root, PostgreSQL refuses to run as root, and there is nobody else to run it as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor `nobody`"
    )]
    NoAccount,
    /// The users of the machine could not be read.
    #[error("could not look up the operating system's user {name}")]
    Account {
        /// The name looked for.
        name: &'static str,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// None of the directories for temporary files can be used by the account the server runs as.
    #[error("no directory for temporary files can be used by the user {account} (tried {})", tried.join(", "))]
    NoDirectory {
        /// The account the server would run as.
        account: String,
        /// Each directory with what was wrong.
        tried: Vec<String>,
    },
    /// A file of the server's could not be read, written or handed over.
    #[error("could not use {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("could not start {}", program.display())]
    Spawn {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No port could be had from the system.
    #[error("the system gave no free port on 127.0.0.1")]
    Port(#[source] io::Error),
    /// `initdb` failed.
    #[error("initdb failed ({status}): {output}")]
    Initdb {
        /// How it ended.
        status: String,
        /// The end of what it wrote.
        output: String,
    },
    /// The server ended before it accepted a connection.
    #[error("PostgreSQL ended before it was ready ({status}): {log}")]
    Exited {
        /// How it ended.
        status: String,
        /// The end of its log.
        log: String,
    },
    /// The server runs but did not accept a connection in time.
    #[error("PostgreSQL was not ready within {waited:?}: {last}")]
    NotReady {
        /// How long was waited.
        waited: Duration,
        /// The last answer to an attempt to connect.
        last: String,
    },
    /// The server did not end in time.
    #[error("PostgreSQL was still running {waited:?} after it was told to stop")]
    StillRunning {
        /// How long was waited.
        waited: Duration,
    },
    /// The server is stopped, so there is nothing to signal.
    #[error("PostgreSQL is not running")]
    NotRunning,
    /// A process could not be signalled.
    #[error("could not signal process {pid}")]
    Signal {
        /// The process.
        pid: i32,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

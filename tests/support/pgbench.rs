//! pgbench through poolwatch: an independent witness of how many transactions there were.

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::{Database, Sidecar};

/// The longest one run may take; each is started with an end of its own far below.
const LIMIT: Duration = Duration::from_secs(120);
/// Names script files.
static NEXT: AtomicU32 = AtomicU32::new(1);

/// What pgbench said at its end.
#[derive(Debug, Clone)]
pub struct Pgbench {
    /// "number of transactions actually processed".
    pub transactions: u32,
    /// Its exit code.
    pub code: Option<i32>,
    /// Standard error.
    pub errors: String,
}

impl Pgbench {
    /// Runs a script of the caller's through the sidecar, without TLS. No statement is sent but the script's: `-n` leaves
    /// out the vacuum, and pgbench asks for its own tables only where it runs built-in scripts.
    ///
    /// A client that meets an error ends and the others go on; the count is that of transactions completed.
    pub async fn run(
        database: &Database,
        sidecar: &Sidecar,
        script: &str,
        arguments: &[&str],
    ) -> Self {
        let script = ScriptFile::new(script);
        let mut command = tokio::process::Command::new(database.program.with_file_name("pgbench"));
        command.arg("-n").args(arguments).arg("-f").arg(&script.0);
        command.arg(sidecar.url());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command
            .env("LC_ALL", "C")
            .env("PGSSLMODE", "disable")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let output = tokio::time::timeout(LIMIT, command.output())
            .await
            .expect("pgbench did not end")
            .expect("start pgbench");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        let transactions = text
            .lines()
            .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
            .and_then(|count| count.split('/').next()?.trim().parse().ok())
            .unwrap_or_else(|| panic!("no count in pgbench's report:\n{text}\n{errors}"));
        Self {
            transactions,
            code: output.status.code(),
            errors,
        }
    }

    /// The count of transactions, of a run in which nothing went wrong.
    #[track_caller]
    pub fn clean(self) -> u32 {
        assert_eq!(self.code, Some(0), "pgbench failed: {}", self.errors);
        self.transactions
    }
}

/// A script on disk, for as long as it is used.
#[derive(Debug)]
struct ScriptFile(PathBuf);

impl ScriptFile {
    fn new(text: &str) -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("poolwatch-test-{}-{number}.sql", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, text).expect("write pgbench's script");
        Self(path)
    }
}

impl Drop for ScriptFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

//! Child processes that do not outlive us, even if we are killed by SIGKILL.
//!
//! `PR_SET_PDEATHSIG` would need unsafe code and exists on Linux alone. Instead a small shell script waits on a pipe
//! whose other end we hold: the kernel closes that end however we die, and the script reads the end of file. Rust
//! opens the pipe close-on-exec, so no other child keeps it open by accident.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::LaunchError;
use super::account::Account;
use super::files;

/// Runs `"$@"` and kills it at the end of file. A line on standard input names the processes to wake first (SIGCONT),
/// because a stopped server cannot die. SIGTERM goes before SIGQUIT: a shell starts background jobs with SIGQUIT
/// ignored, so a server that has not yet installed its handlers would survive SIGQUIT alone. Exits as `"$@"` does.
///
/// SIGHUP is ignored: our death orphans the process group, and the kernel then sends SIGHUP to all of a group that has
/// a stopped member. (PostgreSQL's programs install their own handler, for reloading.)
const RUN: &str = r#"
trap '' HUP
exec 3<&0 </dev/null
"$@" 3<&- &
child=$!
(
    stopped=
    while read -r line <&3; do stopped=$line; done
    for pid in $stopped; do kill -CONT "$pid"; done
    kill -TERM "$child"
    kill -QUIT "$child"
    tries=0
    while kill -0 "$child" && [ "$tries" -lt 500 ]; do
        tries=$((tries + 1))
        sleep 0.02
    done
    kill -KILL "$child"
) 2>/dev/null &
reader=$!
exec 3<&-
wait "$child"
status=$?
kill "$reader" 2>/dev/null
wait "$reader"
exit "$status"
"#;

/// Removes the directory `$1` at the end of file. Repeated, since a dying server may still be writing there.
const KEEP: &str = r#"
trap '' HUP
while read -r line; do :; done
cd /
tries=0
while [ -e "$1" ] && [ "$tries" -lt 600 ]; do
    rm -rf "$1" 2>/dev/null && break
    tries=$((tries + 1))
    sleep 0.05
done
"#;

/// How long a dying child is waited for when its guard is dropped: longer than the script's own patience (10 s).
const DROP_LIMIT: Duration = Duration::from_secs(15);
/// How often an ending child is looked at.
const POLL: Duration = Duration::from_millis(5);

/// A running script and our end of its pipe. Dropping it lets the script do its work and waits for that.
///
/// A child of the standard library and not of tokio: a server shared by many tests outlives the runtime of the test
/// that started it.
#[derive(Debug)]
pub(super) struct Guard {
    child: Child,
}

impl Guard {
    /// Runs a program that dies with us, both outputs appended to `log`.
    pub(super) fn run(
        account: &Account,
        directory: &Path,
        program: &Path,
        arguments: &[&str],
        log: &Path,
    ) -> Result<Self, LaunchError> {
        let log = files::open_log(log)?;
        let log_again = log.try_clone().map_err(|source| LaunchError::Spawn {
            program: program.to_owned(),
            source,
        })?;
        let mut command = account.command("/bin/sh", directory);
        command
            .args(["-c", RUN, "sh"])
            .arg(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(log_again);
        Self::spawn(command)
    }

    /// Removes the directory when we are gone.
    pub(super) fn keep(account: &Account, directory: &Path) -> Result<Self, LaunchError> {
        let mut command = account.command("/bin/sh", Path::new("/"));
        command
            .args(["-c", KEEP, "sh"])
            .arg(directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        Self::spawn(command)
    }

    fn spawn(mut command: std::process::Command) -> Result<Self, LaunchError> {
        let child = command.spawn().map_err(|source| LaunchError::Spawn {
            program: PathBuf::from(command.get_program()),
            source,
        })?;
        Ok(Self { child })
    }

    /// Tells the script which processes are stopped, so that it can wake them before it kills.
    pub(super) fn note_stopped(&mut self, pids: &[i32]) -> io::Result<()> {
        let mut line = pids
            .iter()
            .map(i32::to_string)
            .collect::<Vec<_>>()
            .join(" ");
        line.push('\n');
        match self.child.stdin.as_mut() {
            Some(pipe) => pipe.write_all(line.as_bytes()),
            None => Ok(()),
        }
    }

    /// How the program ended, or `None` while it runs.
    pub(super) fn exited(&mut self) -> Option<String> {
        match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(status)) => Some(describe(status)),
            Err(error) => Some(error.to_string()),
        }
    }

    /// Waits for the program's end, at most `limit`; how it ended, and whether it succeeded.
    pub(super) async fn wait(&mut self, limit: Duration) -> Option<(String, bool)> {
        let deadline = Instant::now() + limit;
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some((describe(status), status.success()));
            }
            if Instant::now() >= deadline {
                return None;
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let deadline = Instant::now() + DROP_LIMIT;
        while let Ok(None) = self.child.try_wait() {
            if Instant::now() >= deadline {
                // The script itself is stuck. There is nobody to report to from a drop.
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            std::thread::sleep(POLL);
        }
    }
}

fn describe(status: ExitStatus) -> String {
    status.to_string()
}

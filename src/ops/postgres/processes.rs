//! Signals to the server and its children.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::LaunchError;

/// Sends a signal. A process that is already gone is no error: whoever signals a server's children races with them.
pub(super) fn send(pid: i32, signal: Signal) -> Result<(), LaunchError> {
    match kill(Pid::from_raw(pid), signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(LaunchError::Signal {
            pid,
            source: errno.into(),
        }),
    }
}

/// The processes whose parent is `parent`: `/proc` where there is one, `ps` elsewhere.
pub(super) fn children(parent: i32) -> Vec<i32> {
    match fs::read_dir("/proc") {
        Ok(entries) => entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
            .filter(|pid| parent_in_proc(*pid) == Some(parent))
            .collect(),
        Err(_) => children_from_ps(parent),
    }
}

/// Field 4 of `/proc/PID/stat` (proc_pid_stat(5)); field 2 is a name in brackets that may hold anything.
fn parent_in_proc(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    let after_name = &stat[stat.rfind(')')? + 1..];
    after_name.split_ascii_whitespace().nth(1)?.parse().ok()
}

fn children_from_ps(parent: i32) -> Vec<i32> {
    let Ok(output) = Command::new("ps").args(["-A", "-o", "pid=,ppid="]).output() else {
        return Vec::new();
    };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            let pid = fields.next()?.parse().ok()?;
            (fields.next()?.parse() == Ok(parent)).then_some(pid)
        })
        .collect()
}

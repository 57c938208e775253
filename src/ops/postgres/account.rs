//! The operating system's user that the server runs as: ourselves, or, as root, somebody else, because PostgreSQL
//! refuses to run as root.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{User, geteuid};

use super::LaunchError;

/// Tried in this order when we are root. `nobody` exists everywhere, but other programs may run as it too.
const SUBSTITUTES: [&str; 2] = ["postgres", "nobody"];

/// What a server may see of our environment. Not `PG*`, which would steer it elsewhere.
const KEPT_VARIABLES: [&str; 4] = ["PATH", "TZ", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"];

/// Who runs the server.
#[derive(Debug, Clone)]
pub(super) struct Account {
    /// User and group id to change to; `None` means to stay who we are.
    change_to: Option<(u32, u32)>,
    name: String,
}

impl Account {
    /// Ourselves, or a substitute if we are root.
    pub(super) fn choose() -> Result<Self, LaunchError> {
        if !geteuid().is_root() {
            return Ok(Self {
                change_to: None,
                name: "running this program".to_owned(),
            });
        }
        for name in SUBSTITUTES {
            let user = User::from_name(name).map_err(|errno| LaunchError::Account {
                name,
                source: errno.into(),
            })?;
            if let Some(user) = user.filter(|user| !user.uid.is_root()) {
                return Ok(Self {
                    change_to: Some((user.uid.as_raw(), user.gid.as_raw())),
                    name: user.name,
                });
            }
        }
        Err(LaunchError::NoAccount)
    }

    /// Its name, for messages.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is another user than the one we run as.
    #[cfg(feature = "fetch-postgres")]
    pub(super) fn differs(&self) -> bool {
        self.change_to.is_some()
    }

    /// A command that will run as this account, in a process group of its own (so that a Ctrl-C at the terminal
    /// reaches us alone and we stop it in our own time), with a small environment.
    ///
    /// The standard library drops root's supplementary groups when it changes the user.
    pub(super) fn command(&self, program: impl AsRef<OsStr>, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("LC_ALL", "C")
            .env("HOME", directory)
            .current_dir(directory)
            .process_group(0);
        for name in KEPT_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some((uid, gid)) = self.change_to {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Hands a file or directory over to this account.
    pub(super) fn give(&self, path: &Path) -> io::Result<()> {
        match self.change_to {
            Some((uid, gid)) => chown(path, Some(uid), Some(gid)),
            None => Ok(()),
        }
    }
}

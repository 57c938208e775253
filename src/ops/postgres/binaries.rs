//! Finds PostgreSQL's server programs on this machine, or fetches them.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::LaunchError;
use super::account::Account;

/// Where Homebrew installs (Apple silicon, Intel, Linux).
const HOMEBREW_PREFIXES: [&str; 3] = ["/opt/homebrew", "/usr/local", "/home/linuxbrew/.linuxbrew"];
/// Debian's and Red Hat's directories with a folder for each version.
const VERSIONED_ROOTS: [&str; 2] = ["/usr/lib/postgresql", "/usr/local/lib/postgresql"];

/// The directory that holds `initdb`, `postgres` and what else came with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    directory: PathBuf,
}

impl Binaries {
    /// Finds binaries: `PATH`, `pg_config --bindir`, the distributions' directories (newest version first), Homebrew;
    /// else fetches them into the user's cache where the feature `fetch-postgres` is on.
    ///
    /// # Errors
    /// [`LaunchError::NoBinaries`] with the places and what to install; [`LaunchError::NoAccount`] as root on a
    /// machine without a user to run them as.
    pub async fn find() -> Result<Self, LaunchError> {
        Self::find_for(&Account::choose()?).await
    }

    pub(super) async fn find_for(account: &Account) -> Result<Self, LaunchError> {
        let places = places();
        for (_, directory) in &places {
            let candidate = Self::at(directory);
            if candidate.usable_by(account) {
                return Ok(candidate);
            }
        }
        let searched = searched(&places);
        #[cfg(feature = "fetch-postgres")]
        {
            match super::fetch::fetch(account).await {
                Ok(directory) => {
                    let fetched = Self::at(&directory);
                    if fetched.usable_by(account) {
                        return Ok(fetched);
                    }
                    Err(LaunchError::NoBinaries {
                        searched,
                        fetch: Some(format!(
                            "the programs in {} do not run here",
                            directory.display()
                        )),
                    })
                }
                Err(why) => Err(LaunchError::NoBinaries {
                    searched,
                    fetch: Some(why),
                }),
            }
        }
        #[cfg(not(feature = "fetch-postgres"))]
        Err(LaunchError::NoBinaries {
            searched,
            fetch: None,
        })
    }

    /// Binaries in a known directory.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// A program of PostgreSQL's by its name (`postgres`, `psql`, `pgbench` …). It need not exist.
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Both programs are there and `postgres` runs as the account (it may lack the right to reach them).
    fn usable_by(&self, account: &Account) -> bool {
        self.program("initdb").is_file()
            && account
                .command(self.program("postgres"), Path::new("/"))
                .arg("--version")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    }
}

/// Candidate directories in order of preference, each with the name of the search that gave it.
fn places() -> Vec<(&'static str, PathBuf)> {
    let mut places: Vec<(&'static str, PathBuf)> = Vec::new();
    let path = std::env::var_os("PATH").unwrap_or_default();
    places.extend(in_path(&path).map(|directory| ("PATH", directory)));
    places.extend(asked_of_pg_config().map(|directory| ("pg_config --bindir", directory)));
    for root in VERSIONED_ROOTS {
        let found = newest_first(Path::new(root), "", "bin");
        places.extend(found.into_iter().map(|directory| (root, directory)));
    }
    let red_hat = newest_first(Path::new("/usr"), "pgsql-", "bin");
    places.extend(
        red_hat
            .into_iter()
            .map(|directory| ("/usr/pgsql-*", directory)),
    );
    for prefix in HOMEBREW_PREFIXES {
        let found = newest_first(&Path::new(prefix).join("opt"), "postgresql@", "bin");
        places.extend(found.into_iter().map(|directory| ("Homebrew", directory)));
        places.push(("Homebrew", Path::new(prefix).join("opt/postgresql/bin")));
    }
    places
}

/// The searches by name, then the directories they gave.
fn searched(places: &[(&'static str, PathBuf)]) -> Vec<String> {
    let mut names: Vec<String> = [
        "PATH",
        "pg_config --bindir",
        "/usr/lib/postgresql/*/bin",
        "/usr/pgsql-*/bin",
        "Homebrew",
    ]
    .map(str::to_owned)
    .to_vec();
    let unusable = places
        .iter()
        .filter(|(_, directory)| directory.join("postgres").is_file())
        .map(|(_, directory)| format!("{} (does not run)", directory.display()));
    names.extend(unusable);
    names
}

fn in_path(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(path)
        .filter(|directory| directory.is_absolute() && directory.join("postgres").is_file())
        // Homebrew and some distributions link the programs into /usr/bin; the server finds its share files from
        // where it really is.
        .filter_map(|directory| {
            let real = fs::canonicalize(directory.join("postgres")).ok()?;
            real.parent().map(Path::to_owned)
        })
}

fn asked_of_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config")
        .arg("--bindir")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let directory = PathBuf::from(text.trim());
    directory.is_absolute().then_some(directory)
}

/// `root/{prefix}{version}/{below}` for each version that is there, the newest first, compared as numbers.
fn newest_first(root: &Path, prefix: &str, below: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(root) else {
        return Vec::new();
    };
    let mut found: Vec<(Vec<u32>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let version = name.to_str()?.strip_prefix(prefix)?;
            let numbers = version.split('.').map(str::parse).collect::<Result<_, _>>();
            Some((numbers.ok()?, entry.path().join(below)))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, path)| path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers_and_other_names_are_passed_over() {
        let root = std::env::temp_dir().join(format!("poolwatch-bins-{}", rand::random::<u32>()));
        for name in ["9.6", "15", "17", "old", "postgresql@16"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let found = newest_first(&root, "", "bin");
        let homebrew = newest_first(&root, "postgresql@", "bin");
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(
            found,
            ["17", "15", "9.6"].map(|version| root.join(version).join("bin"))
        );
        assert_eq!(homebrew, [root.join("postgresql@16").join("bin")]);
    }

    #[test]
    fn a_machine_without_postgresql_is_told_what_to_do() {
        let error = LaunchError::NoBinaries {
            searched: searched(&[]),
            fetch: Some("the network refused".to_owned()),
        };
        let text = error.to_string();
        assert!(text.contains("apt-get install postgresql"), "{text}");
        assert!(text.contains("/usr/lib/postgresql/*/bin"), "{text}");
        assert!(text.contains("the network refused"), "{text}");
    }
}

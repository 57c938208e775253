//! New scripts.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};

use crate::migrate::Directory;

/// Makes the file, or the pair, of a migration; the names of what was made.
pub(super) fn create(directory: &Path, name: &str) -> anyhow::Result<Vec<String>> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || !name.chars().all(fits) {
        bail!("the name of a migration has letters, digits and _ only, and {name:?} has not");
    }
    std::fs::create_dir_all(directory)
        .with_context(|| format!("{} cannot be made", directory.display()))?;
    let there = Directory::read(directory)?;
    let latest = there.ups().map(|script| script.migration.version).max();
    // Above all that is there, whatever its numbers mean.
    let version = now().max(latest.map_or(1, |latest| latest.saturating_add(1)));
    let kinds: &[&str] = if there.is_reversible() {
        &["up.sql", "down.sql"]
    } else {
        &["sql"]
    };
    let mut made = Vec::new();
    for kind in kinds {
        let path = directory.join(format!("{version}_{name}.{kind}"));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)
            .with_context(|| format!("{} cannot be made", path.display()))?;
        let what = if *kind == "down.sql" {
            "undoes"
        } else {
            "makes"
        };
        writeln!(file, "-- What {what} {name}.")?;
        made.push(path.display().to_string());
    }
    Ok(made)
}

/// The time as sqlx's tool numbers migrations: YYYYMMDDhhmmss, UTC.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    stamp(since.map_or(0, |since| since.as_secs()))
}

fn stamp(seconds: u64) -> i64 {
    let text =
        humantime::format_rfc3339_seconds(UNIX_EPOCH + std::time::Duration::from_secs(seconds));
    let digits: String = text
        .to_string()
        .chars()
        .filter(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_the_time() {
        assert_eq!(stamp(1_700_000_000), 20_231_114_221_320);
    }
}

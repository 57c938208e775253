//! `POOLWATCH_SECTION__KEY`, and secrets in files.

use std::path::{Path, PathBuf};

use super::load::Reading;
use super::origin::Origin;
use super::problem::Wrong;
use super::sources::Sources;
use super::table::ROWS;

/// What our variables begin with.
pub(super) const PREFIX: &str = "POOLWATCH_";

/// Ends the name of a variable that names a file with the value.
const FILE_SUFFIX: &str = "_FILE";

/// Where container platforms put secrets, one a file.
const SECRET_DIRECTORIES: [&str; 2] = ["/run/secrets", "/var/run/secrets"];

/// Hands over the secrets that lie in files, for every key that takes one and is not set by its own variable.
pub(super) fn read_secrets(sources: &Sources, reading: &mut Reading) {
    for row in ROWS.iter().filter(|row| row.secret) {
        match named(sources, &row.variable(), reading) {
            // The variable itself is `read`'s.
            None | Some((_, Origin::DropIn { .. })) => {}
            Some((text, origin)) => reading.take(row.name, &text, origin),
        }
    }
}

/// Hands every variable of our form to `reading`. Others that begin alike are left alone: Kubernetes sets
/// `POOLWATCH_PORT` and its kind for a Service of that name.
pub(super) fn read(sources: &Sources, reading: &mut Reading) {
    for (name, value) in &sources.environment {
        let Some((section, key)) = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split_once("__"))
        else {
            continue;
        };
        let section = section.to_ascii_lowercase();
        if value.is_empty() || !ROWS.iter().any(|row| row.section() == section) {
            continue;
        }
        let key = format!("{section}.{}", key.to_ascii_lowercase());
        if !names_a_secret_file(&key) {
            reading.take(&key, value, Origin::Environment { name: name.clone() });
        }
    }
}

fn names_a_secret_file(key: &str) -> bool {
    let suffix = FILE_SUFFIX.to_ascii_lowercase();
    key.strip_suffix(&suffix)
        .is_some_and(|key| ROWS.iter().any(|row| row.secret && row.name == key))
}

/// The value that a name stands for, and where it was found: the variable itself, the file that `NAME_FILE` names, or
/// a file of that name among the platform's secrets.
pub(super) fn named(
    sources: &Sources,
    name: &str,
    reading: &mut Reading,
) -> Option<(String, Origin)> {
    let by_file = format!("{name}{FILE_SUFFIX}");
    let own = sources.variable(name);
    if let Some(path) = sources.variable(&by_file) {
        let origin = Origin::SecretFile {
            path: PathBuf::from(path),
            variable: Some(by_file.clone()),
        };
        if own.is_some() {
            let name = name.to_owned();
            reading.wrong(origin, None, Wrong::GivenTwice { name });
            return None;
        }
        return match (sources.read)(Path::new(path)) {
            Ok(text) => Some((without_line_end(text), origin)),
            Err(error) => {
                let cause = error.to_string();
                reading.wrong(origin, None, Wrong::Unreadable { cause });
                None
            }
        };
    }
    if let Some(value) = own {
        let name = name.to_owned();
        return Some((value.to_owned(), Origin::DropIn { name }));
    }
    SECRET_DIRECTORIES
        .iter()
        .flat_map(|directory| {
            [name.to_owned(), name.to_lowercase()].map(|file| Path::new(directory).join(file))
        })
        .find_map(|path| platform_secret(sources, path, reading))
}

/// A file that may exist; one that does but cannot be read is a problem, not an absence.
fn platform_secret(
    sources: &Sources,
    path: PathBuf,
    reading: &mut Reading,
) -> Option<(String, Origin)> {
    let text = match (sources.read)(&path) {
        Ok(text) => without_line_end(text),
        Err(error) => {
            let absent = matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
            );
            if !absent {
                let cause = error.to_string();
                let variable = None;
                reading.wrong(
                    Origin::SecretFile { path, variable },
                    None,
                    Wrong::Unreadable { cause },
                );
            }
            return None;
        }
    };
    let variable = None;
    (!text.is_empty()).then_some((text, Origin::SecretFile { path, variable }))
}

/// Editors and `echo` end a file with a line end that is not part of the secret.
fn without_line_end(mut text: String) -> String {
    text.truncate(text.trim_end_matches(['\n', '\r']).len());
    text
}

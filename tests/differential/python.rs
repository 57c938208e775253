//! A Python that has the pinned SQLAlchemy.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The interpreter of `POOLWATCH_PYTHON`, or of the virtual environment beneath `.ci/cache`, made if need be.
///
/// Tests that run at the same time, in this process or another, take turns by a file lock.
pub(crate) fn with_sqlalchemy() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let requirements = root.join("tests/differential/requirements.txt");
    let pinned = fs::read_to_string(&requirements).expect("the pinned version");
    let version = pinned
        .lines()
        .find_map(|line| line.strip_prefix("SQLAlchemy=="))
        .expect("a line SQLAlchemy==VERSION");
    if let Some(given) = std::env::var_os("POOLWATCH_PYTHON") {
        let given = PathBuf::from(given);
        assert!(
            has(&given, version),
            "{} has no SQLAlchemy {version}",
            given.display()
        );
        return given;
    }
    let cache = root.join(".ci/cache");
    let python = cache.join("venv/bin/python");
    if has(&python, version) {
        // Made before, perhaps by somebody else: then nothing need be written here.
        return python;
    }
    fs::create_dir_all(&cache).expect("a directory for the virtual environment");
    let lock = File::create(cache.join("venv.lock")).expect("a lock file");
    lock.lock().expect("the lock");
    if !has(&python, version) {
        if !python.exists() {
            run(Command::new("python3")
                .args(["-m", "venv"])
                .arg(cache.join("venv")));
        }
        let install = [
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ];
        run(Command::new(&python).args(install).arg(&requirements));
        assert!(
            has(&python, version),
            "pip did not install SQLAlchemy {version}"
        );
    }
    python
}

fn has(python: &Path, version: &str) -> bool {
    let check = format!("import sqlalchemy; assert sqlalchemy.__version__ == '{version}'");
    let output = Command::new(python)
        .args([OsStr::new("-c"), OsStr::new(&check)])
        .output();
    output.is_ok_and(|output| output.status.success())
}

fn run(command: &mut Command) {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(
        output.status.success(),
        "{command:?} (it needs python3 with venv and pip):\n{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
